// The squares of images, which the variances of weights meet, and the gradient by them.

extern "C" __global__ void square(const float* __restrict__ x, unsigned size,
                                  float* __restrict__ y) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    Four values = load_four(x, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j) values.x[j] *= values.x[j];
    store_four(y, i, size, values);
}

// To the gradient by the images, 2 x times that by their squares.
extern "C" __global__ void add_by_squares(const float* __restrict__ x,
                                          const float* __restrict__ by_squares,
                                          unsigned size, float* __restrict__ gx) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    const Four values = load_four(x, i, size);
    const Four slopes = load_four(by_squares, i, size);
    Four sums = load_four(gx, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j) sums.x[j] += 2.0f * values.x[j] * slopes.x[j];
    store_four(gx, i, size, sums);
}
