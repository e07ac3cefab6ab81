"""Kernels in CUDA C++ that run on the CPU, and what is an error there."""

from __future__ import annotations

import numpy
import pytest

from tests.emulated_cupy import UndefinedBehaviour, compilation
from tests.emulated_cupy.errors import CompileException, CUDADriverError

pytestmark = pytest.mark.usefixtures("emulation")

SUM = r"""
__device__ float sum_of_warp(float x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
}

extern "C" __global__ void __launch_bounds__(256)
sum(const float* __restrict__ x, float* total, unsigned n) {
    __shared__ float of_warp[8];
    float part = 0;
    for (unsigned i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256)
        part += x[i];
    part = sum_of_warp(part);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = part;
    __syncthreads();
    if (threadIdx.x < 32) {
        part = sum_of_warp(threadIdx.x < 8 ? of_warp[threadIdx.x] : 0);
        if (threadIdx.x == 0) atomicAdd(total, part);
    }
}
"""


@pytest.fixture
def kernel(cupy):
    """A function that compiles a kernel, in a source of its own or from its body."""

    def compiled(source, name="f", **options):
        return cupy.RawModule(code=source, **options).get_function(name)

    return compiled


@pytest.mark.parametrize("size", [1, 31, 1000, 100_003])
def test_sum_by_shared_memory_and_shuffles(cupy, kernel, rng, size):
    x = rng.integers(-8, 9, size).astype(numpy.float32)
    total = cupy.zeros((), numpy.float32)
    kernel(SUM, "sum")((7,), (256,), (cupy.asarray(x), total, numpy.uint32(size)))
    assert float(total) == x.sum()


def test_indices_cover_the_grid(cupy, kernel):
    source = r"""
    extern "C" __global__ void f(int* x) {
        const unsigned block =
            blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        const unsigned thread =
            threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
        x[block * threads + thread] += block * threads + thread;
    }
    """
    x = cupy.zeros(2 * 3 * 2 * 4 * 3 * 2, numpy.int32)
    kernel(source)((2, 3, 2), (4, 3, 2), (x,))
    numpy.testing.assert_array_equal(x.get(), numpy.arange(x.size))


def test_instance_of_a_template(cupy, kernel):
    source = r"""
    template <class T, int N>
    __global__ void fill(T* x) {
        __shared__ T value[N];
        value[threadIdx.x] = threadIdx.x;
        __syncthreads();
        x[threadIdx.x] = value[N - 1 - threadIdx.x];
    }
    """
    names = ("fill<float, 4>", "fill<long long, 2>")
    module = cupy.RawModule(code=source, name_expressions=names)
    for name, dtype, size in zip(names, ("f4", "i8"), (4, 2), strict=True):
        x = cupy.empty(size, dtype)
        module.get_function(name)((1,), (size,), (x,))
        assert x.tolist() == list(range(size))[::-1]


def test_dynamic_shared_memory(cupy, kernel):
    source = r"""
    extern "C" __global__ void f(float* x) {
        extern __shared__ float reversed[];
        reversed[blockDim.x - 1 - threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = reversed[threadIdx.x];
    }
    """
    x = cupy.arange(64, dtype=numpy.float32)
    kernel(source)((1,), (64,), (x,), shared_mem=256)
    numpy.testing.assert_array_equal(x.get(), numpy.arange(64)[::-1])
    with pytest.raises(UndefinedBehaviour, match=r"kernel\.cu:4"):
        kernel(source)((1,), (64,), (x,), shared_mem=128)


def test_structures_go_by_value_and_lead_to_arrays(cupy, kernel):
    source = r"""
    struct Pair { float* x; int n; };
    extern "C" __global__ void f(Pair pair, float value) {
        if (threadIdx.x < pair.n) pair.x[threadIdx.x] = value;
    }
    """
    x = cupy.zeros(4, numpy.float32)
    dtype = numpy.dtype([("x", numpy.uintp), ("n", numpy.int32)], align=True)
    pair = numpy.array([(x.data.ptr, 3)], dtype)
    kernel(source)((1,), (32,), (pair, numpy.float32(2)))
    assert x.tolist() == [2, 2, 2, 0]
    kernel(source)((1,), (32,), (pair[0], numpy.float32(5)))
    assert x.tolist() == [5, 5, 5, 0]
    beyond = numpy.array([(x.data.ptr, 5)], dtype)
    with pytest.raises(UndefinedBehaviour, match="4 bytes past its end"):
        kernel(source)((1,), (32,), (beyond, numpy.float32(2)))
    packed = numpy.array([(x.data.ptr, 5)], [("x", numpy.uintp), ("n", "i4")])
    with pytest.raises(UndefinedBehaviour, match="0 is struct16, got 12 bytes"):
        kernel(source)((1,), (32,), (packed, numpy.float32(2)))


def test_vector_types(cupy, kernel):
    source = r"""
    extern "C" __global__ void f(const float4* x, float2* y) {
        const float4 v = x[threadIdx.x];
        y[threadIdx.x] = make_float2(v.x + v.y, v.z + v.w);
    }
    """
    x = cupy.arange(8, dtype=numpy.float32)
    y = cupy.empty(4, numpy.float32)
    kernel(source)((1,), (2,), (x, y))
    assert y.tolist() == [1, 5, 9, 13]
    with pytest.raises(UndefinedBehaviour, match="not aligned to 16 bytes"):
        kernel(source)((1,), (1,), (x[1:], y))


LANES = numpy.arange(32)
ARITHMETIC = {
    "__expf(x) + expf(-x)": lambda x: numpy.exp(x) + numpy.exp(-x),
    "__logf(x) * rsqrtf(x)": lambda x: numpy.log(x) / numpy.sqrt(x),
    "sinpif(x)": lambda x: numpy.sin(numpy.pi * x),
    "cospif(x)": lambda x: numpy.cos(numpy.pi * x),
    "__saturatef(x - 1)": lambda x: numpy.clip(x - 1, 0, 1),
    "__fdividef(fminf(x, 1), fmaxf(x, 1))": lambda x: numpy.minimum(x, 1 / x),
    "__int_as_float(__float_as_int(x) ^ 0x80000000)": lambda x: -x,
    "__float2int_rn(x)": numpy.rint,
    "__float2int_rz(-x)": lambda x: -numpy.floor(x),
    "max(min(x, 2.f), 1.f)": lambda x: numpy.clip(x, 1, 2),
    "isnan(x) || !isfinite(x) || isinf(x)": numpy.zeros_like,
    "__umulhi(__float_as_uint(x), 1u << 9)": lambda x: x.view(numpy.uint32) >> 23,
    "__popc(7u) + __clz(1) + __ffs(8)": lambda x: numpy.full_like(x, 3 + 31 + 4),
    "__popc(__ballot_sync(~0u, x > 2))": lambda x: numpy.full_like(x, sum(x > 2)),
    "__any_sync(~0u, x > 2) - __all_sync(~0u, x > 2)": numpy.ones_like,
    "__shfl_sync(~0u, x, 3)": lambda x: numpy.full_like(x, x[3]),
    "__shfl_up_sync(~0u, x, 31)": lambda x: numpy.append(x[:31], x[0]),
    "__shfl_down_sync(~0u, x, 7, 8)": lambda x: numpy.where(LANES % 8, x, x[LANES | 7]),
    "__shfl_xor_sync(~0u, x, 5)": lambda x: x[LANES ^ 5],
    "__shfl_xor_sync(~0u, x, 8, 8)": lambda x: x[LANES & ~8],
}


@pytest.mark.parametrize("expression", ARITHMETIC)
def test_arithmetic(cupy, kernel, expression):
    lines = "".join(
        f"case {i}: x = {text}; break;\n" for i, text in enumerate(ARITHMETIC)
    )
    source = f"""
    extern "C" __global__ void f(float* y, int which) {{
        float& x = y[threadIdx.x];
        switch (which) {{ {lines} }}
    }}
    """
    x = numpy.linspace(0.1, 3, 32, dtype=numpy.float32)
    y = cupy.asarray(x)
    kernel(source)((1,), (32,), (y, numpy.int32([*ARITHMETIC].index(expression))))
    expected = ARITHMETIC[expression](x)
    numpy.testing.assert_allclose(y.get(), expected, rtol=1e-5, atol=1e-6)


def test_atomics(cupy, kernel):
    source = r"""
    extern "C" __global__ void f(int* count, unsigned* turn, float* largest) {
        atomicAdd(count, 2);
        atomicInc(turn, 6u);
        int* bits = (int*)largest;
        atomicMax(bits, __float_as_int(float(threadIdx.x)));
    }
    """
    count, turn = cupy.zeros((), numpy.int32), cupy.zeros((), numpy.uint32)
    largest = cupy.zeros((), numpy.float32)
    kernel(source)((2,), (40,), (count, turn, largest))
    assert (int(count), int(turn), float(largest)) == (160, 80 % 7, 39)


# ------------------------------------------------------------------------- its launch


def test_scalars_are_passed_by_their_exact_type(cupy, kernel):
    source = r"""
    extern "C" __global__ void f(float* x, int i, float y, long long j, double z) {
        *x = i + y + j + z;
    }
    """
    x, f = cupy.zeros((), numpy.float32), kernel(source)
    f((1,), (1,), (x, numpy.int32(1), numpy.float32(2), 3, 4.0))
    assert float(x) == 10
    for wrong, message in (
        ((x, 1, numpy.float32(2), 3, 4.0), "argument 1 is int32, got int64"),
        ((x, numpy.int32(1), 2.0, 3, 4.0), "argument 2 is float32, got float64"),
        ((x, numpy.uint32(1), numpy.float32(2), 3, 4.0), "is int32, got uint32"),
        ((x, numpy.int32(1), numpy.float32(2), numpy.int32(3), 4.0), "3 is int64"),
        ((x, numpy.int32(1), numpy.float32(2), 3), "takes 5 arguments, got 4"),
        ((x, numpy.int32(1), x, 3, 4.0), "is float32, got float32"),
    ):
        with pytest.raises(UndefinedBehaviour, match=message):
            f((1,), (1,), wrong)


def test_arrays_are_passed_by_their_exact_dtype(cupy, kernel, emulation):
    source = r"""
    extern "C" __global__ void f(const float* x, void* any, const int* or_null) {
        if (or_null) *(char*)any = *or_null;
    }
    """
    x = cupy.zeros(1, numpy.float32)
    f = kernel(source)
    f((1,), (1,), (x, cupy.zeros(1, bool), None))
    f((1,), (1,), (x, cupy.zeros(1, numpy.int64), numpy.uintp(0)))
    with pytest.raises(
        UndefinedBehaviour, match=r"const float32\*, got an array of int32"
    ):
        f((1,), (1,), (cupy.zeros(1, numpy.int32), x, None))
    with pytest.raises(UndefinedBehaviour, match="got ndarray"):
        f((1,), (1,), (numpy.zeros(1, numpy.float32), x, None))
    with pytest.raises(UndefinedBehaviour, match="got an address of no array"):
        f((1,), (1,), (x, x, 4096))
    elsewhere = pytest.raises(UndefinedBehaviour, match="got an array of device 0")
    with emulation.device_count(2), cupy.cuda.Device(1), elsewhere:
        f((1,), (1,), (x, x, None))


@pytest.mark.parametrize(
    ("grid", "threads"), [((1,), (257,)), ((1, 70000), (1,)), ((1,), (1, 1, 65))]
)
def test_sizes_have_limits(cupy, kernel, grid, threads):
    x = cupy.zeros((), numpy.float32)
    with pytest.raises(CUDADriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel(SUM, "sum")(grid, threads, (x, x, numpy.uint32(1)))


def test_empty_grids_and_lists_for_tuples_are_errors(cupy, kernel):
    x = cupy.zeros((), numpy.float32)
    with pytest.raises(UndefinedBehaviour, match="empty grid"):
        kernel(SUM, "sum")((0,), (1,), (x, x, numpy.uint32(1)))
    with pytest.raises(TypeError, match="must be tuples"):
        kernel(SUM, "sum")([1], (1,), (x, x, numpy.uint32(1)))


def test_shared_memory_has_a_limit_that_can_be_raised(cupy, kernel):
    source = 'extern "C" __global__ void f() { extern __shared__ float s[]; s[0] = 1; }'
    f = kernel(source)
    with pytest.raises(CUDADriverError):
        f((1,), (1,), (), shared_mem=64 * 1024)
    f.max_dynamic_shared_size_bytes = 64 * 1024
    f((1,), (1,), (), shared_mem=64 * 1024)


# ---------------------------------------------------------------------------- sources


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("#include <cmath>\n", 'cannot open source file "cmath"'),
        ("__device__ uint32_t x;", "uint32_t"),
        ("__device__ int x = std::min(1, 2);", "std::"),
        ("__device__ float x = INFINITY;", "INFINITY"),
        ("__device__ float x = max(1, 2.f);", "ambiguous"),
        ("__device__ float x =\n 1 +;", r"kernel\.cu:2"),
    ],
)
def test_sources_that_the_compiler_of_cuda_refuses(kernel, source, message):
    with pytest.raises(CompileException, match=message):
        kernel(source)


def test_options(kernel):
    source = 'extern "C" __global__ void f(float* x) { *x = VALUE; }'
    kernel(source, options=("--std=c++17", "-DVALUE=2", "--use_fast_math"))
    with pytest.raises(CompileException, match="unrecognized option -O9"):
        kernel(source, options=("-O9",))
    with pytest.raises(TypeError, match="`options` tuple, got str and list"):
        kernel(source, options=["-DVALUE=2"])


def test_kernels_are_found_by_their_c_names_only(kernel):
    source = r"""
    // extern "C" __global__ void in_a_comment() {}
    #define KERNEL(name) extern "C" __global__ void name() {}
    KERNEL(by_macro)
    extern "C" {
    __global__ void in_a_block() {}
    }
    __global__ void mangled() {}
    """
    kernel(source, "by_macro")
    kernel(source, "in_a_block")
    for name in ("in_a_comment", "mangled", "missing"):
        with pytest.raises(CUDADriverError, match="CUDA_ERROR_NOT_FOUND"):
            kernel(source, name)


def test_math_constants(cupy, kernel):
    source = r"""
    #include <math_constants.h>
    extern "C" __global__ void f(float* x) { *x = CUDART_INF_F; }
    """
    x = cupy.zeros(1, numpy.float32)
    kernel(source)((1,), (1,), (x,))
    assert numpy.isinf(x.get())


def test_a_source_is_compiled_once(kernel, monkeypatch):
    kernel(SUM, "sum")
    monkeypatch.setattr(compilation, "_run", None)
    kernel(SUM, "sum")
