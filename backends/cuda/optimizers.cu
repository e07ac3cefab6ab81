// Updates of all parameters of a network by one launch.

constexpr unsigned TENSORS = 64;   // all that fit into the parameters of a kernel
constexpr unsigned STEPS = 4;      // of a thread, each of four numbers

struct Tensors {
    float* parameter[TENSORS];
    const float* gradient[TENSORS];
    float* m[TENSORS];
    float* v[TENSORS];
    unsigned size[TENSORS];
    unsigned first_block[TENSORS];  // those that there are not: beyond all blocks
};

// Tensor t begins with block first_block[t]: the last one that has begun.
__device__ inline unsigned tensor_of(const Tensors& tensors, unsigned block) {
    unsigned t = 0;
#pragma unroll
    for (unsigned half = TENSORS / 2; half; half /= 2)
        if (tensors.first_block[t + half] <= block) t += half;
    return t;
}

extern "C" __global__ void adam(const Tensors tensors, const Number step, float decay1,
                                float rest1, float decay2, float rest2, float eps,
                                const int* finite) {
    if (finite && *finite == 0) return;
    const unsigned t = tensor_of(tensors, blockIdx.x), size = tensors.size[t];
    float* const parameter = tensors.parameter[t];
    const float* const gradient = tensors.gradient[t];
    float* const first = tensors.m[t];
    float* const second = tensors.v[t];
    const float rate = step.get();
    const unsigned block = blockIdx.x - tensors.first_block[t];
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

extern "C" __global__ void watch_loss(const float* loss, int* finite, int* updates) {
    if (!(fabsf(*loss) < infinity())) *finite = 0;
    *updates += *finite;
}
