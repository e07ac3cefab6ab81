// What a window meets in images, gathered into columns and back. Images lie with their
// channels last: (batch, height, width, channels). The columns of one position of the
// window are next to each other, (groups, rows, columns, channels of a group), so that
// threads of a warp read and write neighbouring channels.

struct Geometry {
    int height, width;
    int out_height, out_width;
    int rows, columns;  // of the window
    int stride_y, stride_x, pad_y, pad_x, dilate_y, dilate_x;
    unsigned channels;
    unsigned depth;        // numbers that one position meets
    Divisor packs;         // depth / COUNT
    Divisor group_depth;   // depth / groups
    Divisor group_channels;
    Divisor window_columns;
    Divisor positions, out_columns;
    Divisor channel_packs;  // channels / COUNT
    Divisor image_columns, image_rows;
    Divisor steps_y, steps_x;
};

// Columns of `positions` positions and, unless `squares` is null, their squares. Each
// thread takes COUNT channels.
template <int COUNT>
__device__ inline void unfold(const float* __restrict__ images, const Geometry& g,
                              unsigned packs, float* __restrict__ columns,
                              float* __restrict__ squares) {
    const unsigned thread = thread_number();
    if (thread >= packs) return;
    unsigned position = thread;
    unsigned element = g.packs.divide(position) * COUNT, group = element;
    const unsigned place = position * g.depth + element;
    element = g.group_depth.divide(group);
    const unsigned channel =
        group * g.group_channels.divisor + g.group_channels.divide(element);
    unsigned row = element;
    const unsigned column = g.window_columns.divide(row);
    unsigned image = position, out_row = g.positions.divide(image);
    const unsigned out_column = g.out_columns.divide(out_row);
    const int y = int(out_row) * g.stride_y - g.pad_y + int(row) * g.dilate_y;
    const int x = int(out_column) * g.stride_x - g.pad_x + int(column) * g.dilate_x;
    Numbers<COUNT> met = {};
    if (y >= 0 && y < g.height && x >= 0 && x < g.width)
        met = load<COUNT>(images + ((image * g.height + y) * g.width + x) * g.channels +
                          channel);
    store(columns + place, met);
    if (!squares) return;
#pragma unroll
    for (int j = 0; j < COUNT; ++j) met.x[j] *= met.x[j];
    store(squares + place, met);
}

extern "C" __global__ void unfold_1(const float* __restrict__ images,
                                    const Geometry geometry, unsigned packs,
                                    float* __restrict__ columns,
                                    float* __restrict__ squares) {
    unfold<1>(images, geometry, packs, columns, squares);
}

extern "C" __global__ void unfold_4(const float* __restrict__ images,
                                    const Geometry geometry, unsigned packs,
                                    float* __restrict__ columns,
                                    float* __restrict__ squares) {
    unfold<4>(images, geometry, packs, columns, squares);
}

// Each pixel sums what met it, so that nothing is added to by several threads: the
// columns and, unless `by_squares` is null, 2 x times the sum of those.
template <int COUNT>
__device__ inline void fold(const float* __restrict__ columns,
                            const float* __restrict__ by_squares,
                            const float* __restrict__ images, const Geometry& g,
                            unsigned packs, float* __restrict__ result) {
    const unsigned thread = thread_number();
    if (thread >= packs) return;
    unsigned pixel = thread;
    unsigned channel = g.channel_packs.divide(pixel) * COUNT;
    const unsigned place = pixel * g.channels + channel;
    unsigned image = pixel;
    const unsigned x = g.image_columns.divide(image), y = g.image_rows.divide(image);
    unsigned group = channel;
    channel = g.group_channels.divide(group);
    const unsigned within = group * g.group_depth.divisor + channel;
    Numbers<COUNT> sum = {}, slope = {};
    for (int row = 0; row < g.rows; ++row) {
        const int top = int(y) + g.pad_y - row * g.dilate_y;
        if (top < 0) break;  // and those that follow are less
        const unsigned out_row = g.steps_y.quotient(top);
        if (out_row * g.stride_y != top || out_row >= g.out_height) continue;
        for (int column = 0; column < g.columns; ++column) {
            const int left = int(x) + g.pad_x - column * g.dilate_x;
            if (left < 0) break;
            const unsigned out_column = g.steps_x.quotient(left);
            if (out_column * g.stride_x != left || out_column >= g.out_width) continue;
            const unsigned position =
                (image * g.out_height + out_row) * g.out_width + out_column;
            const unsigned element = row * g.columns + column;
            const unsigned source = position * g.depth + within +
                                    element * g.group_channels.divisor;
            const Numbers<COUNT> met = load<COUNT>(columns + source);
#pragma unroll
            for (int j = 0; j < COUNT; ++j) sum.x[j] += met.x[j];
            if (!by_squares) continue;
            const Numbers<COUNT> by_square = load<COUNT>(by_squares + source);
#pragma unroll
            for (int j = 0; j < COUNT; ++j) slope.x[j] += by_square.x[j];
        }
    }
    if (by_squares) {
        const Numbers<COUNT> values = load<COUNT>(images + place);
#pragma unroll
        for (int j = 0; j < COUNT; ++j) sum.x[j] += 2.0f * values.x[j] * slope.x[j];
    }
    store(result + place, sum);
}

extern "C" __global__ void fold_1(const float* __restrict__ columns,
                                  const float* __restrict__ by_squares,
                                  const float* __restrict__ images,
                                  const Geometry geometry, unsigned packs,
                                  float* __restrict__ result) {
    fold<1>(columns, by_squares, images, geometry, packs, result);
}

extern "C" __global__ void fold_4(const float* __restrict__ columns,
                                  const float* __restrict__ by_squares,
                                  const float* __restrict__ images,
                                  const Geometry geometry, unsigned packs,
                                  float* __restrict__ result) {
    fold<4>(columns, by_squares, images, geometry, packs, result);
}
