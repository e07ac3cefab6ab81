// KL divergence of weights with its gradients and statistics, in one pass; and what the
// layers of a network come to together.

constexpr unsigned ROUND = 4;  // numbers that a thread takes at a time

struct Sums {
    float divergence, rate, kept;
};

struct Term {
    float divergence, slope;
};

// Sigmoid of x and of -x, from e^-|x|: neither overflows, nor do small ones cancel.
struct Sigmoid {
    float exponential, positive, negative;

    __device__ explicit Sigmoid(float x) : exponential(expf(-fabsf(x))) {
        const float larger = 1.0f / (1.0f + exponential), smaller = exponential * larger;
        positive = x >= 0.0f ? larger : smaller;
        negative = x >= 0.0f ? smaller : larger;
    }
};

// log(1 + e^-x)
__device__ inline float softplus_of_minus(float x, const Sigmoid& sigmoid) {
    return fmaxf(-x, 0.0f) + log1pf(sigmoid.exponential);
}

// Equation 14 of Molchanov et al. 2017.
struct Molchanov {
    __device__ static Term term(float log_alpha, const Sigmoid& rate) {
        const Sigmoid tail(K2 + K3 * log_alpha);
        const float slope =
            -0.5f * rate.negative - K1 * K3 * tail.positive * tail.negative;
        return {0.5f * softplus_of_minus(log_alpha, rate) + K1 * tail.negative, slope};
    }
};

// The divergence itself, as vdcore/variational/kl.py evaluates it.
struct Exact {
    __device__ static Term term(float log_alpha, const Sigmoid& rate) {
        constexpr int COUNT = sizeof(EXACT_COEFFICIENTS) / sizeof(float);
        // 1 / (1 + EXACT_SCALE alpha), and what is left of 1
        const float share = rate.negative + EXACT_SCALE * rate.positive;
        const float s = rate.negative / share;
        const float rest = EXACT_SCALE * rate.positive / share;
        const float u = s + s - 1.0f;
        float p = EXACT_COEFFICIENTS[COUNT - 1], dp = 0.0f;
#pragma unroll
        for (int k = COUNT - 2; k >= 0; --k) {
            dp = dp * u + p;
            p = p * u + EXACT_COEFFICIENTS[k];
        }
        const float slope =
            -0.5f * rate.negative - 2.0f * s * s * rest * (p + dp * s);
        return {0.5f * softplus_of_minus(log_alpha, rate) + s * s * p, slope};
    }
};

// The sums of each block go into a column of three rows.
template <typename Divergence>
__device__ inline void penalty(const float* theta, const float* log_sigma2,
                               unsigned size, float threshold, float mask_above,
                               float limit, float scale, float* by_theta,
                               float* by_log_sigma2, float* sums, float* parts) {
    Sums sum = {0.0f, 0.0f, 0.0f};
    const unsigned step = ROUND * gridDim.x * blockDim.x;
    for (unsigned i = ROUND * thread_number(); i < size; i += step) {
        const Four weights = load_four(theta, i, size);
        const Four log_variances = load_four(log_sigma2, i, size);
        Four weight_slopes, log_variance_slopes;
#pragma unroll
        for (unsigned j = 0; j < ROUND; ++j) {
            const float w = weights.x[j], raw = log_alpha(w, log_variances.x[j]);
            // Selects, and comparisons that are false of a NaN: none is hidden.
            float la = raw < -limit ? -limit : raw;
            la = la > limit ? limit : la;
            const Sigmoid rate(la);
            const Term term = Divergence::term(la, rate);
            const bool counted = !(raw > mask_above);
            const bool sloped = counted && !(fabsf(raw) >= limit);
            const float g = sloped ? term.slope * scale : 0.0f;
            log_variance_slopes.x[j] = g;
            weight_slopes.x[j] = g * -2.0f * w / (w * w + EPS);
            if (i + j < size) {
                sum.divergence += counted ? term.divergence : 0.0f;
                sum.rate += rate.positive;
                sum.kept += raw > threshold ? 0.0f : 1.0f;
            }
        }
        store_four(by_theta, i, size, weight_slopes);
        store_four(by_log_sigma2, i, size, log_variance_slopes);
    }
    sum.divergence = block_sum(sum.divergence, parts);
    sum.rate = block_sum(sum.rate, parts);
    sum.kept = block_sum(sum.kept, parts);
    if (threadIdx.x != 0) return;
    sums[blockIdx.x] = sum.divergence;
    sums[gridDim.x + blockIdx.x] = sum.rate;
    sums[2 * gridDim.x + blockIdx.x] = sum.kept;
}

extern "C" __global__ void molchanov_penalty(
    const float* __restrict__ theta, const float* __restrict__ log_sigma2,
    unsigned size, float threshold, float mask_above, float limit, const Number scale,
    float* __restrict__ by_theta, float* __restrict__ by_log_sigma2,
    float* __restrict__ sums) {
    __shared__ float parts[WARP];
    penalty<Molchanov>(theta, log_sigma2, size, threshold, mask_above, limit,
                       scale.get(), by_theta, by_log_sigma2, sums, parts);
}

extern "C" __global__ void exact_penalty(
    const float* __restrict__ theta, const float* __restrict__ log_sigma2,
    unsigned size, float threshold, float mask_above, float limit, const Number scale,
    float* __restrict__ by_theta, float* __restrict__ by_log_sigma2,
    float* __restrict__ sums) {
    __shared__ float parts[WARP];
    penalty<Exact>(theta, log_sigma2, size, threshold, mask_above, limit, scale.get(),
                   by_theta, by_log_sigma2, sums, parts);
}

// A block for each row of sums: in double precision, always in the same order.
extern "C" __global__ void total(const float* __restrict__ sums, unsigned count,
                                 float* __restrict__ totals) {
    __shared__ double parts[WARP];
    const unsigned row = blockIdx.x;
    double sum = 0.0;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
        sum += sums[row * count + i];
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) totals[row] = float(sum);
}

constexpr unsigned LAYERS = 64;  // of one launch

// Where the sums of each layer are, and by what they count.
struct Layers {
    const float* value[LAYERS];
    const float* rate_sum[LAYERS];
    const float* kept[LAYERS];
    Number factor[LAYERS];
    float scale[LAYERS];
};

// One warp: value, weighted value, mean rate, sparsity, compression.
// The first `counted` of the layers have a share in the last three.
extern "C" __global__ void network(const Layers layers, unsigned count, unsigned counted,
                                   float size, float* __restrict__ totals) {
    float value = 0.0f, weighted = 0.0f, rate_sum = 0.0f, kept = 0.0f;
    for (unsigned k = threadIdx.x; k < count; k += WARP) {
        const float divergence = *layers.value[k];
        value += layers.scale[k] * divergence;
        weighted += layers.factor[k].get() * divergence;
        if (k < counted) {
            rate_sum += *layers.rate_sum[k];
            kept += *layers.kept[k];
        }
    }
    value = warp_sum(value);
    weighted = warp_sum(weighted);
    rate_sum = warp_sum(rate_sum);
    kept = warp_sum(kept);
    if (threadIdx.x != 0) return;
    totals[0] = value;
    totals[1] = weighted;
    totals[2] = rate_sum / size;
    totals[3] = 1.0f - kept / size;
    totals[4] = kept > 0.0f ? size / kept : infinity();
}
