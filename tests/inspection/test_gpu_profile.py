"""The table of what a GPU did."""

import pytest

from vdcore.inspection.gpu_profile import tabulated


def event(name, duration, cat="kernel", size=None):
    args = {} if size is None else {"bytes": size}
    return {"cat": cat, "name": name, "dur": duration, "args": args}


TRACE = [
    event("gemm", 10.0),
    event("gemm", 14.0),
    event("adam", 2.0),
    event("Memcpy HtoD (Pinned -> Device)", 1.0, "gpu_memcpy", 64),
    event("cudaLaunchKernel", 5.0, "cuda_runtime"),
]


def test_kernels_by_time_and_copies_by_direction():
    lines = tabulated(TRACE, 2, 40.0).splitlines()
    assert lines[1].split() == ["1.00", "12.00", "gemm"]
    assert lines[2].split() == ["0.50", "1.00", "adam"]
    assert "copies to the GPU: 0.50 a step, 32 bytes a step" in lines
    assert "copies from the GPU: 0.00 a step, 0 bytes a step" in lines
    assert lines[-1] == "1.5 kernels a step; the GPU worked 14 of 20 us a step"


def test_a_record_without_a_gpu():
    with pytest.raises(RuntimeError, match="no work of a GPU"):
        tabulated([event("cudaLaunchKernel", 5.0, "cuda_runtime")], 1, 1.0)
