"""CuPy's errors, and the one that only the emulation raises."""

from __future__ import annotations

# Of CUDA's runtime.
INVALID_VALUE = "cudaErrorInvalidValue"
NO_DEVICE = "cudaErrorNoDevice"
INVALID_DEVICE = "cudaErrorInvalidDevice"
CAPTURE_UNSUPPORTED = "cudaErrorStreamCaptureUnsupported"
CAPTURE_INVALIDATED = "cudaErrorStreamCaptureInvalidated"
CAPTURE_UNJOINED = "cudaErrorStreamCaptureUnjoined"
CAPTURE_ISOLATION = "cudaErrorStreamCaptureIsolation"
CAPTURE_IMPLICIT = "cudaErrorStreamCaptureImplicit"
# Of its driver.
BAD_LAUNCH = "CUDA_ERROR_INVALID_VALUE"
NO_SUCH_SYMBOL = "CUDA_ERROR_NOT_FOUND"

MESSAGES = {
    INVALID_VALUE: (1, "invalid argument"),
    NO_DEVICE: (100, "no CUDA-capable device is detected"),
    INVALID_DEVICE: (101, "invalid device ordinal"),
    CAPTURE_UNSUPPORTED: (900, "operation not permitted when stream is capturing"),
    CAPTURE_INVALIDATED: (
        901,
        "operation failed due to a previous error during capture",
    ),
    CAPTURE_UNJOINED: (904, "capturing stream has unjoined work"),
    CAPTURE_ISOLATION: (905, "dependency created on uncaptured work in another stream"),
    CAPTURE_IMPLICIT: (
        906,
        "operation would make the legacy stream depend on a capturing blocking stream",
    ),
    BAD_LAUNCH: (1, "invalid argument"),
    NO_SUCH_SYMBOL: (500, "named symbol not found"),
}


class _StatusError(RuntimeError):
    def __init__(self, name: str) -> None:
        self.status, message = MESSAGES[name]
        super().__init__(f"{name}: {message}")


class CUDARuntimeError(_StatusError):
    """An error of CUDA's runtime; `status` is its number."""

    __module__ = "cupy_backends.cuda.api.runtime"


class CUDADriverError(_StatusError):
    """An error of CUDA's driver; `status` is its number."""

    __module__ = "cupy_backends.cuda.api.driver"


class OutOfMemoryError(MemoryError):
    """There is less memory than is asked for."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(
            f"Out of memory allocating {size:,} bytes "
            f"(allocated so far: {total:,} bytes{limited})."
        )


class CompileException(Exception):
    """A kernel's source is not CUDA C++."""

    __module__ = "cupy.cuda.compiler"


class UndefinedBehaviour(AssertionError):
    """What a device does here is undefined: a fault that might go unnoticed on one."""
