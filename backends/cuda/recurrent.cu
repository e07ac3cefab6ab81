// Steps of recurrent networks: what stands between two products with lateral weights.
//
// A thread has one unit of one example, so that small batches too keep a GPU busy; there
// are `size` of these. It reads all of its numbers before it writes any: gates may lie
// where the product was, and a gradient that is carried from step to step in its place.

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Unit {
    unsigned units, example, number;

    __device__ Unit(unsigned i, const Divisor& units) : units(units.divisor), example(i) {
        number = units.divide(example);
    }

    // In an array that has so many blocks of units for each example.
    __device__ unsigned place(unsigned blocks, unsigned block) const {
        return (example * blocks + block) * units + number;
    }
};

// Gates i, f, g and o. Several steps only where the products of all are known;
// `products` and `hs` may be null.
extern "C" __global__ void lstm_forward(const Divisor units, unsigned size,
                                        unsigned steps, const float* __restrict__ z,
                                        const float* products,
                                        const float* __restrict__ c,
                                        float* __restrict__ hs, float* __restrict__ cs,
                                        float* gates) {
    const unsigned i = thread_number();
    if (i >= size) return;
    const Unit unit(i, units);
    float cell = c[i];
    for (unsigned t = 0; t < steps; ++t) {
        float a[4];
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
            const unsigned place = 4 * t * size + unit.place(4, k);
            a[k] = z[place] + (products ? products[place] : 0.0f);
            a[k] = k == 2 ? tanhf(a[k]) : sigmoid(a[k]);
        }
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) gates[4 * t * size + unit.place(4, k)] = a[k];
        cell = a[1] * cell + a[0] * a[2];
        cs[t * size + i] = cell;
        if (hs) hs[t * size + i] = a[3] * tanhf(cell);
    }
}

// `by_h` and `by_c` are carried from the step after, or null; `past` is carried on.
extern "C" __global__ void lstm_backward(
    const Divisor units, unsigned size, const float* __restrict__ gh,
    const float* __restrict__ by_h, const float* by_c, const float* __restrict__ c,
    const float* __restrict__ new_c, const float* __restrict__ gates,
    float* __restrict__ gz, float* past) {
    const unsigned n = thread_number();
    if (n >= size) return;
    const Unit unit(n, units);
    const float i = gates[unit.place(4, 0)], f = gates[unit.place(4, 1)];
    const float g = gates[unit.place(4, 2)], o = gates[unit.place(4, 3)];
    const float slope = gh[n] + (by_h ? by_h[n] : 0.0f), squashed = tanhf(new_c[n]);
    const float by_cell =
        slope * o * (1.0f - squashed * squashed) + (by_c ? by_c[n] : 0.0f);
    gz[unit.place(4, 0)] = by_cell * g * i * (1.0f - i);
    gz[unit.place(4, 1)] = by_cell * c[n] * f * (1.0f - f);
    gz[unit.place(4, 2)] = by_cell * i * (1.0f - g * g);
    gz[unit.place(4, 3)] = slope * squashed * o * (1.0f - o);
    past[n] = by_cell * f;
}

// Gates r, u and n, and the lateral part of n. `products` have so many blocks for each
// example; `b` may be null, and `h` and `new_h` both.
extern "C" __global__ void gru_forward(const Divisor units, unsigned size,
                                       const float* __restrict__ z,
                                       const float* products, unsigned blocks,
                                       const float* __restrict__ b,
                                       const float* __restrict__ h,
                                       float* __restrict__ new_h, float* gates) {
    const unsigned i = thread_number();
    if (i >= size) return;
    const Unit unit(i, units);
    float a[3];
#pragma unroll
    for (unsigned k = 0; k < 3; ++k) {
        a[k] = products[unit.place(blocks, k)];
        if (b) a[k] += b[k * unit.units + unit.number];
    }
    const float r = sigmoid(z[unit.place(3, 0)] + a[0]);
    const float u = sigmoid(z[unit.place(3, 1)] + a[1]);
    const float n = tanhf(z[unit.place(3, 2)] + r * a[2]);
    gates[unit.place(4, 0)] = r;
    gates[unit.place(4, 1)] = u;
    gates[unit.place(4, 2)] = n;
    gates[unit.place(4, 3)] = a[2];
    if (new_h) new_h[i] = (1.0f - u) * n + u * h[i];
}

// Gradients by both parts of the gates, and by `h` past the lateral part; `by_h` is
// carried from the step after, or null.
extern "C" __global__ void gru_backward(
    const Divisor units, unsigned size, const float* __restrict__ gh, const float* by_h,
    const float* __restrict__ h, const float* __restrict__ gates,
    float* __restrict__ gz, float* __restrict__ ga, float* past) {
    const unsigned i = thread_number();
    if (i >= size) return;
    const Unit unit(i, units);
    const float r = gates[unit.place(4, 0)], u = gates[unit.place(4, 1)];
    const float n = gates[unit.place(4, 2)], lateral = gates[unit.place(4, 3)];
    const float slope = gh[i] + (by_h ? by_h[i] : 0.0f);
    const float by_n = slope * (1.0f - u) * (1.0f - n * n);
    const float by_u = slope * (h[i] - n) * u * (1.0f - u);
    const float by_r = by_n * lateral * r * (1.0f - r);
    gz[unit.place(3, 0)] = ga[unit.place(3, 0)] = by_r;
    gz[unit.place(3, 1)] = ga[unit.place(3, 1)] = by_u;
    gz[unit.place(3, 2)] = by_n;
    ga[unit.place(3, 2)] = by_n * r;
    past[i] = slope * u;
}

// In the place of the product.
extern "C" __global__ void tanh_forward(unsigned size, const float* __restrict__ z,
                                        float* __restrict__ h) {
    const unsigned i = thread_number();
    if (i < size) h[i] = tanhf(z[i] + h[i]);
}

extern "C" __global__ void tanh_backward(unsigned size, const float* __restrict__ gh,
                                         const float* __restrict__ by_h,
                                         const float* __restrict__ h,
                                         float* __restrict__ gz) {
    const unsigned i = thread_number();
    if (i >= size) return;
    gz[i] = (gh[i] + (by_h ? by_h[i] : 0.0f)) * (1.0f - h[i] * h[i]);
}
