"""What layers with a weight array and a bias have in common."""

from __future__ import annotations

from typing import Any

from vdcore import initializers
from vdcore.link import Link
from vdcore.parameter import Parameter


class WeightedLink(Link):
    """Base of layers with weights `W` and, unless it is None, a bias `b`.

    Attributes
    ----------
    W : Parameter
        Made when its shape is known.
    b : Parameter, shape (outputs,), or None
    """

    W: Parameter
    b: Any

    def _setup_weights(
        self, outputs: int, nobias: bool, initialW: Any, initial_bias: Any
    ) -> None:
        self.b = None
        with self.init_scope():
            self.W = Parameter(
                initializers.get_initializer(initialW, initializers.LeCunNormal())
            )
            if not nobias:
                self.b = Parameter(
                    initializers.get_initializer(
                        initial_bias,
                        initializers.Constant(0, self.W.initializer.dtype),
                    ),
                    (outputs,),
                )

    def _check_size(self, argument: str, size: Any) -> int:
        if not isinstance(size, int) or size < 1:
            message = (
                f"{type(self).__name__}: `{argument}` must be a positive integer, "
                f"got {size!r}"
            )
            raise ValueError(message)
        return size
