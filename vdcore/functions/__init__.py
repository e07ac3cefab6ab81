"""Differentiable functions on arrays of any registered library (Chainer's ``F``)."""

from vdcore.functions.accuracy import accuracy
from vdcore.functions.activation import relu, sigmoid, softmax, tanh
from vdcore.functions.arrays import concat, pad
from vdcore.functions.convolution import convolution_2d, vd_convolution_2d
from vdcore.functions.dropout import dropout
from vdcore.functions.embed_id import embed_id
from vdcore.functions.gru import gru, gru_cell
from vdcore.functions.linear import flatten, linear
from vdcore.functions.loss import softmax_cross_entropy
from vdcore.functions.lstm import lstm, lstm_cell
from vdcore.functions.mean_squared_error import mean_squared_error
from vdcore.functions.normalization import (
    batch_normalization,
    fixed_batch_normalization,
)
from vdcore.functions.pooling import average_pooling_2d, max_pooling_2d
from vdcore.functions.rows import rows
from vdcore.functions.sample_weights import sample_weights
from vdcore.functions.tanh_rnn import tanh_rnn
from vdcore.functions.variational import sparse_vd_kl, vd_linear

__all__ = [
    "accuracy",
    "average_pooling_2d",
    "batch_normalization",
    "concat",
    "convolution_2d",
    "dropout",
    "embed_id",
    "fixed_batch_normalization",
    "flatten",
    "gru",
    "gru_cell",
    "linear",
    "lstm",
    "lstm_cell",
    "max_pooling_2d",
    "mean_squared_error",
    "pad",
    "relu",
    "rows",
    "sample_weights",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "sparse_vd_kl",
    "tanh",
    "tanh_rnn",
    "vd_convolution_2d",
    "vd_linear",
]
