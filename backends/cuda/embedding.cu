// Rows of a table by their numbers, and the sums of the gradients of each.
//
// For the sums, places are sorted by the row that they take: pieces of them each by a
// block, then all by where each belongs among the other pieces. A warp sums a run of 32
// of them, in order; what belongs to a row that began in an earlier run it leaves for a
// second pass. So the order of each sum depends on the numbers alone, and a row that is
// taken very often is as much work for a warp as any other.

constexpr unsigned PIECE = 1024;
constexpr unsigned AT_ONCE = 8;  // loads that a warp has under way
typedef unsigned long long Key;  // row, then place: there are no equal ones

__device__ inline Key key_of(unsigned row, unsigned place) {
    return Key(row) << 32 | place;
}

__device__ inline unsigned row_of(Key key) { return unsigned(key >> 32); }
__device__ inline unsigned place_of(Key key) { return unsigned(key); }

// The row that a place takes, `rows` if there is none of that number. One of both
// arrays is null.
__device__ inline unsigned row_at(const int* short_ids, const long long* long_ids,
                                  unsigned place, unsigned rows) {
    const long long id = short_ids ? short_ids[place] : long_ids[place];
    return id < 0 || id >= rows ? rows : unsigned(id);
}

// Each thread up to four numbers of a row; there are `threads`, `packs` for a place.
extern "C" __global__ void take(const float* __restrict__ table,
                                const int* __restrict__ short_ids,
                                const long long* __restrict__ long_ids, unsigned rows,
                                unsigned columns, const Divisor packs, unsigned threads,
                                float* __restrict__ y) {
    unsigned place = thread_number();
    if (place >= threads) return;
    const unsigned column = 4 * packs.divide(place);
    const unsigned row = row_at(short_ids, long_ids, place, rows);
    const float nothing = __int_as_float(0x7fffffff);  // NaN
    Four values = {nothing, nothing, nothing, nothing};
    if (row < rows) values = load_four(table + row * columns, column, columns);
    store_four(y + place * columns, column, columns, values);
}

// A block for each piece (Batcher 1968), of a `length` that is a power of 2.
extern "C" __global__ void sort_pieces(const int* __restrict__ short_ids,
                                       const long long* __restrict__ long_ids,
                                       unsigned rows, unsigned count, unsigned length,
                                       Key* __restrict__ keys) {
    __shared__ Key piece[PIECE];
    const unsigned begin = blockIdx.x * length;
    for (unsigned k = threadIdx.x; k < length; k += blockDim.x) {
        const unsigned place = begin + k;
        piece[k] = ~Key(0);
        if (place < count)
            piece[k] = key_of(row_at(short_ids, long_ids, place, rows), place);
    }
    for (unsigned width = 2; width <= length; width *= 2)
        for (unsigned step = width / 2; step; step /= 2) {
            __syncthreads();
            for (unsigned k = threadIdx.x; k < length / 2; k += blockDim.x) {
                const unsigned low = 2 * k - (k & (step - 1)), high = low + step;
                const Key first = piece[low], second = piece[high];
                if ((first > second) == ((low & width) == 0)) {
                    piece[low] = second;
                    piece[high] = first;
                }
            }
        }
    __syncthreads();
    for (unsigned k = threadIdx.x; k < length; k += blockDim.x)
        if (begin + k < count) keys[begin + k] = piece[k];
}

extern "C" __global__ void merge_pieces(const Key* __restrict__ keys, unsigned count,
                                        unsigned length, Key* __restrict__ sorted) {
    const unsigned i = thread_number();
    if (i >= count) return;
    const Key key = keys[i];
    unsigned lower = 0;
    for (unsigned begin = 0; begin < count; begin += length) {
        unsigned first = begin, last = min(begin + length, count);
        while (first < last) {
            const unsigned middle = (first + last) / 2;
            if (keys[middle] < key)
                first = middle + 1;
            else
                last = middle;
        }
        lower += first - begin;
    }
    sorted[lower] = key;
}

// What a warp has: a run of keys, and 32 columns.
struct Run {
    unsigned number, begin, column;

    __device__ explicit Run(unsigned columns) {
        const unsigned across = (columns + WARP - 1) / WARP;
        const unsigned warp = thread_number() / WARP;
        number = warp / across;
        begin = number * WARP;
        column = warp % across * WARP + threadIdx.x % WARP;
    }
};

// Sums of runs: into the gradient, or what goes on from an earlier run into `carries`.
extern "C" __global__ void sum_runs(const Key* __restrict__ keys, unsigned count,
                                    const float* __restrict__ gy, unsigned rows,
                                    unsigned columns, float* __restrict__ gW,
                                    float* __restrict__ carries) {
    const Run run(columns);
    if (run.begin >= count) return;
    const unsigned mine = run.begin + threadIdx.x % WARP;
    const Key key = mine < count ? keys[mine] : key_of(rows, 0);
    const unsigned before = run.begin ? row_of(keys[run.begin - 1]) : rows;
    const auto finish = [&](unsigned row, float sum) {
        if (row >= rows || run.column >= columns) return;
        float* const target =
            row == before ? carries + run.number * columns : gW + row * columns;
        target[run.column] = sum;
    };
    unsigned row = __shfl_sync(EVERY_LANE, row_of(key), 0);
    float sum = 0.0f;
    for (unsigned k = 0; k < WARP; k += AT_ONCE) {
        unsigned next[AT_ONCE];
        float slopes[AT_ONCE];
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            next[j] = __shfl_sync(EVERY_LANE, row_of(key), k + j);
            const unsigned place = __shfl_sync(EVERY_LANE, place_of(key), k + j);
            const bool is_summed = next[j] < rows && run.column < columns;
            slopes[j] = is_summed ? gy[place * columns + run.column] : 0.0f;
        }
#pragma unroll
        for (unsigned j = 0; j < AT_ONCE; ++j) {
            if (next[j] != row) {
                finish(row, sum);
                row = next[j];
                sum = 0.0f;
            }
            sum += slopes[j];
        }
    }
    finish(row, sum);
}

// What runs left is added to the row that goes on from the end of an earlier one.
extern "C" __global__ void add_carries(const Key* __restrict__ keys, unsigned count,
                                       unsigned rows, unsigned columns,
                                       const float* __restrict__ carries,
                                       float* __restrict__ gW) {
    const Run run(columns);
    const unsigned end = run.begin + WARP;
    if (end >= count) return;
    const unsigned row = row_of(keys[end]);
    const bool goes_on = row < rows && row_of(keys[end - 1]) == row;
    if (!goes_on || (run.begin && row_of(keys[run.begin - 1]) == row)) return;
    const unsigned lane = threadIdx.x % WARP;
    float sum = run.column < columns ? gW[row * columns + run.column] : 0.0f;
    unsigned next = run.number + 1, found = WARP;
    for (; found == WARP; next += WARP) {
        const unsigned first = (next + lane) * WARP;
        const bool is_carry = first < count && row_of(keys[first]) == row;
        found = __popc(__ballot_sync(EVERY_LANE, is_carry));
        if (run.column >= columns) continue;
#pragma unroll 8
        for (unsigned k = 0; k < found; ++k)
            sum += carries[(next + k) * columns + run.column];
    }
    if (run.column < columns) gW[row * columns + run.column] = sum;
}
