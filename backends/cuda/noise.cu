// Random numbers from a counter: the bits are those of Philox4x32-10 (Salmon et al., SC
// 2011), under a key of 128 bits. Numbers lie in pieces of 4096; the four words of
// counter (j, piece) belong to elements j, 1024 + j, 2048 + j and 3072 + j of a piece,
// so that neighbouring threads write to neighbouring places. The CPU draws the same.

constexpr unsigned PIECE = 4096;
constexpr unsigned QUARTER = PIECE / 4;

struct Key {
    const unsigned* where;  // on the device, or null
    unsigned words[4];

    __device__ unsigned word(int i) const { return where ? where[i] : words[i]; }
};

struct Words {
    unsigned x[4];
};

__device__ inline Words philox(unsigned position, unsigned piece, const Key& key) {
    unsigned a = position, b = piece, c = key.word(2), d = key.word(3);
    unsigned left = key.word(0), right = key.word(1);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high_a = __umulhi(a, 0xD2511F53u), low_a = a * 0xD2511F53u;
        const unsigned high_c = __umulhi(c, 0xCD9E8D57u), low_c = c * 0xCD9E8D57u;
        a = high_c ^ b ^ left;
        b = low_c;
        c = high_a ^ d ^ right;
        d = low_a;
        left += 0x9E3779B9u;
        right += 0xBB67AE85u;
    }
    return {{a, b, c, d}};
}

// Two independent normal numbers (Box and Muller 1958) from 24 bits of each word.
__device__ inline void normal_pair(unsigned word, unsigned angle, float& first,
                                   float& second) {
    const float unit = 1.0f / 16777216.0f;
    const float radius = sqrtf(-2.0f * logf(float((word >> 8) + 1) * unit));
    float sine, cosine;
    sincospif(2.0f * (float(angle >> 8) * unit), &sine, &cosine);
    first = radius * cosine;
    second = radius * sine;
}

extern "C" __global__ void standard_normal(const Key key, unsigned size,
                                           float* __restrict__ normal) {
    const unsigned counter = thread_number();
    const unsigned piece = counter / QUARTER, position = counter % QUARTER;
    const unsigned begin = piece * PIECE + position;
    if (begin >= size) return;
    const Words words = philox(position, piece, key);
    float drawn[4];
    normal_pair(words.x[0], words.x[1], drawn[0], drawn[1]);
    normal_pair(words.x[2], words.x[3], drawn[2], drawn[3]);
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
        if (begin + j * QUARTER < size) normal[begin + j * QUARTER] = drawn[j];
}

// 0 where the word is below `limit`, the factor elsewhere.
extern "C" __global__ void dropout_mask(const Key key, unsigned limit, float factor,
                                        unsigned size, float* __restrict__ mask) {
    const unsigned counter = thread_number();
    const unsigned piece = counter / QUARTER, position = counter % QUARTER;
    const unsigned begin = piece * PIECE + position;
    if (begin >= size) return;
    const Words words = philox(position, piece, key);
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
        if (begin + j * QUARTER < size)
            mask[begin + j * QUARTER] = words.x[j] < limit ? 0.0f : factor;
}
