"""A torch network whose layers follow one another, as a chain of vdcore's links."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torch import fx, nn

from vdcore import functions as F
from vdcore.backends.pytorch.chain_links import (
    LINKS,
    average_pooling,
    max_pooling,
)
from vdcore.backends.pytorch.variational_module import VariationalModule
from vdcore.chain import Chain

REMEDY = (
    "write its weights by torch_backend.save_safetensors, and load them into a chain "
    "by serializers.load_safetensors"
)


def to_chain(module: nn.Module, in_shape: tuple[int, ...] | None = None) -> Chain:
    """The chain of vdcore's links that computes what a torch network does.

    Parameters
    ----------
    module : nn.Module
        Its forward runs layers one after the other, in ``nn.Sequential`` or not:
        Linear, Conv2d, Embedding and LSTM, variational or plain, BatchNorm1d,
        BatchNorm2d, MaxPool2d, AvgPool2d, Flatten, Dropout, Identity, ReLU, Tanh,
        Sigmoid and Softmax, or the functions of these names; dropout as a function is
        left out.
    in_shape : tuple of int, optional
        Shape of one example, for images.

    Returns
    -------
    Chain
        Its links have the paths of the layers for names, and copies of the weights, in
        the same dtype (half precision becomes float32). Sequences are (time, batch).

    Raises
    ------
    TypeError
        If the network computes anything else; the text names the layer.
    ValueError
        If a layer's arguments have no equivalent, or a parameter is not on the CPU.
    """
    if type(module) in LINKS:
        module = nn.Sequential(module)
    _check_device(module)
    return _Translation(module, in_shape).chain


class _Network(Chain):
    """Links and functions, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str | Callable] = []

    def append_link(self, name: str, link: Any) -> None:
        with self.init_scope():
            setattr(self, name, link)
        self.steps.append(name)

    def forward(self, x: Any) -> Any:
        for step in self.steps:
            x = self[step](x) if isinstance(step, str) else step(x)
        return x


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, VariationalModule):
            return True
        return super().is_leaf_module(module, name)


class _Translation:
    """The chain so far, and what kind of array flows through it."""

    def __init__(self, module: nn.Module, in_shape: tuple[int, ...] | None) -> None:
        self.chain = _Network()
        self.kind = "vectors"
        if in_shape is not None and len(in_shape) > 1:
            self.kind = "images"
        self.name = type(module).__name__
        self.modules = dict(module.named_modules())
        modes = {name: part.training for name, part in self.modules.items()}
        module.eval()  # or functional dropout would be traced as in training
        try:
            graph = _Tracer().trace(module)
        except Exception as error:
            message = (
                f"to_chain: the forward of {self.name} is no plain sequence of layers "
                f"({error}); {REMEDY}"
            )
            raise TypeError(message) from error
        finally:
            for name, training in modes.items():
                self.modules[name].training = training
        self._translate(graph)

    def _translate(self, graph: fx.Graph) -> None:
        latest: Any = None
        sizes: set[Any] = set()  # nodes that stand for sizes of the batch
        for node in graph.nodes:
            if node.op == "placeholder":
                if latest is not None:
                    self.refuse("its forward", "takes more than one argument")
                latest = node
            elif node.op == "output":
                if node.args[0] is not latest:
                    self.refuse("its forward", "returns more than the last activations")
            elif self._is_size(node, latest, sizes):
                sizes.add(node)
            elif node.op == "get_attr":
                self.refuse(f"`{node.target}`", "is used by itself")
            elif node.args and node.args[0] is latest:
                others = [*node.args[1:], *node.kwargs.values()]
                if any(isinstance(x, fx.Node) and x not in sizes for x in others):
                    self.refuse(_name(node), "joins several activations")
                self._append(node, sizes)
                latest = node
            elif node.users:
                self.refuse(
                    _name(node),
                    "uses activations that are not those of the layer before",
                )

    @staticmethod
    def _is_size(node: fx.Node, latest: Any, sizes: set[Any]) -> bool:
        if node.target in ("size", "dim") or (
            node.target is getattr and node.args[1] == "shape"
        ):
            return node.args[0] is latest
        return node.target is operator.getitem and node.args[0] in sizes

    def _append(self, node: fx.Node, sizes: set[Any]) -> None:
        if node.op == "call_module":
            self._append_module(str(node.target), node)
            return
        name = getattr(node.target, "__name__", str(node.target)).rstrip("_")
        if node.target is operator.getitem:
            if self.kind != "states" or node.args[1] != 0:
                self.refuse("`getitem`", "takes a part of the activations")
            self.kind = "sequences"
        elif name in ("view", "reshape"):
            shape = node.args[1:]
            if len(shape) == 1 and isinstance(shape[0], tuple | list):
                shape = tuple(shape[0])
            if len(shape) != 2 or not (
                (shape[0] in sizes and shape[1] == -1)
                or (shape[0] == -1 and isinstance(shape[1], int))
            ):
                self.refuse(f"`{name}`", "does more than flatten each example")
            self.flatten()
        elif name in _FUNCTIONS:
            parameters, build = _FUNCTIONS[name]
            given = dict(zip(parameters, node.args[1:], strict=False)) | node.kwargs
            build(self, given)
        else:
            self.refuse(f"`{name}`", "is no function that a chain of links has")

    def _append_module(self, path: str, node: fx.Node) -> None:
        module = self.modules[path]
        if len(node.args) + len(node.kwargs) > 1:
            self.refuse(f"`{path}`", "takes more than its input")
        if self.kind == "states":
            self.refuse(f"`{path}`", "takes the states of an LSTM; take [0] before")
        if type(module) in LINKS:
            LINKS[type(module)](self, path, module)
        else:
            known = ", ".join(
                sorted(cls.__name__ for cls in LINKS if cls.__module__[:5] == "torch")
            )
            self.refuse(
                f"`{path}`",
                f"is a {type(module).__name__}, of which there is no link; there are "
                f"links for {known}, and for the variational ones",
            )

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raise the TypeError that names a layer."""
        message = f"to_chain: {what} of {self.name} {why}; {REMEDY}"
        raise TypeError(message)

    def require(self, path: str, module: nn.Module, **expected: Any) -> None:
        """Raise unless attributes of a layer have these values."""
        for attribute, value in expected.items():
            found = getattr(module, attribute)
            if found != value:
                message = (
                    f"to_chain: `{path}`, a {type(module).__name__}, must have "
                    f"`{attribute}` = {value!r}, got {found!r}; change it, or {REMEDY}"
                )
                raise ValueError(message)

    def flatten(self) -> None:
        """Images become vectors."""
        if self.kind == "sequences":
            self.refuse("`flatten`", "joins the steps of sequences")
        self.chain.steps.append(F.flatten)
        self.kind = "vectors"

    def softmax(self, dim: Any) -> None:
        """Only along the classes."""
        axes = {"vectors": (1, -1), "sequences": (2, -1)}.get(self.kind, ())
        if dim not in axes:
            self.refuse("`softmax`", f"is along axis {dim} of {self.kind}")
        self.chain.steps.append(F.softmax)

    def pool(self, kind: str, size: Any, stride: Any, pad: Any, **options: Any) -> None:
        """Pooling of images."""
        function = getattr(F, f"{kind}_pooling_2d")
        stride = size if stride is None else stride
        self.chain.steps.append(lambda x: function(x, size, stride, pad, **options))


def _function_of(name: str) -> Callable[[_Translation, dict[str, Any]], None]:
    return lambda to, given: to.chain.steps.append(getattr(F, name))


def _flatten_function(to: _Translation, given: dict[str, Any]) -> None:
    if given.get("start_dim", 0) != 1 or given.get("end_dim", -1) != -1:
        to.refuse("`flatten`", "does more than flatten each example")
    to.flatten()


def _dropout_function(to: _Translation, given: dict[str, Any]) -> None:
    if given.get("training", True):
        to.refuse("`dropout`", "drops in evaluation too; pass training=self.training")


def _max_pooling_function(to: _Translation, given: dict[str, Any]) -> None:
    max_pooling(to, "max_pool2d", nn.MaxPool2d(**_known(given)))


def _average_pooling_function(to: _Translation, given: dict[str, Any]) -> None:
    average_pooling(to, "avg_pool2d", nn.AvgPool2d(**_known(given)))


def _known(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


_WINDOW = ("kernel_size", "stride", "padding")
_FUNCTIONS: Mapping[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "relu": (("inplace",), _function_of("relu")),
    "tanh": ((), _function_of("tanh")),
    "sigmoid": ((), _function_of("sigmoid")),
    "softmax": (("dim",), lambda to, given: to.softmax(given.get("dim"))),
    "flatten": (("start_dim", "end_dim"), _flatten_function),
    "dropout": (("p", "training"), _dropout_function),
    "max_pool2d": ((*_WINDOW, "dilation", "ceil_mode"), _max_pooling_function),
    "boolean_dispatch": ((*_WINDOW, "dilation", "ceil_mode"), _max_pooling_function),
    "avg_pool2d": (
        (*_WINDOW, "ceil_mode", "count_include_pad", "divisor_override"),
        _average_pooling_function,
    ),
}


def _name(node: fx.Node) -> str:
    return f"`{getattr(node.target, '__name__', node.target)}`"


def _check_device(module: nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.device.type != "cpu":
            message = (
                f"to_chain: `{name}` must be on the CPU, got a tensor on "
                f"{tensor.device}; move the network by `module.cpu()`"
            )
            raise ValueError(message)
