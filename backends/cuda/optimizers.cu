// Sums and updates of all parameters of a network by one launch.

constexpr unsigned TENSORS = 64;   // all that fit into the parameters of a kernel
constexpr unsigned STEPS = 4;      // of a thread, each of four numbers

// Tensor t begins with block first_block[t]; those that there are not, beyond all.
struct Blocks {
    unsigned size[TENSORS];
    unsigned first_block[TENSORS];

    // The last tensor that has begun.
    __device__ unsigned tensor_of(unsigned block) const {
        unsigned t = 0;
#pragma unroll
        for (unsigned half = TENSORS / 2; half; half /= 2)
            if (first_block[t + half] <= block) t += half;
        return t;
    }
};

struct Updates {
    float* parameter[TENSORS];
    const float* gradient[TENSORS];
    float* m[TENSORS];
    float* v[TENSORS];
    Blocks blocks;
};

struct Sums {
    const float* first[TENSORS];
    const float* second[TENSORS];
    float* total[TENSORS];
    Blocks blocks;
};

extern "C" __global__ void adam(const Updates tensors, const Number step, float decay1,
                                float rest1, float decay2, float rest2, float eps,
                                const int* finite) {
    if (finite && *finite == 0) return;
    const Blocks& blocks = tensors.blocks;
    const unsigned t = blocks.tensor_of(blockIdx.x), size = blocks.size[t];
    float* const parameter = tensors.parameter[t];
    const float* const gradient = tensors.gradient[t];
    float* const first = tensors.m[t];
    float* const second = tensors.v[t];
    const float rate = step.get();
    const unsigned block = blockIdx.x - blocks.first_block[t];
#pragma unroll
    for (unsigned k = 0; k < STEPS; ++k) {
        const unsigned i = 4 * ((block * STEPS + k) * blockDim.x + threadIdx.x);
        if (i >= size) return;
        const Four g = load_four(gradient, i, size);
        Four p = load_four(parameter, i, size);
        Four m = load_four(first, i, size), v = load_four(second, i, size);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            m.x[j] = decay1 * m.x[j] + rest1 * g.x[j];
            v.x[j] = decay2 * v.x[j] + rest2 * g.x[j] * g.x[j];
            p.x[j] -= rate * m.x[j] / (sqrtf(v.x[j]) + eps);
        }
        store_four(first, i, size, m);
        store_four(second, i, size, v);
        store_four(parameter, i, size, p);
    }
}

extern "C" __global__ void add(const Sums tensors) {
    const Blocks& blocks = tensors.blocks;
    const unsigned t = blocks.tensor_of(blockIdx.x), size = blocks.size[t];
    const unsigned block = blockIdx.x - blocks.first_block[t];
#pragma unroll
    for (unsigned k = 0; k < STEPS; ++k) {
        const unsigned i = 4 * ((block * STEPS + k) * blockDim.x + threadIdx.x);
        if (i >= size) return;
        Four sum = load_four(tensors.first[t], i, size);
        const Four second = load_four(tensors.second[t], i, size);
#pragma unroll
        for (int j = 0; j < 4; ++j) sum.x[j] += second.x[j];
        store_four(tensors.total[t], i, size, sum);
    }
}

extern "C" __global__ void watch_loss(const float* loss, int* finite, int* updates) {
    if (!(fabsf(*loss) < infinity())) *finite = 0;
    *updates += *finite;
}
