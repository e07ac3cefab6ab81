// Batch normalisation of a matrix with one column a channel. Blocks take tiles: 32
// columns, of which each warp takes its share of so many rows (a band).

// How many numbers there are, their mean, and the sum of squared deviations from it.
struct Moments {
    double count, mean, squares;

    // Chan, Golub and LeVeque 1979.
    __device__ void add(const Moments& other) {
        const double all = count + other.count;
        if (all == 0.0) return;
        const double step = other.mean - mean, share = other.count / all;
        mean += step * share;
        squares += other.squares + step * step * count * share;
        count = all;
    }
};

struct Tile {
    unsigned lane, warp, band, column, begin, end;

    __device__ Tile(unsigned rows, unsigned columns, unsigned height) {
        lane = threadIdx.x % WARP;
        warp = threadIdx.x / WARP;
        const unsigned across = (columns + WARP - 1) / WARP;
        band = blockIdx.x / across;
        column = blockIdx.x % across * WARP + lane;
        begin = band * height;
        end = min(begin + height, rows);
    }
};

__device__ inline float inverse_std(float variance, float eps) {
    return 1.0f / sqrtf(variance + eps);
}

// Numbers are summed in single precision, by each thread about the first that it meets:
// that is as close to its mean as its numbers are to each other.
extern "C" __global__ void moments(const float* __restrict__ x, unsigned rows,
                                   unsigned columns, unsigned height,
                                   double* __restrict__ means,
                                   double* __restrict__ squares) {
    __shared__ Moments parts[WARPS][WARP];
    const Tile tile(rows, columns, height);
    Moments own = {0.0, 0.0, 0.0};
    const unsigned first = tile.begin + tile.warp;
    if (tile.column < columns && first < tile.end) {
        const float near = x[first * columns + tile.column];
        float sum = 0.0f, sum_of_squares = 0.0f;
        unsigned count = 0;
#pragma unroll 4
        for (unsigned row = first; row < tile.end; row += WARPS) {
            const float deviation = x[row * columns + tile.column] - near;
            sum += deviation;
            sum_of_squares += deviation * deviation;
            ++count;
        }
        const double mean = double(sum) / count;
        const double left = sum_of_squares - mean * sum;
        own = {double(count), near + mean, left < 0.0 ? 0.0 : left};  // NaN stays
    }
    parts[tile.warp][tile.lane] = own;
    __syncthreads();
    if (tile.warp != 0 || tile.column >= columns) return;
    for (unsigned k = 1; k < WARPS; ++k) own.add(parts[k][tile.lane]);
    means[tile.band * columns + tile.column] = own.mean;
    squares[tile.band * columns + tile.column] = own.squares;
}

// Moments of whole columns from those of bands.
extern "C" __global__ void statistics(const double* __restrict__ means,
                                      const double* __restrict__ squares,
                                      unsigned rows, unsigned columns, unsigned height,
                                      unsigned bands, float* __restrict__ mean,
                                      float* __restrict__ variance) {
    __shared__ Moments parts[WARPS][WARP];
    const Tile tile(rows, columns, rows);
    Moments own = {0.0, 0.0, 0.0};
    if (tile.column < columns) {
        for (unsigned band = tile.warp; band < bands; band += WARPS) {
            const unsigned i = band * columns + tile.column;
            const unsigned count = min(height, rows - band * height);
            own.add({double(count), means[i], squares[i]});
        }
    }
    parts[tile.warp][tile.lane] = own;
    __syncthreads();
    if (tile.warp != 0 || tile.column >= columns) return;
    for (unsigned k = 1; k < WARPS; ++k) own.add(parts[k][tile.lane]);
    mean[tile.column] = float(own.mean);
    variance[tile.column] = float(own.squares / rows);
}

extern "C" __global__ void normalize(
    const float* __restrict__ x, const float* __restrict__ gamma,
    const float* __restrict__ beta, const float* __restrict__ mean,
    const float* __restrict__ variance, float eps, unsigned rows, unsigned columns,
    unsigned height, float* __restrict__ y) {
    const Tile tile(rows, columns, height);
    if (tile.column >= columns) return;
    const float center = mean[tile.column], shift = beta[tile.column];
    const float scale = gamma[tile.column] * inverse_std(variance[tile.column], eps);
#pragma unroll 4
    for (unsigned row = tile.begin + tile.warp; row < tile.end; row += WARPS) {
        const unsigned i = row * columns + tile.column;
        // Not one product and one sum: with a large mean they would cancel.
        y[i] = (x[i] - center) * scale + shift;
    }
}

// Sums of gy, and of its products with the deviations of x, of bands. Where the
// statistics are given the gradient by x is done here too, or `gx` is null.
extern "C" __global__ void slope_sums(
    const float* __restrict__ gy, const float* __restrict__ x,
    const float* __restrict__ gamma, const float* __restrict__ mean,
    const float* __restrict__ variance, float eps, unsigned rows, unsigned columns,
    unsigned height, double* __restrict__ sums, double* __restrict__ products,
    float* __restrict__ gx) {
    __shared__ double parts[2][WARPS][WARP];
    const Tile tile(rows, columns, height);
    float sum = 0.0f, product = 0.0f;
    if (tile.column < columns) {
        const float center = mean[tile.column];
        const float scale =
            gamma[tile.column] * inverse_std(variance[tile.column], eps);
#pragma unroll 4
        for (unsigned row = tile.begin + tile.warp; row < tile.end; row += WARPS) {
            const unsigned i = row * columns + tile.column;
            const float slope = gy[i];
            sum += slope;
            product += slope * (x[i] - center);
            if (gx) gx[i] = slope * scale;
        }
    }
    parts[0][tile.warp][tile.lane] = sum;
    parts[1][tile.warp][tile.lane] = product;
    __syncthreads();
    if (tile.warp >= 2 || tile.column >= columns) return;
    double total = 0.0;
    for (unsigned k = 0; k < WARPS; ++k) total += parts[tile.warp][k][tile.lane];
    (tile.warp ? products : sums)[tile.band * columns + tile.column] = total;
}

// Gradients by gamma and beta from the sums of bands: a block has 32 columns of each.
extern "C" __global__ void by_channel(const double* __restrict__ sums,
                                      const double* __restrict__ products,
                                      const float* __restrict__ variance, float eps,
                                      unsigned columns, unsigned bands,
                                      float* __restrict__ ggamma,
                                      float* __restrict__ gbeta) {
    __shared__ double parts[WARPS][WARP];
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const unsigned across = (columns + WARP - 1) / WARP;
    const bool of_gamma = blockIdx.x >= across;
    const unsigned column = (blockIdx.x - of_gamma * across) * WARP + lane;
    const double* const source = of_gamma ? products : sums;
    double sum = 0.0;
    if (column < columns) {
#pragma unroll 4
        for (unsigned band = warp; band < bands; band += WARPS)
            sum += source[band * columns + column];
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || column >= columns) return;
    for (unsigned k = 1; k < WARPS; ++k) sum += parts[k][lane];
    if (of_gamma)
        ggamma[column] = float(sum * inverse_std(variance[column], eps));
    else
        gbeta[column] = float(sum);
}

extern "C" __global__ void by_inputs(
    const float* __restrict__ gy, const float* __restrict__ x,
    const float* __restrict__ gamma, const float* __restrict__ mean,
    const float* __restrict__ variance, const float* __restrict__ ggamma,
    const float* __restrict__ gbeta, float eps, unsigned rows, unsigned columns,
    unsigned height, float* __restrict__ gx) {
    const Tile tile(rows, columns, height);
    if (tile.column >= columns) return;
    const float center = mean[tile.column];
    const float inverse = inverse_std(variance[tile.column], eps);
    const float scale = gamma[tile.column] * inverse, share = scale / float(rows);
    const float by_mean = share * gbeta[tile.column];
    const float by_variance = share * inverse * ggamma[tile.column];
#pragma unroll 4
    for (unsigned row = tile.begin + tile.warp; row < tile.end; row += WARPS) {
        const unsigned i = row * columns + tile.column;
        gx[i] = gy[i] * scale - by_mean - (x[i] - center) * by_variance;
    }
}

// Running averages, in place.
extern "C" __global__ void average(float* __restrict__ avg_mean,
                                   float* __restrict__ avg_variance,
                                   const float* __restrict__ mean,
                                   const float* __restrict__ variance, unsigned channels,
                                   float decay, float share, float variance_share) {
    const unsigned i = thread_number();
    if (i >= channels) return;
    avg_mean[i] = decay * avg_mean[i] + share * mean[i];
    avg_variance[i] = decay * avg_variance[i] + variance_share * variance[i];
}
