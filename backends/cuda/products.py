"""Products of stacks of matrices, by cuBLAS.

CuPy's own ``matmul`` of stacks copies operands that are transposed, and knows nothing
of the precision that is asked for; so cuBLAS is called here, through CuPy's interface.
"""

from __future__ import annotations

import cupy
import numpy

from vdcore.backends.cuda.precision import allows_tf32

_ONE, _ZERO = numpy.ones(1, numpy.float32), numpy.zeros(1, numpy.float32)
_NOT_TRANSPOSED, _TRANSPOSED = 0, 1
_REAL_32 = 0  # CUDA_R_32F


def multiply(
    a: cupy.ndarray,
    b: cupy.ndarray,
    out: cupy.ndarray | None = None,
    *,
    accumulate: bool = False,
) -> cupy.ndarray:
    """Products of the matrices of two stacks.

    Parameters
    ----------
    a : array, shape (count, rows, depth)
    b : array, shape (count, depth, columns)
        Both float32. The matrices may lie row by row or column by column, with gaps
        between those, and anywhere: views of larger arrays and transposes are fine.
    out : array, shape (count, rows, columns), optional
        Takes the result; each matrix lies row by row.
    accumulate : bool
        Add the result to what `out` holds.

    Returns
    -------
    array, shape (count, rows, columns)
    """
    count, rows, depth = a.shape
    columns = b.shape[2]
    if out is None:
        out = cupy.empty((count, rows, columns), a.dtype)
    cublas = cupy.cuda.cublas
    compute = cublas.CUBLAS_COMPUTE_32F
    if allows_tf32():
        compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    # Matrices are column by column to cuBLAS, so that it sees each transposed, and the
    # transposed product is that of the transposed factors in the other order.
    cublas.gemmStridedBatchedEx(
        cupy.cuda.get_cublas_handle(), _operation(b), _operation(a), columns, rows,
        depth, _ONE.ctypes.data, *_matrices(b), *_matrices(a),
        (_ONE if accumulate else _ZERO).ctypes.data, *_matrices(out), count, compute,
        cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip
    return out


def _operation(x: cupy.ndarray) -> int:
    return _NOT_TRANSPOSED if _is_row_by_row(x) else _TRANSPOSED


def _is_row_by_row(x: cupy.ndarray) -> bool:
    return x.strides[2] == x.itemsize or x.shape[2] == 1


def _matrices(x: cupy.ndarray) -> tuple[int, int, int, int]:
    """Address, type, and the steps from row (or column) and matrix to the next."""
    axis = 1 if _is_row_by_row(x) else 2
    # A single row may have any step, and too small a one would be refused.
    step = max(x.strides[axis] // x.itemsize, x.shape[3 - axis])
    return x.data.ptr, _REAL_32, step, x.strides[0] // x.itemsize
