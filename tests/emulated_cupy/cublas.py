"""``cupy.cuda.cublas``: products of stacks of matrices given by their addresses."""

from __future__ import annotations

import ctypes

import numpy

from tests.emulated_cupy import streams
from tests.emulated_cupy.errors import UndefinedBehaviour
from tests.emulated_cupy.memory import Memory, memory_at

__all__ = [
    "CUBLAS_COMPUTE_32F",
    "CUBLAS_COMPUTE_32F_FAST_TF32",
    "CUBLAS_GEMM_DEFAULT",
    "CUBLASError",
    "gemmStridedBatchedEx",
]

CUBLAS_COMPUTE_32F = 68
CUBLAS_COMPUTE_32F_FAST_TF32 = 77
CUBLAS_GEMM_DEFAULT = -1
REAL_32 = 0  # CUDA_R_32F
HANDLE = 1


class CUBLASError(RuntimeError):
    """An error of cuBLAS; `status` is its number."""

    __module__ = "cupy_backends.cuda.libs.cublas"

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__("CUBLAS_STATUS_INVALID_VALUE")


def get_cublas_handle() -> int:
    """The handle of the current device."""
    return HANDLE


def gemmStridedBatchedEx(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int,
    Atype: int, lda: int, strideA: int, B: int, Btype: int, ldb: int, strideB: int,
    beta: int, C: int, Ctype: int, ldc: int, strideC: int, batchCount: int,
    computeType: int, algo: int,
) -> None:  # fmt: skip
    """``C = alpha op(A) op(B) + beta C`` of matrices that lie column by column."""
    computes = (CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32)
    if (
        handle != HANDLE
        or {Atype, Btype, Ctype} != {REAL_32}
        or computeType not in computes
        or algo != CUBLAS_GEMM_DEFAULT
        or min(m, n, k, batchCount) < 0
        or lda < max(1, k if transa else m)
        or ldb < max(1, n if transb else k)
        or ldc < max(1, m)
    ):
        raise CUBLASError(7)
    # These lie on the host, and are read now.
    scale, kept = (ctypes.c_float.from_address(place).value for place in (alpha, beta))
    a, memory_a = _matrices("A", A, transa, m, k, lda, strideA, batchCount)
    b, memory_b = _matrices("B", B, transb, k, n, ldb, strideB, batchCount)
    c, memory_c = _matrices("C", C, 0, m, n, ldc, strideC, batchCount)

    def work() -> None:
        factors = (a, b)
        if computeType == CUBLAS_COMPUTE_32F_FAST_TF32:
            factors = (_rounded(a), _rounded(b))
        product = numpy.float32(scale) * numpy.matmul(*factors)
        # With beta 0 what C holds is not read.
        c[...] = product if kept == 0 else product + numpy.float32(kept) * c

    memories = [x for x in (memory_a, memory_b, memory_c) if x is not None]
    streams.run(work, [memory._block for memory in memories])


def _matrices(
    name: str, address: int, transposed: int, rows: int, columns: int, step: int,
    stride: int, count: int,
) -> tuple[numpy.ndarray, Memory | None]:  # fmt: skip
    """Views of memory, shape (count, rows, columns), and the memory."""
    shape = (count, rows, columns)
    if 0 in shape:
        return numpy.zeros(shape, numpy.float32), None
    steps = (stride, step, 1) if transposed else (stride, 1, step)
    size = 4 + 4 * sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    memory = memory_at([address]).get(address)
    if memory is None or address + size > memory.ptr + memory.size:
        message = f"gemmStridedBatchedEx: {name} reaches outside of its array"
        raise UndefinedBehaviour(message)
    first = address - memory.ptr
    values = memory._bytes[first : first + size].view(numpy.float32)
    strides = [4 * step for step in steps]
    return numpy.ndarray(shape, numpy.float32, values, strides=strides), memory


def _rounded(x: numpy.ndarray) -> numpy.ndarray:
    """To 10 bits of mantissa, to the nearest."""
    bits = x.astype(numpy.float32).view(numpy.uint32)
    half = numpy.uint32(0x0FFF) + (bits >> 13 & 1)
    return ((bits + half) & numpy.uint32(0xFFFFE000)).view(numpy.float32)
