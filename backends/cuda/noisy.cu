// What stands before and after the products of noisy layers, linear and convolutional.
//
// A noisy layer has two products, of the inputs with the means and of their squares with
// the variances of the weights. The operands of both lie one behind the other, so that
// one call does both. The kernels here write those operands, and finish what comes out;
// each does all of that at once, some blocks of threads this and some that, because small
// layers take no longer than the launches of their kernels.

// Weights are parameters of shape (outputs, channels, elements); products take them as
// (outputs, elements, channels), channels next to each other as those of images are.
struct Layout {
    Divisor row;       // channels * elements
    Divisor elements;  // of the window; 1 for a linear layer
    unsigned channels;

    __device__ unsigned place(unsigned i) const {
        unsigned output = i;
        const unsigned within = row.divide(output);
        unsigned channel = within;
        const unsigned element = elements.divide(channel);
        return output * row.divisor + element * channels + channel;
    }
};

__device__ inline void write_weights(float* operand, unsigned i, unsigned size,
                                     const Layout& layout, const Four& weights) {
    if (layout.elements.divisor == 1) {
        store_four(operand, i, size, weights);
        return;
    }
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
        if (i + j < size) operand[layout.place(i + j)] = weights.x[j];
}

// Four weights as operands: means and, unless `log_sigma2` is null, variances.
__device__ inline void posterior(const float* theta, const float* log_sigma2,
                                 unsigned i, unsigned size, const Layout& layout,
                                 float threshold, float* operands) {
    Four means = load_four(theta, i, size);
    if (log_sigma2) {
        const Four log_variances = load_four(log_sigma2, i, size);
        Four variances;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const bool none = masked(means.x[j], log_variances.x[j], threshold);
            variances.x[j] = none ? 0.0f : expf(log_variances.x[j]);
            means.x[j] = none ? 0.0f : means.x[j];
        }
        write_weights(operands + size, i, size, layout, variances);
    }
    write_weights(operands, i, size, layout, means);
}

// Four inputs and their squares.
__device__ inline void powers(const float* x, unsigned i, unsigned size,
                              float* operands) {
    Four values = load_four(x, i, size);
    store_four(operands, i, size, values);
#pragma unroll
    for (int j = 0; j < 4; ++j) values.x[j] *= values.x[j];
    store_four(operands + size, i, size, values);
}

// A tile of 32 columns: each warp takes its share of so many rows. Gradients by means
// and by variances, unless `residual` is null; sums of columns in any case.
__device__ inline void slopes(const float* __restrict__ gy,
                              const float* __restrict__ residual, unsigned rows,
                              unsigned columns, unsigned rows_of_tile, unsigned tile,
                              float* __restrict__ operands, float* __restrict__ sums,
                              float (*parts)[WARP]) {
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const unsigned across = (columns + WARP - 1) / WARP;
    const unsigned band = tile / across, column = tile % across * WARP + lane;
    const unsigned begin = band * rows_of_tile, end = min(begin + rows_of_tile, rows);
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 4
        for (unsigned row = begin + warp; row < end; row += WARPS) {
            const unsigned i = row * columns + column;
            const float slope = gy[i];
            sum += slope;
            if (residual) {
                operands[i] = slope;
                operands[rows * columns + i] = slope * residual[i];
            }
        }
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || column >= columns) return;
    for (unsigned k = 1; k < WARPS; ++k) sum += parts[k][lane];
    sums[band * columns + column] = sum;
}

// Operands of products: tiles of output gradients, then weights, then inputs; there may
// be none of each.
extern "C" __global__ void operands(
    const float* __restrict__ gy, const float* __restrict__ residual, unsigned rows,
    unsigned columns, unsigned rows_of_tile, unsigned tiles,
    float* __restrict__ slope_operands, float* __restrict__ sums,
    const float* __restrict__ theta, const float* __restrict__ log_sigma2,
    unsigned weights, const Layout layout, float threshold,
    float* __restrict__ weight_operands, const float* __restrict__ x, unsigned inputs,
    float* __restrict__ input_operands) {
    __shared__ float parts[WARPS][WARP];
    if (blockIdx.x < tiles) {
        slopes(gy, residual, rows, columns, rows_of_tile, blockIdx.x, slope_operands,
               sums, parts);
        return;
    }
    unsigned i = 4 * ((blockIdx.x - tiles) * blockDim.x + threadIdx.x);
    const unsigned weight_threads = (weights + 3) / 4;
    if (i < 4 * weight_threads) {
        posterior(theta, log_sigma2, i, weights, layout, threshold, weight_operands);
        return;
    }
    i -= 4 * weight_threads;
    if (i < inputs) powers(x, i, inputs, input_operands);
}

// mean + sqrt(variance + EPS) noise + b; the noise becomes noise / (2 std), all that the
// backward pass needs. With no noise there is one product only, and `y` may be its place.
extern "C" __global__ void outputs(const float* products, float* noise,
                                   const float* __restrict__ b, const Divisor columns,
                                   unsigned size, float* y) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    Four values = load_four(products, i, size);
    if (noise) {
        const Four variances = load_four(products + size, i, size);
        Four draws = load_four(noise, i, size);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float std = sqrtf(variances.x[j] + EPS);
            values.x[j] += std * draws.x[j];
            draws.x[j] = 0.5f * draws.x[j] / std;
        }
        store_four(noise, i, size, draws);
    }
    if (b) {
        unsigned row = i, column = columns.divide(row);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            values.x[j] += b[column];
            column = column + 1 == columns.divisor ? 0 : column + 1;
        }
    }
    store_four(y, i, size, values);
}

// Four numbers of a product that was divided into parts, which are summed in order.
__device__ inline Four product_of(const float* products, unsigned splits,
                                  unsigned weights, unsigned i, const Layout& layout) {
    Four sum = {0.0f, 0.0f, 0.0f, 0.0f};
    unsigned places[4];
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) places[j] = layout.place(min(i + j, weights - 1));
#pragma unroll 2
    for (unsigned k = 0; k < splits; ++k) {
        const float* const part = products + (unsigned long long)k * weights;
        Four four;
        if (layout.elements.divisor == 1) {
            four = load_four(part, i, weights);
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) four.x[j] = part[places[j]];
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) sum.x[j] += four.x[j];
    }
    return sum;
}

// Gradients from products: by the bias, then by weights, then by inputs.
extern "C" __global__ void gradients(
    const float* __restrict__ sums, unsigned bands, unsigned columns,
    float* __restrict__ gb, const float* __restrict__ products, unsigned splits,
    const float* __restrict__ theta, const float* __restrict__ log_sigma2,
    unsigned weights, const Layout layout, float threshold, float* __restrict__ gtheta,
    float* __restrict__ glog_sigma2, const float* __restrict__ input_products,
    const float* __restrict__ x, unsigned inputs, float* __restrict__ gx) {
    __shared__ double parts[WARPS][WARP];
    const unsigned across = (columns + WARP - 1) / WARP;
    if (blockIdx.x < across) {
        const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        const unsigned column = blockIdx.x * WARP + lane;
        double sum = 0.0;
        if (column < columns) {
#pragma unroll 4
            for (unsigned band = warp; band < bands; band += WARPS)
                sum += sums[band * columns + column];
        }
        parts[warp][lane] = sum;
        __syncthreads();
        if (warp != 0 || column >= columns) return;
        for (unsigned k = 1; k < WARPS; ++k) sum += parts[k][lane];
        gb[column] = float(sum);
        return;
    }
    unsigned i = 4 * ((blockIdx.x - across) * blockDim.x + threadIdx.x);
    const unsigned weight_threads = (weights + 3) / 4;
    if (i < 4 * weight_threads) {
        Four by_theta = product_of(products, splits, weights, i, layout);
        if (log_sigma2) {
            const float* const second = products + (unsigned long long)splits * weights;
            Four by_log_sigma2 = product_of(second, splits, weights, i, layout);
            const Four means = load_four(theta, i, weights);
            const Four log_variances = load_four(log_sigma2, i, weights);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool none = masked(means.x[j], log_variances.x[j], threshold);
                by_theta.x[j] = none ? 0.0f : by_theta.x[j];
                by_log_sigma2.x[j] =
                    none ? 0.0f : by_log_sigma2.x[j] * expf(log_variances.x[j]);
            }
            store_four(glog_sigma2, i, weights, by_log_sigma2);
        }
        store_four(gtheta, i, weights, by_theta);
        return;
    }
    i -= 4 * weight_threads;
    if (i >= inputs) return;
    Four by_x = load_four(input_products, i, inputs);
    const Four values = load_four(x, i, inputs);
    const Four by_squares = load_four(input_products + inputs, i, inputs);
#pragma unroll
    for (int j = 0; j < 4; ++j) by_x.x[j] += 2.0f * values.x[j] * by_squares.x[j];
    store_four(gx, i, inputs, by_x);
}
