// Softmax cross-entropy with its gradient, and accuracy; a warp takes a row at a time.

// The loss of one row, in all lanes; its gradient times `share` into `gradient`.
template <typename Label>
__device__ inline float row_loss(const float* logits, Label label, unsigned classes,
                                 float share, float* gradient) {
    const unsigned lane = threadIdx.x % WARP;
    float top = -infinity();
    for (unsigned k = lane; k < classes; k += WARP) top = fmaxf(top, logits[k]);
#pragma unroll
    for (int lanes = WARP / 2; lanes; lanes /= 2)
        top = fmaxf(top, __shfl_xor_sync(EVERY_LANE, top, lanes));
    float total = 0.0f;
    for (unsigned k = lane; k < classes; k += WARP) total += expf(logits[k] - top);
    total = warp_sum(total);
    const float scale = share / total;
    for (unsigned k = lane; k < classes; k += WARP) {
        const float likelihood = expf(logits[k] - top) * scale;
        gradient[k] = Label(k) == label ? likelihood - share : likelihood;
    }
    if (label < 0 || label >= Label(classes)) return __int_as_float(0x7fffffff);  // NaN
    return logf(total) - (logits[label] - top);
}

template <typename Label>
__device__ inline void cross_entropy(const float* logits, const Label* labels,
                                     unsigned batch, unsigned classes, float* gradient,
                                     double* sums, float* loss, double* parts) {
    const float share = 1.0f / float(batch);
    const unsigned warps = blockDim.x / WARP;
    double sum = 0.0;
    for (unsigned row = blockIdx.x * warps + threadIdx.x / WARP; row < batch;
         row += gridDim.x * warps) {
        const unsigned long long begin = (unsigned long long)row * classes;
        sum += row_loss(logits + begin, labels[row], classes, share, gradient + begin);
    }
    sum = block_sum(threadIdx.x % WARP == 0 ? sum : 0.0, parts);
    if (threadIdx.x != 0) return;
    if (gridDim.x == 1)
        *loss = float(sum / batch);
    else
        sums[blockIdx.x] = sum;
}

// With one block the loss is done; sums of several are for `mean_loss`.
extern "C" __global__ void cross_entropy_int32(
    const float* __restrict__ logits, const int* __restrict__ labels, unsigned batch,
    unsigned classes, float* __restrict__ gradient, double* sums, float* loss) {
    __shared__ double parts[WARP];
    cross_entropy(logits, labels, batch, classes, gradient, sums, loss, parts);
}

extern "C" __global__ void cross_entropy_int64(
    const float* __restrict__ logits, const long long* __restrict__ labels,
    unsigned batch, unsigned classes, float* __restrict__ gradient, double* sums,
    float* loss) {
    __shared__ double parts[WARP];
    cross_entropy(logits, labels, batch, classes, gradient, sums, loss, parts);
}

extern "C" __global__ void mean_loss(const double* sums, unsigned count, unsigned batch,
                                     float* loss) {
    __shared__ double parts[WARP];
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) *loss = float(sum / batch);
}

// Place of the largest number of a row, the first of equals, in all lanes; a NaN is
// larger than all numbers.
__device__ inline unsigned largest(const float* scores, unsigned classes) {
    const unsigned lane = threadIdx.x % WARP;
    unsigned place = lane < classes ? lane : 0;
    float top = scores[place];
    for (unsigned k = lane + WARP; k < classes; k += WARP) {
        if (isnan(top)) break;
        const float score = scores[k];
        if (!(score <= top)) top = score, place = k;
    }
#pragma unroll
    for (int lanes = WARP / 2; lanes; lanes /= 2) {
        const float other = __shfl_xor_sync(EVERY_LANE, top, lanes);
        const unsigned there = __shfl_xor_sync(EVERY_LANE, place, lanes);
        const bool equal = other == top || (isnan(other) && isnan(top));
        const bool higher = other > top || (isnan(other) && !isnan(top));
        if (higher || (equal && there < place)) top = other, place = there;
    }
    return place;
}

template <typename Label>
__device__ inline void accuracy(const float* scores, const Label* labels,
                                unsigned batch, unsigned classes, float* share,
                                unsigned* parts) {
    unsigned hits = 0;
    for (unsigned row = threadIdx.x / WARP; row < batch; row += blockDim.x / WARP) {
        const unsigned long long begin = (unsigned long long)row * classes;
        hits += Label(largest(scores + begin, classes)) == labels[row];
    }
    hits = block_sum(threadIdx.x % WARP == 0 ? hits : 0u, parts);
    if (threadIdx.x == 0) *share = float(hits) / float(batch);
}

extern "C" __global__ void accuracy_int32(const float* __restrict__ scores,
                                          const int* __restrict__ labels,
                                          unsigned batch, unsigned classes,
                                          float* share) {
    __shared__ unsigned parts[WARP];
    accuracy(scores, labels, batch, classes, share, parts);
}

extern "C" __global__ void accuracy_int64(const float* __restrict__ scores,
                                          const long long* __restrict__ labels,
                                          unsigned batch, unsigned classes,
                                          float* share) {
    __shared__ unsigned parts[WARP];
    accuracy(scores, labels, batch, classes, share, parts);
}
