"""Compare gradients of the tape with differences of the function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like
from vdcore.autodiff import value_and_gradients


def check_gradients(
    function: Callable[..., Array],
    arrays: Sequence[Array],
    *,
    directions: int = 2,
    step: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
) -> None:
    """Check the gradients of a function along random directions, in float64.

    For each direction d of unit normal entries, the sum of gradient times d over all
    arrays must equal ``(f(x + h d) - f(x - h d)) / 2h``. One number for all entries at
    once finds a wrong entry as surely as a loop over entries, and far sooner.

    Parameters
    ----------
    function : callable
        Called with the arrays. A result that is not 0-d is multiplied by fixed normal
        numbers and summed. It must give the same result each time: pass noise as an
        argument.
    arrays : sequence of array
        float64, of one registered library, where `function` is smooth.
    directions : int
    step : float
        h; the error of the difference is about h^2 + 1e-16 / h.
    rtol, atol : float
        Allowed: ``rtol * |difference| + atol``.
    seed : int
        Of the directions.

    Raises
    ------
    AssertionError
        If gradient and difference disagree, or a gradient has another shape or dtype
        than its array.
    TypeError
        If an array is not float64.

    Examples
    --------
    >>> check_gradients(lambda x: x * x, [numpy.asarray([1.0, 2.0])])
    >>> from vdcore.autodiff import defvjp_argnums, primitive
    >>> wrong = primitive(lambda x: x * x)
    >>> defvjp_argnums(wrong, lambda argnums, y, args, kwargs: lambda g: [g * args[0]])
    >>> check_gradients(
    ...     wrong, [numpy.asarray([1.0, 2.0])]
    ... )  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: check_gradients: direction 0: the gradient gives 0.0528...
    """
    xp = array_namespace(*arrays)
    for i, x in enumerate(arrays):
        if x.dtype != xp.float64:
            message = f"check_gradients: array {i} must be float64, got {x.dtype}"
            raise TypeError(message)
    rng = numpy.random.default_rng(seed)

    def normal(like: Array) -> Array:
        return asarray_like(numpy.asarray(rng.standard_normal(tuple(like.shape))), like)

    weights = normal(function(*arrays))

    def scalar(*values: Array) -> Array:
        y = function(*values)
        return array_namespace(y, weights).sum(y * weights)

    _, gradients = value_and_gradients(scalar, arrays)
    for i, (x, g) in enumerate(zip(arrays, gradients, strict=True)):
        expected, actual = (tuple(x.shape), x.dtype), (tuple(g.shape), g.dtype)
        if expected != actual:
            message = (
                f"check_gradients: the gradient of array {i} must have shape and dtype "
                f"{expected}, got {actual}"
            )
            raise AssertionError(message)
    for k in range(directions):
        ds = [normal(x) for x in arrays]
        ahead = scalar(*(x + d * step for x, d in zip(arrays, ds, strict=True)))
        behind = scalar(*(x - d * step for x, d in zip(arrays, ds, strict=True)))
        difference = float(ahead - behind) / (2 * step)
        slope = sum(float(xp.sum(g * d)) for g, d in zip(gradients, ds, strict=True))
        if not abs(slope - difference) <= rtol * abs(difference) + atol:
            message = (
                f"check_gradients: direction {k}: the gradient gives {slope:.6g}, the "
                f"difference quotient {difference:.6g}, off by "
                f"{abs(slope - difference):.3g}"
            )
            raise AssertionError(message)
