// Pooling of images with their channels last: a thread has one number of the result, so
// that nothing is added to by several threads.

struct Geometry {
    int height, width, channels;
    int out_height, out_width;
    int rows, columns;  // of the window
    int stride_y, stride_x, pad_y, pad_x, dilate_y, dilate_x;
    Divisor of_channels, of_width, of_height, of_out_width, of_out_height;
    Divisor steps_y, steps_x;
};

// Where element (row, column) of the window lies in an image; -1: in the padding.
__device__ inline int place(const Geometry& g, int out_y, int out_x, int row, int column) {
    const int y = out_y * g.stride_y - g.pad_y + row * g.dilate_y;
    const int x = out_x * g.stride_x - g.pad_x + column * g.dilate_x;
    return y < 0 || y >= g.height || x < 0 || x >= g.width ? -1 : y * g.width + x;
}

struct Output {
    unsigned image, y, x, channel;

    __device__ Output(const Geometry& g, unsigned i) : image(i) {
        channel = g.of_channels.divide(image);
        x = g.of_out_width.divide(image);
        y = g.of_out_height.divide(image);
    }
};

extern "C" __global__ void max_forward(const float* __restrict__ x, const Geometry g,
                                       unsigned size, float* __restrict__ y,
                                       int* __restrict__ places) {
    const unsigned i = thread_number();
    if (i >= size) return;
    const Output output(g, i);
    const float* const image =
        x + output.image * g.height * g.width * g.channels + output.channel;
    float highest = -infinity();
    int where = 0;
    for (int row = 0; row < g.rows; ++row)
        for (int column = 0; column < g.columns; ++column) {
            const int pixel = place(g, output.y, output.x, row, column);
            if (pixel < 0) continue;
            const float met = image[pixel * g.channels];
            if (met > highest || met != met) {  // a NaN is not hidden by what follows
                highest = met;
                where = row * g.columns + column;
            }
        }
    y[i] = highest;
    places[i] = where;
}

extern "C" __global__ void average_forward(const float* __restrict__ x,
                                           const Geometry g, unsigned size,
                                           float* __restrict__ y) {
    const unsigned i = thread_number();
    if (i >= size) return;
    const Output output(g, i);
    const float* const image =
        x + output.image * g.height * g.width * g.channels + output.channel;
    float sum = 0.0f;
    for (int row = 0; row < g.rows; ++row)
        for (int column = 0; column < g.columns; ++column) {
            const int pixel = place(g, output.y, output.x, row, column);
            if (pixel >= 0) sum += image[pixel * g.channels];
        }
    y[i] = sum / float(g.rows * g.columns);
}

// Each pixel sums the slopes of the windows that it was met by: by their element
// `places`, or, if that is null, by whichever.
__device__ inline float gathered(const float* __restrict__ gy,
                                 const int* __restrict__ places, const Geometry& g,
                                 unsigned i) {
    unsigned image = i;
    const unsigned channel = g.of_channels.divide(image);
    const unsigned x = g.of_width.divide(image), y = g.of_height.divide(image);
    float sum = 0.0f;
    for (int row = 0; row < g.rows; ++row) {
        const int top = int(y) + g.pad_y - row * g.dilate_y;
        if (top < 0) break;  // and those that follow are less
        const int out_y = g.steps_y.quotient(top);
        if (out_y * g.stride_y != top || out_y >= g.out_height) continue;
        for (int column = 0; column < g.columns; ++column) {
            const int left = int(x) + g.pad_x - column * g.dilate_x;
            if (left < 0) break;
            const int out_x = g.steps_x.quotient(left);
            if (out_x * g.stride_x != left || out_x >= g.out_width) continue;
            const unsigned window =
                ((image * g.out_height + out_y) * g.out_width + out_x) * g.channels +
                channel;
            if (!places || places[window] == row * g.columns + column)
                sum += gy[window];
        }
    }
    return sum;
}

extern "C" __global__ void max_backward(const float* __restrict__ gy,
                                        const int* __restrict__ places,
                                        const Geometry g, unsigned size,
                                        float* __restrict__ gx) {
    const unsigned i = thread_number();
    if (i < size) gx[i] = gathered(gy, places, g, i);
}

extern "C" __global__ void average_backward(const float* __restrict__ gy,
                                            const Geometry g, unsigned size,
                                            float* __restrict__ gx) {
    const unsigned i = thread_number();
    if (i < size) gx[i] = gathered(gy, nullptr, g, i) / float(g.rows * g.columns);
}
