"""The hot operations: each with a generic definition that a backend may override.

The generic body is plain array-API code. It is the specification, the test oracle and
what runs where a backend has nothing faster for the array type, dtype or layout. A
backend (``vdcore.backends.<library>_backend``) is imported when the first array of
its library reaches a kernel.
"""

from vdcore.kernels.activation import relu_backward, relu_forward
from vdcore.kernels.convolution import (
    convolution_backward,
    convolution_forward,
    vd_convolution_backward,
    vd_convolution_forward,
)
from vdcore.kernels.dropout import dropout_mask
from vdcore.kernels.embedding import embed_backward, embed_forward
from vdcore.kernels.gradients import add_each
from vdcore.kernels.gru import (
    gru_backward,
    gru_cell_backward,
    gru_cell_forward,
    gru_forward,
    gru_recompute,
)
from vdcore.kernels.linear import (
    linear_backward,
    linear_forward,
    vd_linear_backward,
    vd_linear_forward,
)
from vdcore.kernels.loss import accuracy, softmax_cross_entropy
from vdcore.kernels.lstm import (
    lstm_backward,
    lstm_cell_backward,
    lstm_cell_forward,
    lstm_forward,
    lstm_recompute,
)
from vdcore.kernels.noise import standard_normal
from vdcore.kernels.normalization import (
    average_statistics,
    batch_normalization_backward,
    batch_normalization_forward,
    fixed_batch_normalization_backward,
    fixed_batch_normalization_forward,
)
from vdcore.kernels.optimizers import adam, watch_loss
from vdcore.kernels.penalty import (
    KL,
    Penalty,
    TotalPenalty,
    sparse_vd_penalty,
    total_penalty,
)
from vdcore.kernels.pooling import (
    average_pooling_backward,
    average_pooling_forward,
    max_pooling_backward,
    max_pooling_forward,
)
from vdcore.kernels.sampling import sample_weights, sample_weights_backward
from vdcore.kernels.table import Kernel
from vdcore.kernels.tanh_rnn import tanh_rnn_backward, tanh_rnn_forward

__all__ = [
    "KL",
    "Kernel",
    "Penalty",
    "TotalPenalty",
    "accuracy",
    "adam",
    "add_each",
    "average_pooling_backward",
    "average_pooling_forward",
    "average_statistics",
    "batch_normalization_backward",
    "batch_normalization_forward",
    "convolution_backward",
    "convolution_forward",
    "dropout_mask",
    "embed_backward",
    "embed_forward",
    "fixed_batch_normalization_backward",
    "fixed_batch_normalization_forward",
    "gru_backward",
    "gru_cell_backward",
    "gru_cell_forward",
    "gru_forward",
    "gru_recompute",
    "linear_backward",
    "linear_forward",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "lstm_recompute",
    "max_pooling_backward",
    "max_pooling_forward",
    "relu_backward",
    "relu_forward",
    "sample_weights",
    "sample_weights_backward",
    "softmax_cross_entropy",
    "sparse_vd_penalty",
    "standard_normal",
    "tanh_rnn_backward",
    "tanh_rnn_forward",
    "total_penalty",
    "vd_convolution_backward",
    "vd_convolution_forward",
    "vd_linear_backward",
    "vd_linear_forward",
    "watch_loss",
]
