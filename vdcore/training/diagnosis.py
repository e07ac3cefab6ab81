"""Where a loss that is not finite comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vdcore.arrays import array_namespace, is_array, untraced
from vdcore.link import Link, observe_calls


def locate_non_finite(
    model: Link,
    lossfun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> str:
    """Say which comes first: the batch, a parameter, or a layer's output.

    Parameters
    ----------
    model : Link
    lossfun : callable
        Evaluated once more on the batch, if batch and parameters are finite. Noise is
        drawn anew, so that a rare event may not repeat itself; then that is said.
    args, kwargs
        The batch: arguments of `lossfun`.

    Returns
    -------
    str
        For example ``"the output of link '/l2' (Linear) is not finite, its input is"``.
    """
    for key, value in [*enumerate(args), *kwargs.items()]:
        bad = _count_non_finite(value)
        if bad:
            return f"the batch itself is not finite: {bad} values of its array {key!r}"
    for path, parameter in model.namedparams():
        bad = _count_non_finite(parameter.array)
        if bad:
            return (
                f"parameter {path!r} was not finite before this update: {bad} of its "
                "values; go on from an earlier snapshot, or begin anew"
            )
    return _locate_in_links(model, lossfun, args, kwargs)


def _locate_in_links(
    model: Link,
    lossfun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> str:
    paths = {id(link): path for path, link in model.namedlinks()}
    found: list[str] = []

    def look(link: Link, inputs: tuple[Any, ...], output: Any) -> None:
        if not found and any(map(_count_non_finite, _arrays(output))):
            path = paths.get(id(link), link.name)
            bad_input = any(map(_count_non_finite, _arrays(inputs)))
            found.append(
                f"the output of link {path!r} ({type(link).__name__}) is not finite, "
                + ("nor is its input" if bad_input else "its input is")
            )

    with observe_calls(look):
        loss = lossfun(*args, **kwargs)
    if found:
        return found[0]
    if any(map(_count_non_finite, _arrays(loss))):
        return "batch, parameters and the outputs of all links are finite, the loss not"
    return (
        "batch and parameters are finite, and so is the loss evaluated once more, "
        "with other noise"
    )


def _arrays(value: Any) -> Iterator[Any]:
    """The arrays in nested tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part)
    elif is_array(value):
        yield value


def _count_non_finite(value: Any) -> int:
    """Number of NaN and infinite elements; 0 for what has no such values."""
    value = untraced(value)
    if not is_array(value):
        return 0
    xp = array_namespace(value)
    if not xp.isdtype(value.dtype, ("real floating", "complex floating")):
        return 0
    return int(xp.count_nonzero(~xp.isfinite(value)))
