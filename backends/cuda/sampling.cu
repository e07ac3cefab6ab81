// Weights drawn from their posterior.

extern "C" __global__ void sample(const float* __restrict__ theta,
                                  const float* __restrict__ log_sigma2,
                                  const float* __restrict__ noise, float threshold,
                                  unsigned size, float* __restrict__ W) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    Four weights = load_four(theta, i, size);
    const Four log_variances = load_four(log_sigma2, i, size);
    const Four draws = load_four(noise, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const bool none = masked(weights.x[j], log_variances.x[j], threshold);
        weights.x[j] += expf(0.5f * log_variances.x[j]) * draws.x[j];
        weights.x[j] = none ? 0.0f : weights.x[j];
    }
    store_four(W, i, size, weights);
}

// `by_theta` is null where it is the gradient `gW` itself, without masks.
extern "C" __global__ void sample_backward(
    const float* __restrict__ gW, const float* __restrict__ theta,
    const float* __restrict__ log_sigma2, const float* __restrict__ noise,
    float threshold, unsigned size, float* __restrict__ by_theta,
    float* __restrict__ by_log_sigma2) {
    const unsigned i = 4 * thread_number();
    if (i >= size) return;
    Four slopes = load_four(gW, i, size);
    const Four weights = load_four(theta, i, size);
    const Four log_variances = load_four(log_sigma2, i, size);
    Four draws = load_four(noise, i, size);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const bool none = masked(weights.x[j], log_variances.x[j], threshold);
        slopes.x[j] = none ? 0.0f : slopes.x[j];
        draws.x[j] *= slopes.x[j] * expf(0.5f * log_variances.x[j]) * 0.5f;
        draws.x[j] = none ? 0.0f : draws.x[j];
    }
    if (by_theta) store_four(by_theta, i, size, slopes);
    store_four(by_log_sigma2, i, size, draws);
}
