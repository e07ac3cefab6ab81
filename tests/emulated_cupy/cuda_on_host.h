// CUDA C++ for a host compiler: as much of the language as kernels are written in, with
// CUDA's overloads, and without the names that its run-time compiler does not define.
#pragma once

#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <string>
#include <type_traits>
#include <utility>

#include "block_scheduler.h"

#undef assert
#define assert(condition) \
    ((condition) ? void() : emulation::fail(__LINE__, "assertion failed: " #condition))

// ------------------------------------------------------------------------- qualifiers

#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_assume(condition) assert(condition)
// One block runs at a time, so that static memory can be the block's. The scheduler finds
// it by its section; `used` tells the compiler that others write there.
#define __shared__ static __attribute__((section("emulation_shared"), used))

constexpr int warpSize = 32;

// ----------------------------------------------------------------------- vector types

namespace emulation {
template <class T>
struct Vector {
    static constexpr int size = 0;
};
}  // namespace emulation

#define EMULATION_COMPONENTS(name, component, count) \
    template <>                                      \
    struct emulation::Vector<name> {                 \
        using Component = component;                 \
        static constexpr int size = count;           \
    };
#define EMULATION_VECTOR_3(name, component)                                 \
    struct name##3 {                                                        \
        component x, y, z;                                                  \
    };                                                                      \
    inline name##3 make_##name##3(component x, component y, component z) {  \
        return {x, y, z};                                                   \
    }                                                                       \
    EMULATION_COMPONENTS(name##3, component, 3)
#define EMULATION_VECTOR_1_2_4(name, component, alignment)                  \
    struct name##1 {                                                        \
        component x;                                                        \
    };                                                                      \
    struct alignas(2 * sizeof(component)) name##2 {                         \
        component x, y;                                                     \
    };                                                                      \
    struct alignas(alignment) name##4 {                                     \
        component x, y, z, w;                                               \
    };                                                                      \
    inline name##1 make_##name##1(component x) { return {x}; }              \
    inline name##2 make_##name##2(component x, component y) {               \
        return {x, y};                                                      \
    }                                                                       \
    inline name##4 make_##name##4(component x, component y, component z,    \
                                  component w) {                            \
        return {x, y, z, w};                                                \
    }                                                                       \
    EMULATION_COMPONENTS(name##1, component, 1)                             \
    EMULATION_COMPONENTS(name##2, component, 2)                             \
    EMULATION_COMPONENTS(name##4, component, 4)
#define EMULATION_VECTOR(name, component, alignment)   \
    EMULATION_VECTOR_1_2_4(name, component, alignment) \
    EMULATION_VECTOR_3(name, component)

EMULATION_VECTOR(char, signed char, 4)
EMULATION_VECTOR(uchar, unsigned char, 4)
EMULATION_VECTOR(short, short, 8)
EMULATION_VECTOR(ushort, unsigned short, 8)
EMULATION_VECTOR(int, int, 16)
EMULATION_VECTOR(longlong, long long, 16)
EMULATION_VECTOR(ulonglong, unsigned long long, 16)
EMULATION_VECTOR(float, float, 16)
EMULATION_VECTOR(double, double, 16)
EMULATION_VECTOR_1_2_4(uint, unsigned, 16)
EMULATION_COMPONENTS(uint3, unsigned, 3)
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// --------------------------------------------------------- barriers, shuffles and votes

#define EMULATION_LINE int line = __builtin_LINE()

inline void __syncthreads(EMULATION_LINE) { emulation::barrier(line, false); }
inline int __syncthreads_count(int predicate, EMULATION_LINE) {
    return emulation::barrier(line, predicate);
}
inline int __syncthreads_or(int predicate, EMULATION_LINE) {
    return emulation::barrier(line, predicate) > 0;
}
inline int __syncthreads_and(int predicate, EMULATION_LINE) {
    return emulation::barrier(line, !predicate) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, EMULATION_LINE) {
    emulation::collective("__syncwarp()", line, mask, 0);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

namespace emulation {

template <class T>
uint64_t packed(T value) {
    static_assert(std::is_arithmetic_v<T>, "shuffles move numbers");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

// What a lane brought; a NaN from one that is not there, undefined on a device.
template <class T>
T taken(const Group& group, long long lane) {
    T value;
    memcpy(&value, &group.values[lane], sizeof value);
    return value;
}

// Shuffles see a warp as segments of `width` lanes. A lane that another would take from
// beyond its own segment keeps what it has, but for an exclusive or with an earlier one.
template <class T, class Source>
T shuffle(const char* name, int line, unsigned mask, T value, int width, Source source) {
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail(line, "%s with a width of %d, not a power of 2 up to 32", name, width);
    const long long own = lane(), begin = own & ~(width - 1), end = begin + width;
    const Group& group = collective(name, line, mask, packed(value));
    return taken<T>(group, source(own, begin, end));
}

}  // namespace emulation

#define EMULATION_SHUFFLE(name, Argument, argument, from)                              \
    template <class T>                                                                 \
    T name(unsigned mask, T value, Argument argument, int width = 32, EMULATION_LINE) { \
        return emulation::shuffle(                                                     \
            #name "()", line, mask, value, width,                                      \
            [=](long long own, long long begin, long long end) -> long long {          \
                return from;                                                           \
            });                                                                        \
    }
EMULATION_SHUFFLE(__shfl_sync, int, source, begin + (source & (end - begin - 1)))
EMULATION_SHUFFLE(__shfl_down_sync, unsigned, delta,
                  own + delta < end ? own + delta : own)
EMULATION_SHUFFLE(__shfl_up_sync, unsigned, delta,
                  own - delta >= begin ? own - delta : own)
EMULATION_SHUFFLE(__shfl_xor_sync, int, lanes, (own ^ lanes) < end ? own ^ lanes : own)

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATION_LINE) {
    const emulation::Group& group =
        emulation::collective("__ballot_sync()", line, mask, predicate != 0);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (group.mask >> lane & 1 && group.values[lane]) votes |= 1u << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, EMULATION_LINE) {
    return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATION_LINE) {
    return __ballot_sync(mask, !predicate, line) == 0;
}

// ---------------------------------------------------------------------------- atomics

// Threads run one at a time, so that plain code is atomic; it is not instrumented, or
// concurrent atomics would count as races.
namespace emulation {
template <class T, class Update>
__attribute__((noinline, no_sanitize("kernel-address"))) T atomic(T* address,
                                                                  Update update) {
    check_access(address, sizeof(T));
    const T old = *address;
    *address = update(old);
    return old;
}
}  // namespace emulation

#define EMULATION_ATOMIC(name, T, expression)                                        \
    inline T name(T* address, T value) {                                             \
        return emulation::atomic(address, [=](T old) -> T { return expression; });   \
    }
#define EMULATION_FOR_INTEGERS(name, expression)                                     \
    EMULATION_ATOMIC(name, int, expression)                                          \
    EMULATION_ATOMIC(name, unsigned, expression)                                     \
    EMULATION_ATOMIC(name, unsigned long long, expression)
EMULATION_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
EMULATION_ATOMIC(atomicAdd, unsigned, old + value)
EMULATION_ATOMIC(atomicAdd, unsigned long long, old + value)
EMULATION_ATOMIC(atomicAdd, float, old + value)
EMULATION_ATOMIC(atomicAdd, double, old + value)
EMULATION_ATOMIC(atomicSub, int, int(unsigned(old) - unsigned(value)))
EMULATION_ATOMIC(atomicSub, unsigned, old - value)
EMULATION_FOR_INTEGERS(atomicExch, (void(old), value))
EMULATION_ATOMIC(atomicExch, float, (void(old), value))
EMULATION_FOR_INTEGERS(atomicMin, old < value ? old : value)
EMULATION_ATOMIC(atomicMin, long long, old < value ? old : value)
EMULATION_FOR_INTEGERS(atomicMax, old > value ? old : value)
EMULATION_ATOMIC(atomicMax, long long, old > value ? old : value)
EMULATION_FOR_INTEGERS(atomicAnd, old & value)
EMULATION_FOR_INTEGERS(atomicOr, old | value)
EMULATION_FOR_INTEGERS(atomicXor, old ^ value)
EMULATION_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMULATION_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#define EMULATION_CAS(T)                                                             \
    inline T atomicCAS(T* address, T expected, T value) {                            \
        return emulation::atomic(address,                                            \
                                 [=](T old) { return old == expected ? value : old; }); \
    }
EMULATION_CAS(int)
EMULATION_CAS(unsigned)
EMULATION_CAS(unsigned long long)
EMULATION_CAS(unsigned short)

// ------------------------------------------------------------------------- arithmetic

namespace emulation {
template <class To, class From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &value, sizeof to);
    return to;
}

// To the nearest integer that there is, NaN to 0, as a device converts.
template <class To>
To saturated(double value) {
    constexpr To low = std::is_signed_v<To> ? To(1) << (8 * sizeof(To) - 1) : 0;
    if (value != value) return 0;
    if (value <= double(low)) return low;
    if (value >= double(To(~low))) return To(~low);
    return To(value);
}
}  // namespace emulation

inline int __float_as_int(float x) { return emulation::bits_as<int>(x); }
inline unsigned __float_as_uint(float x) { return emulation::bits_as<unsigned>(x); }
inline float __int_as_float(int x) { return emulation::bits_as<float>(x); }
inline float __uint_as_float(unsigned x) { return emulation::bits_as<float>(x); }
inline long long __double_as_longlong(double x) {
    return emulation::bits_as<long long>(x);
}
inline double __longlong_as_double(long long x) {
    return emulation::bits_as<double>(x);
}

#define EMULATION_ROUNDED(suffix, round)                                              \
    inline int __float2int_##suffix(float x) {                                        \
        return emulation::saturated<int>(round(x));                                   \
    }                                                                                 \
    inline unsigned __float2uint_##suffix(float x) {                                  \
        return emulation::saturated<unsigned>(round(x));                              \
    }                                                                                 \
    inline long long __float2ll_##suffix(float x) {                                   \
        return emulation::saturated<long long>(round(x));                             \
    }
EMULATION_ROUNDED(rn, rint)
EMULATION_ROUNDED(rz, trunc)
EMULATION_ROUNDED(rd, floor)
EMULATION_ROUNDED(ru, ceil)
#undef EMULATION_ROUNDED
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }

inline int __mulhi(int x, int y) { return int((long long)x * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) {
    return unsigned((unsigned long long)x * y >> 32);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)high << 32 | low) >> (shift & 31));
}

#define EMULATION_MIN_MAX(A, B, R) \
    inline R min(A x, B y) {       \
        const R a = x, b = y;      \
        return a < b ? a : b;      \
    }                              \
    inline R max(A x, B y) {       \
        const R a = x, b = y;      \
        return a > b ? a : b;      \
    }
#define EMULATION_MIN_MAX_OF_SIGNS(S, U) \
    EMULATION_MIN_MAX(S, S, S)           \
    EMULATION_MIN_MAX(U, U, U)           \
    EMULATION_MIN_MAX(S, U, U)           \
    EMULATION_MIN_MAX(U, S, U)
EMULATION_MIN_MAX_OF_SIGNS(int, unsigned)
EMULATION_MIN_MAX_OF_SIGNS(long, unsigned long)
EMULATION_MIN_MAX_OF_SIGNS(long long, unsigned long long)
inline float min(float x, float y) { return fminf(x, y); }
inline float max(float x, float y) { return fmaxf(x, y); }
inline double min(double x, double y) { return fmin(x, y); }
inline double max(double x, double y) { return fmax(x, y); }
inline double min(float x, double y) { return fmin(x, y); }
inline double max(float x, double y) { return fmax(x, y); }
inline double min(double x, float y) { return fmin(x, y); }
inline double max(double x, float y) { return fmax(x, y); }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1 / sqrtf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // NaN: 0
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10, x); }
inline float exp10f(float x) { return powf(10, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline double emulation_sin_of_pi(double x) {  // exact where x is a half
    const double r = fmod(x, 2);
    if (r == rint(r)) return 0 * r;
    return sin(3.141592653589793 * r);
}
inline float sinpif(float x) { return float(emulation_sin_of_pi(x)); }
inline double sinpi(double x) { return emulation_sin_of_pi(x); }
inline float cospif(float x) { return float(emulation_sin_of_pi(x + 0.5)); }
inline double cospi(double x) { return emulation_sin_of_pi(fmod(x, 2) + 0.5); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
inline float normcdff(float x) { return float(0.5 * erfc(-x * 0.7071067811865476)); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.7071067811865476); }

template <class T>
T __ldg(const T* address) {
    return *address;
}
template <class T>
T __ldcg(const T* address) {
    return *address;
}
template <class T>
T __ldcs(const T* address) {
    return *address;
}
template <class T>
void __stcg(T* address, T value) {
    *address = value;
}
template <class T>
void __stcs(T* address, T value) {
    *address = value;
}
inline long long clock64() { return 0; }
inline void __nanosleep(unsigned) {}
inline void __trap(EMULATION_LINE) { emulation::fail(line, "__trap()"); }

// ---------------------------------------------------------- what the launcher is told

namespace emulation {

// A parameter's type, in NumPy's names for numbers: "const float32*", "int64".
template <class T>
std::string type_code() {
    using V = std::remove_cv_t<T>;
    if constexpr (std::is_pointer_v<V>) {
        using Element = std::remove_pointer_t<V>;
        return (std::is_const_v<Element> ? "const " : "") + type_code<Element>() + "*";
    } else if constexpr (std::is_void_v<V>) {
        return "void";
    } else if constexpr (std::is_same_v<V, bool>) {
        return "bool";
    } else if constexpr (std::is_arithmetic_v<V>) {
        const char* kind = std::is_floating_point_v<V> ? "float"
                           : std::is_signed_v<V>       ? "int"
                                                       : "uint";
        return kind + std::to_string(8 * sizeof(V));
    } else if constexpr (Vector<V>::size > 0) {
        return type_code<typename Vector<V>::Component>() + "x" +
               std::to_string(Vector<V>::size);
    } else {
        static_assert(std::is_trivially_copyable_v<V>, "a struct is passed by its bytes");
        return "struct" + std::to_string(sizeof(V));
    }
}

struct Kernel {
    const char* name;
    const char* types;  // of the parameters, separated by commas
    int max_threads;    // of a block
    void (*call)(void* const* arguments);
};

template <auto function, class... P, size_t... I>
__attribute__((no_sanitize("kernel-address"))) void call_with(void (*)(P...), std::index_sequence<I...>, void* const* arguments) {
    function(*static_cast<std::remove_reference_t<P>*>(arguments[I])...);
}

template <auto function, class... P>
Kernel describe(const char* name, int max_threads, void (*)(P...)) {
    static std::string types;
    ((types += (types.empty() ? "" : ",") + type_code<P>()), ...);
    return {name, types.c_str(), max_threads, [](void* const* arguments) {
                call_with<function>(function, std::index_sequence_for<P...>(),
                                    arguments);
            }};
}

}  // namespace emulation

// The run-time compiler of CUDA has no standard headers, hence not these.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef HUGE_VALF
#undef FLT_MAX
#undef FLT_MIN
#undef FLT_EPSILON
#undef DBL_MAX
#undef DBL_MIN
#undef DBL_EPSILON
#undef INT_MAX
#undef INT_MIN
#undef UINT_MAX
#undef LLONG_MAX
#undef M_PI
#undef M_PI_2
#undef M_SQRT2
#undef M_SQRT1_2
#undef M_E
#undef M_LN2
