// What kernels have in common: this text stands before that of each file of kernels, and
// before it the constants of the mathematics, such as EPS (see module.py).
//
// Arrays have fewer than 2^31 elements, so that indices are unsigned and a thread's last
// step past the end does not wrap.

constexpr unsigned WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;
constexpr unsigned WARPS = THREADS / WARP;  // of a block

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

__device__ inline unsigned thread_number() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

// A number of the host, or where it lies on the device: a recorded step finds another
// one there each time that it is repeated.
struct Number {
    const float* where;
    float value;

    __device__ float get() const { return where ? *where : value; }
};

// Division by a number that the host knows: a product and a shift (Granlund and
// Montgomery 1994), right for what is below 2^31.
struct Divisor {
    unsigned divisor, multiplier, shift;

    __device__ unsigned quotient(unsigned n) const {
        return (n + __umulhi(n, multiplier)) >> shift;
    }

    // The remainder; the quotient takes the place of n.
    __device__ unsigned divide(unsigned& n) const {
        const unsigned whole = quotient(n), rest = n - whole * divisor;
        n = whole;
        return rest;
    }
};

// ----------------------------------------------------------- several numbers at a time

template <int COUNT>
struct Numbers {
    float x[COUNT];
};
typedef Numbers<4> Four;

__device__ inline bool on_16_bytes(const float* place) {
    return reinterpret_cast<unsigned long long>(place) % 16 == 0;
}

// COUNT is 1, or 4 and the place on 16 bytes.
template <int COUNT>
__device__ Numbers<COUNT> load(const float* place);

template <>
__device__ inline Numbers<1> load<1>(const float* place) {
    return {{*place}};
}

template <>
__device__ inline Four load<4>(const float* place) {
    const float4 four = *reinterpret_cast<const float4*>(place);
    return {{four.x, four.y, four.z, four.w}};
}

__device__ inline void store(float* place, const Numbers<1>& number) {
    *place = number.x[0];
}

__device__ inline void store(float* place, const Four& four) {
    *reinterpret_cast<float4*>(place) =
        make_float4(four.x[0], four.x[1], four.x[2], four.x[3]);
}

// Elements i to i + 3 of an array of n that may begin anywhere; 0 past its end.
__device__ inline Four load_four(const float* array, unsigned i, unsigned n) {
    if (i + 4 <= n && on_16_bytes(array + i)) return load<4>(array + i);
    Four four;
#pragma unroll
    for (int j = 0; j < 4; ++j) four.x[j] = i + j < n ? array[i + j] : 0.0f;
    return four;
}

__device__ inline void store_four(float* array, unsigned i, unsigned n,
                                  const Four& four) {
    if (i + 4 <= n && on_16_bytes(array + i)) {
        store(array + i, four);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (i + j < n) array[i + j] = four.x[j];
}

// ------------------------------------------------------------------------------- sums

template <typename T>
__device__ inline T warp_sum(T x) {
#pragma unroll
    for (int lanes = WARP / 2; lanes; lanes /= 2) x += __shfl_xor_sync(EVERY_LANE, x, lanes);
    return x;
}

// Sum over a block, in its first warp; `parts` is shared memory for one number a warp.
template <typename T>
__device__ inline T block_sum(T x, T* parts) {
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = warp_sum(x);
    __syncthreads();  // for those who still read the parts of the sum before
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    if (warp == 0) x = warp_sum(lane < blockDim.x / WARP ? parts[lane] : T(0));
    return x;
}

// ---------------------------------------------------------------------------- weights

// Everything that compares with a threshold takes log alpha from here: masks, the
// penalty and its statistics agree on each weight.
__device__ inline float log_alpha(float theta, float log_sigma2) {
    return log_sigma2 - logf(theta * theta + EPS);
}

// `threshold` is infinite without masks, which spares the logarithm.
__device__ inline bool masked(float theta, float log_sigma2, float threshold) {
    return threshold < infinity() && log_alpha(theta, log_sigma2) > threshold;
}
