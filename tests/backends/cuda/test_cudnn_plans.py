"""cuDNN has plans for the networks of the examples, on a GPU that need not be there.

That needs nvidia-cudnn-frontend, cuDNN and a library of that name as CUDA's driver.
"""

from __future__ import annotations

import json

import pytest

from tests.backends.cuda._convolutions import CASES
from tests.conftest import _skip
from vdcore.windows import Window

OPERATIONS = ("conv_fprop", "conv_dgrad", "conv_wgrad")
# An H200: what cuDNN's own text about one has.
HOPPER = {
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "multiProcessorCount": 132, "smCountOrigin": 0,
    "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "oversizedSharedMemoryPerBlock": 0,
    "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,
    "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
    "totalGlobalMem": 150754820096, "smClockRateKHz": 1980000,
    "memClockRateKHz": 3201000, "memoryBusWidth": 6144, "l2CacheSize": 62914560,
    "cudaDeviceId": 0, "deviceVer": 900, "driverVer": 13000,
    "deviceName": "NVIDIA H200",
}  # fmt: skip


@pytest.fixture(scope="module")
def plans():
    """The module under test: it can be imported with CuPy only."""
    from tests.conftest import make_library

    make_library("cupy")
    from vdcore.backends.cuda import cudnn_plans

    return cudnn_plans


@pytest.fixture(scope="module")
def target(plans):
    """The GPU, as ``cudnn.pygraph`` takes it."""
    from vdcore.backends.cuda.cudnn_library import UnsupportedError

    try:
        cudnn = plans.frontend()
        properties = cudnn.create_device_properties(json.dumps(HOPPER))
    except (UnsupportedError, RuntimeError) as error:
        _skip("cudnn", f"cuDNN cannot plan: {str(error).splitlines()[0]}")
    return {"device_property": properties, "sm_version": 90}


def lenet5(batch):
    """Shapes of images, and channels of the result."""
    window = Window((5, 5))
    yield (batch, 28, 28, 1), 20, window
    yield (batch, 12, 12, 20), 50, window


def vgg16(batch):
    window = Window((3, 3), pad=(1, 1))
    channels, size = 3, 32
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            yield (batch, size, size, channels), outputs, window
            channels = outputs
        size //= 2


NETWORKS = sorted({*lenet5(100), *lenet5(1), *vgg16(128), *vgg16(100), *vgg16(16)})


@pytest.mark.parametrize("tf32", [False, True], ids=["float32", "tf32"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_networks_have_plans(plans, target, operation, tf32):
    for case in NETWORKS:
        geometry = plans.Geometry(*case, groups=1)
        graph, tensors = plans.build(operation, geometry, tf32, **target)
        assert len(tensors) == 3
        assert graph.get_workspace_size() <= plans.WORKSPACE_LIMIT


@pytest.mark.parametrize("tf32", [False, True], ids=["float32", "tf32"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_convolutions_have_plans(plans, target, case, operation, tf32):
    geometry = plans.Geometry(*case)
    graph, _ = plans.build(operation, geometry, tf32, **target)
    assert graph.get_workspace_size() <= plans.WORKSPACE_LIMIT


def test_float32_has_plans_without_tensor_cores_only(plans, target):
    """Otherwise the choice of precision would be one in name."""
    geometry = plans.Geometry((128, 16, 16, 64), 64, Window((3, 3), pad=(1, 1)), 1)
    exact, _ = plans.build("conv_fprop", geometry, False, **target)
    fast, _ = plans.build("conv_fprop", geometry, True, **target)
    # Tensor cores take images with their channels last as they are.
    assert fast.get_workspace_size() < exact.get_workspace_size()


def test_what_has_no_plan_is_told(plans, target):
    from vdcore.backends.cuda.cudnn_library import frontend

    geometry = plans.Geometry((2, 4, 4, 3), 4, Window((3, 3)), 2)  # 3 channels, halved
    errors = (RuntimeError, frontend().cudnnGraphNotSupportedError)
    with pytest.raises(errors):
        plans.build("conv_fprop", geometry, False, **target)
