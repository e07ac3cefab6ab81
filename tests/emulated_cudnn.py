"""cuDNN's Python frontend without cuDNN: convolutions by NumPy, on an emulated CuPy.

It takes calls in the one order that works, arrays that are where they are said to be,
and no other stream than the current one. Of a convolution it has several plans, as
cuDNN has, and all but the last two of them are of no use.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy

from tests.emulated_cupy import streams
from tests.emulated_cupy.cublas import _rounded
from tests.emulated_cupy.errors import UndefinedBehaviour
from tests.emulated_cupy.memory import Memory, memory_at

ALIGNMENT = 16
STEPS = (
    "pygraph validate build_operation_graph create_execution_plans check_support "
    "build_plans"
).split()


class data_type(enum.Enum):
    NOT_SET = enum.auto()
    HALF = enum.auto()
    FLOAT = enum.auto()


class heur_mode(enum.Enum):
    A = enum.auto()
    B = enum.auto()
    FALLBACK = enum.auto()


class numerical_note(enum.Enum):
    TENSOR_CORE = enum.auto()
    DOWN_CONVERT_INPUTS = enum.auto()
    REDUCED_PRECISION_REDUCTION = enum.auto()
    FFT = enum.auto()
    NONDETERMINISTIC = enum.auto()
    WINOGRAD = enum.auto()


class cudnnGraphNotSupportedError(Exception):
    """Not a RuntimeError, just as the frontend's."""


class Candidate(NamedTuple):
    """A plan that may be chosen."""

    notes: frozenset[numerical_note]
    workspace_size: int
    is_of_use: bool


def _candidates() -> list[Candidate]:
    note = numerical_note
    useless = [{n} for n in note if n is not note.TENSOR_CORE]
    useless.append({note.TENSOR_CORE, note.NONDETERMINISTIC})
    return [
        *(Candidate(frozenset(notes), 0, False) for notes in useless),
        Candidate(frozenset(), 2**40, False),
        Candidate(frozenset({note.TENSOR_CORE}), 0, True),
        Candidate(frozenset(), 131, True),
    ]


class Tensor:
    """Where an array's elements will lie."""

    def __init__(self, dim: list[int], stride: list[int]) -> None:
        self.is_output = False
        self.set_dim(dim).set_stride(stride)

    def set_dim(self, dim: list[int]) -> Tensor:
        assert len(dim) == 4
        assert all(type(n) is int and n > 0 for n in dim)
        self.dim = tuple(dim)
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        assert len(stride) == 4
        assert all(type(n) is int and n > 0 for n in stride)
        self.stride = tuple(stride)
        return self

    def set_output(self, value: bool) -> Tensor:
        self.is_output = value
        return self

    def at(self, address: int) -> tuple[numpy.ndarray, Memory]:
        """The elements, and the memory that they lie in."""
        memory = memory_at([address]).get(address)
        if memory is None or address % ALIGNMENT:
            message = f"cudnn: there is no array at {address:#x}, or not on 16 bytes"
            raise UndefinedBehaviour(message)
        offset, strides = address - memory.ptr, [4 * n for n in self.stride]
        try:
            values = numpy.ndarray(
                self.dim, numpy.float32, memory._bytes, offset, strides
            )
        except (TypeError, ValueError) as error:
            message = f"cudnn: {self.dim} reaches outside of its array"
            raise UndefinedBehaviour(message) from error
        return values, memory


class Convolution(NamedTuple):
    """An operation, and the tensors of it that are given and made."""

    name: str
    operands: list[Tensor]
    result: Tensor
    padding: list[int]
    stride: list[int]
    dilation: list[int]

    def tensors(self) -> list[Any]:
        """Images, weights and products, of which the result is one."""
        first, second, made = *self.operands, self.result
        return {
            "conv_fprop": [first, second, made],
            "conv_dgrad": [made, second, first],
            "conv_wgrad": [first, made, second],
        }[self.name]

    def check(self) -> None:
        """Refuse dimensions that are not those of one convolution."""
        images, weights, products = (tensor.dim for tensor in self.tensors())
        groups, rest = divmod(images[1], weights[1])
        spans = [(weights[k + 2] - 1) * self.dilation[k] + 1 for k in (0, 1)]
        positions = tuple(
            (images[k + 2] + 2 * self.padding[k] - spans[k]) // self.stride[k] + 1
            for k in (0, 1)
        )
        expected = (images[0], weights[0], *positions)
        if rest or weights[0] % groups or products != expected:
            message = f"{self.name} of {images} by {weights} is not {products}"
            raise cudnnGraphNotSupportedError(message)

    def compute(self, images: Any, weights: Any, products: Any) -> None:
        """Write into that of them which is the result."""
        outputs, channels, rows, columns = weights.shape
        groups = images.shape[1] // channels
        top, left = self.padding
        padded = numpy.pad(
            images.astype(float), ((0, 0), (0, 0), (top, top), (left, left))
        )
        batch, _, *positions = products.shape
        if self.name == "conv_dgrad":
            padded[...] = 0
        grouped = padded.reshape(batch, groups, channels, *padded.shape[2:])
        w = weights.reshape(groups, outputs // groups, *weights.shape[1:])
        y = products.reshape(batch, groups, -1, *positions).astype(float)
        w, sums = w.astype(float), numpy.zeros(y.shape)
        for row, column in itertools.product(range(rows), range(columns)):
            met = grouped[
                ...,
                _steps(row * self.dilation[0], positions[0], self.stride[0]),
                _steps(column * self.dilation[1], positions[1], self.stride[1]),
            ]
            if self.name == "conv_fprop":
                sums += numpy.einsum("ngcpq,gkc->ngkpq", met, w[..., row, column])
            elif self.name == "conv_dgrad":
                met += numpy.einsum("ngkpq,gkc->ngcpq", y, w[..., row, column])
            else:
                w[..., row, column] = numpy.einsum("ngkpq,ngcpq->gkc", y, met)
        if self.name == "conv_fprop":
            products[...] = sums.reshape(products.shape)
        elif self.name == "conv_dgrad":
            height, width = images.shape[2:]
            images[...] = padded[:, :, top : top + height, left : left + width]
        else:
            weights[...] = w.reshape(weights.shape)


def _steps(start: int, count: int, stride: int) -> slice:
    return slice(start, start + (count - 1) * stride + 1, stride)


class Handle:
    """Made on a device, for a stream."""

    stream = 0


class Emulation(ModuleType):
    """The module ``cudnn``.

    Attributes
    ----------
    refuses : callable
        Whether there is no plan for an operation of this name.
    built : list of str
        Operations that were planned.
    executed : int
        How often a plan was executed.
    """

    data_type, heur_mode, numerical_note = data_type, heur_mode, numerical_note
    cudnnGraphNotSupportedError = cudnnGraphNotSupportedError
    __version__ = "1.32.0"

    def __init__(self, refuses: Callable[[str], bool] = lambda name: False) -> None:
        super().__init__("cudnn", "Emulated.")
        self.refuses = refuses
        self.built: list[str] = []
        self.executed = 0

    def backend_version(self) -> int:
        return 92800

    def create_handle(self) -> Handle:
        streams.refuse_while_capturing()
        return Handle()

    def set_stream(self, handle: Handle, stream: int) -> None:
        assert type(stream) is int
        handle.stream = stream

    def pygraph(self, **options: Any) -> Graph:
        return Graph(self, **options)


class Graph:
    """A graph of one convolution."""

    def __init__(
        self,
        cudnn: Emulation,
        io_data_type: data_type,
        intermediate_data_type: data_type,
        compute_data_type: data_type,
        handle: Handle,
    ) -> None:
        kinds = {io_data_type, intermediate_data_type, compute_data_type}
        assert kinds == {data_type.FLOAT}
        assert isinstance(handle, Handle)
        self._cudnn = cudnn
        self._done = ["pygraph"]
        self._candidates = _candidates()

    def tensor(self, dim: list[int], stride: list[int]) -> Tensor:
        return Tensor(dim, stride)

    def conv_fprop(self, image: Tensor, weight: Tensor, **steps: list[int]) -> Tensor:
        return self._convolution("conv_fprop", image, weight, steps)

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **steps: list[int]) -> Tensor:
        return self._convolution("conv_dgrad", loss, filter, steps)

    def conv_wgrad(self, image: Tensor, loss: Tensor, **steps: list[int]) -> Tensor:
        return self._convolution("conv_wgrad", image, loss, steps)

    def _convolution(
        self, name: str, first: Tensor, second: Tensor, steps: dict[str, list[int]]
    ) -> Tensor:
        assert not hasattr(self, "_operation")
        assert all(isinstance(pair, list) and len(pair) == 2 for pair in steps.values())
        result = Tensor([1] * 4, [1] * 4)
        self._operation = Convolution(name, [first, second], result, **steps)
        return result

    def _step(self, name: str) -> None:
        assert self._done == STEPS[: STEPS.index(name)], self._done
        streams.refuse_while_capturing()
        self._done.append(name)

    def validate(self) -> None:
        self._step("validate")
        assert self._operation.result.is_output
        self._operation.check()

    def build_operation_graph(self) -> None:
        self._step("build_operation_graph")

    def create_execution_plans(self, modes: list[heur_mode]) -> None:
        self._step("create_execution_plans")
        assert modes == [heur_mode.A, heur_mode.FALLBACK]

    def deselect_numeric_notes(self, notes: list[numerical_note]) -> None:
        assert self._done[-1] == "create_execution_plans"
        self._keep(lambda candidate: not candidate.notes & set(notes))

    def deselect_workspace_greater_than(self, limit: int) -> None:
        assert self._done[-1] == "create_execution_plans"
        self._keep(lambda candidate: candidate.workspace_size <= limit)

    def _keep(self, condition: Callable[[Candidate], bool]) -> None:
        self._candidates = [*filter(condition, self._candidates)]

    def check_support(self) -> None:
        self._step("check_support")
        if not self._candidates or self._cudnn.refuses(self._operation.name):
            message = "No execution plans support the graph."
            raise cudnnGraphNotSupportedError(message)

    def build_plans(self) -> None:
        self._step("build_plans")
        self._cudnn.built.append(self._operation.name)

    @property
    def _chosen(self) -> Candidate:
        assert self._done == STEPS
        return self._candidates[0]

    def get_workspace_size(self) -> int:
        return self._chosen.workspace_size

    def execute(
        self, arrays: dict[Tensor, int], workspace: int, handle: Handle
    ) -> None:
        """Do it on the current stream, which must be the handle's."""
        operation, chosen = self._operation, self._chosen
        if handle.stream != streams.current_stream().ptr:
            message = "cudnn: the handle's stream is not the current one"
            raise UndefinedBehaviour(message)
        found = [tensor.at(arrays[tensor]) for tensor in operation.tensors()]
        values, memories = map(list, zip(*found, strict=True))
        for place, tensor in enumerate(operation.tensors()):
            if tensor is operation.result:
                others = values[:place] + values[place + 1 :]
                assert not any(numpy.may_share_memory(values[place], x) for x in others)
        scratch = memory_at([workspace])[workspace]
        assert chosen.workspace_size <= scratch.ptr + scratch.size - workspace

        def work() -> None:
            scratch._bytes[...] = 0xFF
            factors = list(values)
            for place, tensor in enumerate(operation.tensors()):
                is_given = tensor is not operation.result
                if is_given and numerical_note.TENSOR_CORE in chosen.notes:
                    factors[place] = _rounded(values[place])
            operation.compute(*factors)
            if not chosen.is_of_use:
                operation.result.at(arrays[operation.result])[0][...] = numpy.nan

        self._cudnn.executed += 1
        streams.run(work, [memory._block for memory in (*memories, scratch)])
