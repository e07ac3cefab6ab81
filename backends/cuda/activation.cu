// Rectifier of arrays that lie in memory in one order, which does not matter here.

extern "C" __global__ void relu_forward(const float* __restrict__ x, unsigned size,
                                        float* __restrict__ y) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    Four values = load_four(x, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j)
        values.x[j] = values.x[j] <= 0.0f ? 0.0f : values.x[j];  // NaN stays
    store_four(y, i, size, values);
}

extern "C" __global__ void relu_backward(const float* __restrict__ gy,
                                         const float* __restrict__ y, unsigned size,
                                         float* __restrict__ gx) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    const Four outputs = load_four(y, i, size);
    Four slopes = load_four(gy, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j)
        slopes.x[j] = outputs.x[j] > 0.0f ? slopes.x[j] : 0.0f;
    store_four(gx, i, size, slopes);
}
