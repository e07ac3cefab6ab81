"""cuDNN's plans for convolutions, by NVIDIA's Python frontend: made once, and kept."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import cupy
import numpy

from vdcore.backends.cuda.cudnn_library import UnsupportedError, frontend, handle
from vdcore.backends.cuda.precision import allows_tf32
from vdcore.windows import Window

ALIGNMENT = 16  # bytes: the frontend promises cuDNN that arrays begin at multiples
WORKSPACE_LIMIT = 2**30  # bytes

# What each takes, by the names of its arguments, and makes: parts of a geometry.
_OPERATIONS = {
    "conv_fprop": ({"image": "images", "weight": "weights"}, "products"),
    "conv_dgrad": ({"loss": "products", "filter": "weights"}, "images"),
    "conv_wgrad": ({"image": "images", "loss": "products"}, "weights"),
}
# What a plan must not do. Two runs are to give the same bits. And Winograd's transforms
# and Fourier's are off by a share of the largest number around, not of the result: a
# small variance, of which noisy layers take the root, would come out below 0.
_REFUSED = (
    "NONDETERMINISTIC DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION WINOGRAD FFT"
).split()
_TF32 = "TENSOR_CORE"  # they multiply no other numbers than these, of float32 ones


class Geometry(NamedTuple):
    """What the plans of a convolution depend on, besides precision and device.

    Attributes
    ----------
    images : tuple of int
        Their shape, (batch, height, width, channels).
    outputs : int
        Channels of the result.
    window : Window
    groups : int
    """

    images: tuple[int, ...]
    outputs: int
    window: Window
    groups: int

    @property
    def weights(self) -> tuple[int, ...]:
        """Their shape, (outputs, rows, columns, channels of a group)."""
        return (self.outputs, *self.window.size, self.images[3] // self.groups)

    @property
    def products(self) -> tuple[int, ...]:
        """The result's shape, (batch, out_height, out_width, outputs)."""
        batch, height, width, _ = self.images
        return (batch, *self.window.positions((height, width)), self.outputs)


class Plan:
    """One operation as cuDNN does it, for one device and one thread.

    Parameters
    ----------
    operation : {"conv_fprop", "conv_dgrad", "conv_wgrad"}
        Products of images and weights; from slopes and weights, the gradient by images;
        from images and slopes, that by weights.
    geometry : Geometry
    tf32 : bool
    handle : cudnn.Handle
    """

    def __init__(
        self, operation: str, geometry: Geometry, tf32: bool, handle: Any
    ) -> None:
        self._handle = handle
        self._graph, self._tensors = build(operation, geometry, tf32, handle=handle)
        self._workspace_size = self._graph.get_workspace_size()

    def run(self, *calls: Iterable[cupy.ndarray]) -> None:
        """Do it one or several times, on the current stream.

        Parameters
        ----------
        *calls : sequence of array
            Both operands, in this order, and what takes the result; contiguous.

        Raises
        ------
        UnsupportedError
            If an array does not begin on 16 bytes.
        """
        addresses = [[array.data.ptr for array in call] for call in calls]
        if any(address % ALIGNMENT for call in addresses for address in call):
            message = f"an array does not begin at a multiple of {ALIGNMENT} bytes"
            raise UnsupportedError(message)
        stream = cupy.cuda.get_current_stream()
        frontend().set_stream(handle=self._handle, stream=stream.ptr)
        # From CuPy's allocator, for a recorded step keeps what is taken from its own.
        workspace = cupy.empty(max(1, self._workspace_size), numpy.uint8)
        for call in addresses:
            arrays = dict(zip(self._tensors, call, strict=True))
            self._graph.execute(arrays, workspace.data.ptr, handle=self._handle)


def plan_for(operation: str, geometry: Geometry) -> Plan:
    """The plan for the current device, thread and precision.

    Raises
    ------
    UnsupportedError
        If cuDNN has none, or is not there.
    ImportError
        If the frontend is too old.
    """
    device, thread = cupy.cuda.runtime.getDevice(), threading.get_ident()
    found = _plan(operation, geometry, allows_tf32(), device, thread)
    if isinstance(found, str):
        raise UnsupportedError(found)
    return found


# Never given up: the code of a plan's kernels may be the plan's own, and a recorded
# step needs it for as long as it is repeated.
@functools.cache
def _plan(
    operation: str, geometry: Geometry, tf32: bool, device: int, thread: int
) -> Plan | str:
    """The plan, or why there is none."""
    errors = (RuntimeError, frontend().cudnnGraphNotSupportedError)
    try:
        return Plan(operation, geometry, tf32, handle(device, thread))
    except errors as error:
        return f"{operation} of {geometry}: {error}"


def build(
    operation: str, geometry: Geometry, tf32: bool, **target: Any
) -> tuple[Any, list[Any]]:
    """Let cuDNN plan an operation.

    Parameters
    ----------
    operation : {"conv_fprop", "conv_dgrad", "conv_wgrad"}
    geometry : Geometry
    tf32 : bool
    **target
        What it is for, as ``cudnn.pygraph`` takes it: a handle, or the properties of a
        device that is not there.

    Returns
    -------
    graph : cudnn.pygraph
    tensors : list
        Both operands and the result.
    """
    cudnn = frontend()
    float32 = cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        io_data_type=float32,
        intermediate_data_type=float32,
        compute_data_type=float32,
        **target,
    )
    arguments, result = _OPERATIONS[operation]
    operands = {
        name: graph.tensor(**_layout(getattr(geometry, part)))
        for name, part in arguments.items()
    }
    window = geometry.window
    steps = {"padding": window.pad, "stride": window.stride, "dilation": window.dilate}
    lists = {name: [*pair] for name, pair in steps.items()}
    output = getattr(graph, operation)(**operands, **lists)
    layout = _layout(getattr(geometry, result))
    output.set_output(True).set_dim(layout["dim"]).set_stride(layout["stride"])
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    refused = _REFUSED if tf32 else [*_REFUSED, _TF32]
    notes = [getattr(cudnn.numerical_note, name) for name in refused]
    graph.deselect_numeric_notes(notes)
    graph.deselect_workspace_greater_than(WORKSPACE_LIMIT)
    graph.check_support()
    graph.build_plans()
    return graph, [*operands.values(), output]


def _layout(shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Axes as cuDNN counts them, the channels second, and their steps in memory."""
    steps = [math.prod(shape[axis + 1 :]) for axis in range(4)]
    order = (0, 3, 1, 2)
    return {
        "dim": [shape[axis] for axis in order],
        "stride": [steps[axis] for axis in order],
    }
