"""Mean 0 and standard deviation 1, as measured on the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from vdcore.arrays import Array, asarray_like, is_array, to_numpy
from vdcore.serialization import Serializer

ROWS = 1024  # examples in double precision at a time


class Standardization:
    """Subtracts a mean from inputs and divides them by a standard deviation.

    Made by :meth:`fit` from the training inputs, then called on these, on those to
    test with and on all that the model is ever given. A file of it, by
    ``save_npz(path, standardization)``, belongs with the file of the model; an empty
    ``Standardization()`` takes the arrays of a file by ``load_npz``.

    Parameters
    ----------
    mean, std : numpy.ndarray, optional
        Of one shape, which an example broadcasts with; `std` is positive.

    Raises
    ------
    ValueError
        If they are not, or not finite.

    Examples
    --------
    >>> x = numpy.asarray([[1.0, 5.0], [3.0, 5.0]])
    >>> standardize = Standardization.fit(x)
    >>> standardize(x)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> standardize(numpy.asarray([[4.0, 6.0]]))
    array([[2., 1.]])
    """

    def __init__(
        self, mean: numpy.ndarray | None = None, std: numpy.ndarray | None = None
    ) -> None:
        self.mean = mean
        self.std = std
        self._check()

    @classmethod
    def fit(cls, x: Array, axis: int | Sequence[int] = 0) -> Standardization:
        """Measure mean and standard deviation.

        Parameters
        ----------
        x : array, shape (n, ...), floating
            The training inputs, one row an example.
        axis : int or sequence of int
            Axes to average over, among them 0. For images of shape
            ``(n, channels, height, width)``: 0 gives each pixel its own mean,
            ``(0, 2, 3)`` each channel.

        Returns
        -------
        Standardization
            Its arrays have the shape of an example, with 1 in place of an axis
            averaged over, and the dtype of `x`. Where all examples have one value the
            deviation is taken as 1, so that this value becomes 0.

        Raises
        ------
        ValueError
            If `axis` lacks 0 or has one that `x` has not, or a value of `x` is not
            finite.
        TypeError
            If `x` does not hold floating-point numbers.

        Notes
        -----
        The mean of the squared differences from the mean, in double precision (n, not
        n - 1, as in Chainer's examples).
        """
        x = to_numpy(x)
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        if x.ndim < 2 or 0 not in axes or not set(axes) <= set(range(x.ndim)):
            message = (
                "Standardization.fit: `axis` must have 0, the axis of the examples, "
                f"and others of `x` (which has shape {x.shape}), got {axis}"
            )
            raise ValueError(message)
        if not numpy.issubdtype(x.dtype, numpy.floating):
            message = (
                "Standardization.fit: `x` must hold floating-point numbers, got "
                f"{x.dtype}; convert it, for example by x.astype(numpy.float32)"
            )
            raise TypeError(message)
        mean = x.mean(axes, dtype=numpy.float64, keepdims=True)
        if not numpy.isfinite(mean).all():
            message = "Standardization.fit: `x` must be finite, got NaN or infinity"
            raise ValueError(message)
        squares = numpy.zeros_like(mean)
        for start in range(0, len(x), ROWS):
            difference = x[start : start + ROWS] - mean
            squares += numpy.square(difference).sum(axes, keepdims=True)
        std = numpy.sqrt(squares * (mean.size / x.size))
        # Not std == 0: the mean of equal numbers is theirs up to rounding only.
        std[x.min(axes, keepdims=True) == x.max(axes, keepdims=True)] = 1
        return cls(mean[0].astype(x.dtype), std[0].astype(x.dtype))

    def __call__(self, x: Array) -> Array:
        """Standardise inputs.

        Parameters
        ----------
        x : array, shape (batch, ...)
            Inputs of the shape that was measured, of any library; or one of them.

        Returns
        -------
        array, shape of `x`
            A new one.

        Raises
        ------
        RuntimeError
            If nothing was measured or loaded.
        ValueError
            If the shape of `x` does not fit.
        """
        mean, std = self._measured()
        shape = tuple(x.shape)
        row = shape[len(shape) - mean.ndim :]
        if len(row) < mean.ndim or not all(
            ours in (1, theirs) for ours, theirs in zip(mean.shape, row, strict=True)
        ):
            message = (
                "Standardization: the last axes of `x` must fit the measured "
                f"{mean.shape}, got shape {shape}"
            )
            raise ValueError(message)
        y = x - asarray_like(mean, x)
        y /= asarray_like(std, x)
        return y

    def serialize(self, serializer: Serializer) -> None:
        """Read or write mean and standard deviation."""
        if serializer.is_writer:
            self._measured()
        self.mean = serializer("mean", self.mean)
        self.std = serializer("std", self.std)
        self._check()

    def _measured(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        if self.mean is None or self.std is None:
            message = (
                "Standardization: nothing was measured yet; make one by "
                "Standardization.fit(x), or load one"
            )
            raise RuntimeError(message)
        return self.mean, self.std

    def _check(self) -> None:
        if self.mean is None or self.std is None:
            return
        if not (is_array(self.mean) and is_array(self.std)):
            message = "Standardization: `mean` and `std` must be arrays, got numbers"
            raise ValueError(message)
        if self.mean.shape != self.std.shape:
            message = (
                "Standardization: `mean` and `std` must have one shape, got "
                f"{self.mean.shape} and {self.std.shape}"
            )
            raise ValueError(message)
        if not numpy.isfinite([self.mean, self.std]).all():
            message = "Standardization: `mean` and `std` must be finite, got NaN or inf"
            raise ValueError(message)
        if not (self.std > 0).all():
            message = f"Standardization: `std` must be positive, got {self.std.min()}"
            raise ValueError(message)
