"""What a device leaves undefined is an error in kernels that run on the CPU."""

from __future__ import annotations

import numpy
import pytest

from tests.emulated_cupy import UndefinedBehaviour

pytestmark = pytest.mark.usefixtures("emulation")

# Bodies of kernels with a parameter `float* x`, and what is said of them.
ERRORS = {
    "x[32] = 1;": "writes 4 bytes outside argument 0, 4 bytes past its end",
    "x[-2] = 1;": "writes 4 bytes outside argument 0, 8 bytes before its begin",
    "x[0] = x[i + 1];": r"thread \(31, 0, 0\) .* reads 4 bytes .* \(kernel.cu:2\)",
    "x[1ll << 40] = 1;": "outside all arguments",
    "atomicAdd(x + 32, 1.f);": "writes 4 bytes outside argument 0",
    "x[0] = ((float4*)x)[i].x;": "reads 4 bytes|reads 16 bytes",
    "((float4*)x)[i] = make_float4(0, 0, 0, 0);": "writes 16 bytes outside argument 0",
    "float* none = nullptr; *none = 1;": "null pointer",
    "__shared__ int s[4]; s[i] = 1;": "index outside the bounds of an array",
    "float s[4]; s[i] = 1; x[0] = s[0];": "index outside the bounds of an array",
    "x[0] = 1 / (i - 3);": "line 2: an integer division by zero",
    "x[0] = 1 << i * 2;": "a shift by more bits than there are",
    "x[0] = 0x7fffffff + i;": "signed integer overflow in an addition",
    "assert(i < 31);": r"thread \(31, 0, 0\) .*: assertion failed: i < 31",
}
BARRIERS = {
    "if (i < 20) __syncthreads();": "not reached by all .* has returned",
    "if (i == 5) return; __syncthreads();": "not reached by all .* has returned",
    "if (i < 20) __syncthreads();\n else __syncthreads();": "waits in line 3",
    "if (i % 2) __shfl_sync(~0u, i, 0);\n else __syncthreads();": "a diverged warp",
    "x[0] = i % 2 ? __shfl_sync(~0u, 1, 0) : __shfl_xor_sync(~0u, 1, 1);": (
        "a diverged warp"
    ),
    "__shfl_sync(1u, i, 0);": "a mask that does not name the calling lane",
    "__shfl_sync(~0u, i, 0, 5);": "a width of 5, not a power of 2",
}
# Kernels of 64 threads, each followed by one in which nothing races.
START = "__shared__ float s[64];"
RACES = {
    "no barrier before reading": (
        "s[i] = i; x[i] = s[63 - i];",
        "s[i] = i; __syncthreads(); x[i] = s[63 - i];",
    ),
    "no barrier before writing again": (
        "s[i] = i; __syncthreads(); float y = s[63 - i]; s[i] = y;",
        "s[i] = i; __syncthreads(); float y = s[63 - i]; __syncthreads(); s[i] = y;",
    ),
    "two writers": ("s[i / 2] = i;", "if (i % 2 == 0) s[i / 2] = i;"),
    "no barrier within a warp": (
        "s[i] = i; x[i] = s[i ^ 1];",
        "s[i] = i; __syncwarp(); x[i] = s[i ^ 1];",
    ),
    "a shuffle is no barrier": (
        "s[i] = i; __shfl_xor_sync(~0u, i, 1); x[i] = s[i ^ 1];",
        "s[i] = i; __shfl_xor_sync(~0u, i, 1); __syncwarp(); x[i] = s[i ^ 1];",
    ),
    "a warp's barrier is not the block's": (
        "s[i] = i; __syncwarp(); x[i] = s[i ^ 32];",
        "s[i] = i; __syncthreads(); x[i] = s[i ^ 32];",
    ),
    "bytes are apart": (
        "((char*)s)[i / 2] = 1;",
        "((char*)s)[i] = 1;",
    ),
    "atomics are ordered": (
        "s[i / 2] = i;",
        "if (i == 0) s[0] = 0; __syncthreads(); atomicAdd(s, 1.f); __syncthreads();"
        "x[i] = s[0];",
    ),
}
OTHERS = [
    "x[i] = 1;",
    "__syncthreads(); x[i] = 1;",
    "x[-i] = 1;",
    "__shared__ float s[32]; x[i] = s[i];",
    "x[i] = __shfl_down_sync(~0u, 1.f, 4);",
    "if (i < 16) x[i] = __shfl_xor_sync(0xffffu, 1.f, 16);",
]
BODIES = [
    *ERRORS,
    *BARRIERS,
    *(START + text for pair in RACES.values() for text in pair),
    *OTHERS,
]


@pytest.fixture
def run(cupy):
    """A function that runs a kernel on one block, and returns its `x` after it."""
    source = "".join(
        f'#line 1 "kernel.cu"\nextern "C" __global__ void f{k}(float* x) {{ '
        f"const int i = threadIdx.x;\n{text} }}\n"
        for k, text in enumerate(BODIES)
    )
    module = cupy.RawModule(code=source)

    def run(body, threads=32, x=None):
        if x is None:
            x = cupy.zeros(threads, numpy.float32)
        kernel = module.get_function(f"f{BODIES.index(body)}")
        kernel((1,), (threads,), (x,))
        return x.get()

    return run


@pytest.mark.parametrize("body", ERRORS | BARRIERS)
def test_errors(run, body):
    with pytest.raises(UndefinedBehaviour, match=(ERRORS | BARRIERS)[body]):
        run(body)


def test_a_launch_after_an_error_is_as_good_as_any(run):
    for _ in range(2):
        with pytest.raises(UndefinedBehaviour):
            run("if (i < 20) __syncthreads();")
        assert run("__syncthreads(); x[i] = 1;", threads=1024).all()


def test_what_is_outside_of_a_view_is_outside_of_the_argument(cupy, run):
    x = cupy.zeros(64, numpy.float32)
    with pytest.raises(UndefinedBehaviour, match="past its end"):
        run("x[i] = 1;", x=x[8:16])
    assert run("x[-i] = 1;", x=x[40:8:-1])[:32].all()


@pytest.mark.parametrize("case", RACES)
def test_races_for_shared_memory(run, case):
    racing, ordered = (START + text for text in RACES[case])
    run(ordered, threads=64)
    with pytest.raises(UndefinedBehaviour, match=r"races with .* \(kernel\.cu:2\)"):
        run(racing, threads=64)


def test_shared_memory_starts_with_nan(run):
    assert numpy.isnan(run("__shared__ float s[32]; x[i] = s[i];")).all()


def test_shuffles_from_lanes_that_are_not_there_give_nan(run):
    y = run("x[i] = __shfl_down_sync(~0u, 1.f, 4);", threads=16)
    assert numpy.isnan(y).tolist() == [False] * 12 + [True] * 4
    y = run("if (i < 16) x[i] = __shfl_xor_sync(0xffffu, 1.f, 16);")
    assert numpy.isnan(y).tolist() == [True] * 16 + [False] * 16
