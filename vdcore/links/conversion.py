"""Turn the plain layers of a trained model into variational ones."""

from __future__ import annotations

from typing import Any

from vdcore.link import Link
from vdcore.links.convolution import Convolution2D
from vdcore.links.embed_id import EmbedID
from vdcore.links.gru import StatefulGRU
from vdcore.links.linear import Linear
from vdcore.links.lstm import LSTM
from vdcore.links.one_hot_lstm import OneHotLSTM
from vdcore.links.tanh_rnn import TanhRNN
from vdcore.links.variational_convolution import VariationalDropoutConvolution2D
from vdcore.links.variational_embed_id import VariationalDropoutEmbedID
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import VariationalLink
from vdcore.links.variational_recurrent import (
    VariationalDropoutGRU,
    VariationalDropoutLSTM,
    VariationalDropoutOneHotLSTM,
    VariationalDropoutTanhRNN,
)
from vdcore.links.variational_rules import check_multipliers, check_rule

VARIATIONAL_FORM: dict[type[Link], Any] = {
    Convolution2D: VariationalDropoutConvolution2D,
    EmbedID: VariationalDropoutEmbedID,
    LSTM: VariationalDropoutLSTM,
    OneHotLSTM: VariationalDropoutOneHotLSTM,
    Linear: VariationalDropoutLinear,
    StatefulGRU: VariationalDropoutGRU,
    TanhRNN: VariationalDropoutTanhRNN,
}
MULTIPLIERS = ("words", "units", "gates")


def to_variational_dropout(
    model: Link,
    *,
    verbose: bool = False,
    noise: str = "weights",
    multipliers: tuple[str, ...] = (),
    **options: Any,
) -> Link:
    """Replace plain layers by variational ones with the same weights, in place.

    Parameters
    ----------
    model : Link
        The tree below it is searched at every depth. Links whose class is exactly
        ``Linear``, ``Convolution2D``, ``EmbedID``, ``LSTM``, ``OneHotLSTM``,
        ``StatefulGRU`` or ``TanhRNN`` are replaced; subclasses and layers that are
        variational already are kept, but what subclasses hold is searched. A layer
        without bias stays without.
    verbose : bool
        Print a line for each link that was replaced or kept.
    noise : {"weights", "activations"}
        Rule of recurrent layers and embeddings; see :class:`VariationalDropoutLSTM`.
    multipliers : tuple of {"words", "units", "gates"}
        Groups of weights that have a multiplier, of embeddings and recurrent layers;
        see there. Default none.
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
    ValueError
        If `noise` is no rule, or `multipliers` are of groups that no layer has.
    """
    if type(model) in VARIATIONAL_FORM:
        message = (
            f"to_variational_dropout: `model` must be a link that holds layers, got a "
            f"{type(model).__name__} itself; use "
            f"{VARIATIONAL_FORM[type(model)].__name__}.from_link"
        )
        raise TypeError(message)
    check_rule("to_variational_dropout", noise)
    check_multipliers("to_variational_dropout", multipliers, MULTIPLIERS)
    forms = (VARIATIONAL_FORM.get(type(link)) for link in model.links())
    known = {
        kind for form in forms for kind in getattr(form, "kinds_of_multipliers", ())
    }
    for kind in multipliers:
        if kind not in known:
            message = (
                f"to_variational_dropout: `multipliers` must be of layers that `model` "
                f"has, and it has no plain one with {kind}; leave {kind!r} out"
            )
            raise ValueError(message)
    _convert_children(model, "", verbose, noise, multipliers, options)
    return model


def _convert_children(
    parent: Any,
    path: str,
    verbose: bool,
    noise: str,
    multipliers: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    for child in list(parent.children()):
        child_path = f"{path}/{child.name}"
        form = VARIATIONAL_FORM.get(type(child))
        if form is not None:
            rules: dict[str, Any] = {}
            if hasattr(form, "kinds_of_multipliers"):  # and has noise of two kinds
                known = form.kinds_of_multipliers
                rules["noise"] = noise
                rules["multipliers"] = tuple(x for x in multipliers if x in known)
            parent.replace_child(child.name, form.from_link(child, **rules, **options))
        elif not isinstance(child, VariationalLink):
            _convert_children(child, child_path, verbose, noise, multipliers, options)
        if verbose:
            action = "Retain" if form is None else "Replace"
            print(f"{action} link {child_path} ({type(child).__name__})")
