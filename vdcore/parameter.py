"""A named array that training changes."""

from __future__ import annotations

from typing import Any

from vdcore.arrays import Array, asarray_like, to_device
from vdcore.initializers import Initializer


class Parameter:
    """An array with its gradient.

    Parameters
    ----------
    initializer : Initializer
    shape : tuple of int, optional
        Without it the array is made later, by :meth:`initialize`.
    decays : bool
        Whether weight decay applies. False for log variances, which decay would
        pull to 0, that is to a variance of 1.

    Attributes
    ----------
    array : array or None
        The values; None until the shape is known.
    grad : array or None
        Gradient of the last loss, of the same shape and dtype.
    name : str or None
        Attribute name in the link that owns it.
    trainable : bool
        Whether optimizers change it. Default True.
    """

    def __init__(
        self,
        initializer: Initializer,
        shape: tuple[int, ...] | None = None,
        decays: bool = True,
    ) -> None:
        self.array: Any = None  # an array once the shape is known
        self.grad: Any = None
        self.name: str | None = None
        self.initializer = initializer
        self.decays = decays
        self.trainable = True
        if shape is not None:
            self.initialize(shape)

    @property
    def is_initialized(self) -> bool:
        """Whether the array exists."""
        return self.array is not None

    def initialize(self, shape: tuple[int, ...], like: Array | None = None) -> None:
        """Make the array, in the library and on the device of `like` if given."""
        array = self.initializer(shape)
        self.array = array if like is None else asarray_like(array, like)

    def to_device(self, device: Any) -> None:
        """Move array and gradient; see :func:`vdcore.arrays.to_device`."""
        if self.array is not None:
            self.array = to_device(self.array, device)
        if self.grad is not None:
            self.grad = to_device(self.grad, device)

    def __repr__(self) -> str:
        shape = None if self.array is None else tuple(self.array.shape)
        return f"Parameter({self.name}, shape={shape})"
