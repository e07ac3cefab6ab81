"""Layers with parameters (Chainer's ``L``), and their variational forms."""

from vdcore.links.batch_normalization import BatchNormalization
from vdcore.links.conversion import to_variational_dropout
from vdcore.links.convolution import Convolution2D
from vdcore.links.dropout import Dropout
from vdcore.links.embed_id import EmbedID
from vdcore.links.gru import StatefulGRU
from vdcore.links.linear import Linear
from vdcore.links.lstm import LSTM
from vdcore.links.one_hot_lstm import OneHotLSTM
from vdcore.links.recurrent import RecurrentLink
from vdcore.links.statistics import calculate_p, calculate_stats, get_vd_links
from vdcore.links.tanh_rnn import TanhRNN
from vdcore.links.variational_chain import VariationalDropoutChain
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
from vdcore.links.variational_scale import VariationalDropoutScale

__all__ = [
    "LSTM",
    "BatchNormalization",
    "Convolution2D",
    "Dropout",
    "EmbedID",
    "Linear",
    "OneHotLSTM",
    "RecurrentLink",
    "StatefulGRU",
    "TanhRNN",
    "VariationalDropoutChain",
    "VariationalDropoutConvolution2D",
    "VariationalDropoutEmbedID",
    "VariationalDropoutGRU",
    "VariationalDropoutLSTM",
    "VariationalDropoutLinear",
    "VariationalDropoutOneHotLSTM",
    "VariationalDropoutScale",
    "VariationalDropoutTanhRNN",
    "VariationalLink",
    "calculate_p",
    "calculate_stats",
    "get_vd_links",
    "to_variational_dropout",
]
