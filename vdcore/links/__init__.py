"""Layers with parameters (Chainer's ``L``), and their variational forms."""

from vdcore.links.batch_normalization import BatchNormalization
from vdcore.links.conversion import to_variational_dropout
from vdcore.links.convolution import Convolution2D
from vdcore.links.dropout import Dropout
from vdcore.links.linear import Linear
from vdcore.links.statistics import calculate_p, calculate_stats, get_vd_links
from vdcore.links.variational_chain import VariationalDropoutChain
from vdcore.links.variational_convolution import VariationalDropoutConvolution2D
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import VariationalLink

__all__ = [
    "BatchNormalization",
    "Convolution2D",
    "Dropout",
    "Linear",
    "VariationalDropoutChain",
    "VariationalDropoutConvolution2D",
    "VariationalDropoutLinear",
    "VariationalLink",
    "calculate_p",
    "calculate_stats",
    "get_vd_links",
    "to_variational_dropout",
]
