"""Turn the plain layers of a trained model into variational ones."""

from __future__ import annotations

from typing import Any

from vdcore.link import Link
from vdcore.links.convolution import Convolution2D
from vdcore.links.linear import Linear
from vdcore.links.variational_convolution import VariationalDropoutConvolution2D
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import VariationalLink

VARIATIONAL_FORM: dict[type[Link], Any] = {
    Convolution2D: VariationalDropoutConvolution2D,
    Linear: VariationalDropoutLinear,
}


def to_variational_dropout(
    model: Link, *, verbose: bool = False, **options: Any
) -> Link:
    """Replace plain layers by variational ones with the same weights, in place.

    Parameters
    ----------
    model : Link
        The tree below it is searched at every depth. Links whose class is exactly
        ``Linear`` or ``Convolution2D`` are replaced; subclasses and layers that are
        variational already are kept. A layer without bias stays without.
    verbose : bool
        Print a line for each link that was replaced or kept.
    **options
        Arguments of the variational layers, for example ``initial_log_sigma2=-8``.

    Returns
    -------
    Link
        `model`. Optimizers must be set up after this, as parameters are added.

    Raises
    ------
    TypeError
        If `model` itself is such a layer, and so has no parent to hold the new one.
    """
    if type(model) in VARIATIONAL_FORM:
        message = (
            f"to_variational_dropout: `model` must be a link that holds layers, got a "
            f"{type(model).__name__} itself; use "
            f"{VARIATIONAL_FORM[type(model)].__name__}.from_link"
        )
        raise TypeError(message)
    _convert_children(model, "", verbose, options)
    return model


def _convert_children(
    parent: Any, path: str, verbose: bool, options: dict[str, Any]
) -> None:
    for child in list(parent.children()):
        child_path = f"{path}/{child.name}"
        form = VARIATIONAL_FORM.get(type(child))
        if form is not None:
            parent.replace_child(child.name, form.from_link(child, **options))
        elif not isinstance(child, VariationalLink):
            _convert_children(child, child_path, verbose, options)
        if verbose:
            action = "Retain" if form is None else "Replace"
            print(f"{action} link {child_path} ({type(child).__name__})")
