"""The networks of the CIFAR example, plain and variational."""

from __future__ import annotations

from typing import Any

from vdcore import Chain, initializers
from vdcore import functions as F
from vdcore import links as L

BATCH_NORMALIZATION = {"eps": 1e-3}
# Of each block: output channels, and the rate of the dropout after it.
STAGES = (
    ((64, 0.3), (64, 0)),
    ((128, 0.4), (128, 0)),
    ((256, 0.4), (256, 0.4), (256, 0)),
    ((512, 0.4), (512, 0.4), (512, 0)),
    ((512, 0.4), (512, 0.4), (512, 0)),
)


class Block(Chain):
    """Convolution 3x3 without bias, batch normalisation, rectifier, dropout.

    Parameters
    ----------
    in_channels, out_channels : int
    ratio : float
        Of the dropout; it acts while ``use_raw_dropout`` is set.
    """

    def __init__(self, in_channels: int, out_channels: int, ratio: float) -> None:
        super().__init__()
        self.use_raw_dropout = False
        with self.init_scope():
            self.conv = L.Convolution2D(
                in_channels,
                out_channels,
                3,
                pad=1,
                nobias=True,
                initialW=initializers.HeNormal(),
            )
            self.bn = L.BatchNormalization(out_channels, **BATCH_NORMALIZATION)
            self.dropout = L.Dropout(ratio)

    def forward(self, x: Any) -> Any:
        """Images of the same size, shape (batch, out_channels, height, width)."""
        h = F.relu(self.bn(self.conv(x)))
        return self.dropout(h) if self.use_raw_dropout else h


class VGG16(Chain):
    """VGG16 for images of 32x32 pixels, with batch normalisation and without biases.

    Thirteen convolutions and two fully connected layers: 14,977,728 weights for ten
    classes at width 1.

    Parameters
    ----------
    class_labels : int
    width : float
        Multiplies the numbers of channels and hidden units.
    """

    def __init__(self, class_labels: int = 10, width: float = 1.0) -> None:
        super().__init__()
        self.use_raw_dropout = False
        self.names = []
        channels = 3
        with self.init_scope():
            for i, stage in enumerate(STAGES, 1):
                for j, (full, ratio) in enumerate(stage, 1):
                    name = f"block{i}_{j}"
                    before, channels = channels, max(1, round(full * width))
                    setattr(self, name, Block(before, channels, ratio))
                    self.names.append(name)
            hidden = max(1, round(512 * width))
            weights = {"nobias": True, "initialW": initializers.HeNormal()}
            self.dropout_fc1 = L.Dropout(0.5)
            self.fc1 = L.Linear(channels, hidden, **weights)
            self.bn_fc1 = L.BatchNormalization(hidden, **BATCH_NORMALIZATION)
            self.dropout_fc2 = L.Dropout(0.5)
            self.fc2 = L.Linear(hidden, class_labels, **weights)

    def set_raw_dropout(self, on: bool) -> None:
        """Turn ordinary dropout, which is for dense training, on or off."""
        self.use_raw_dropout = on
        for name in self.names:
            self[name].use_raw_dropout = on

    def forward(self, x: Any) -> Any:
        """Scores of the classes, shape (batch, class_labels)."""
        h = x
        for i, stage in enumerate(STAGES, 1):
            for j, _ in enumerate(stage, 1):
                h = self[f"block{i}_{j}"](h)
            h = F.max_pooling_2d(h, 2)
        h = F.flatten(h)
        if self.use_raw_dropout:
            h = self.dropout_fc1(h)
        h = F.relu(self.bn_fc1(self.fc1(h)))
        if self.use_raw_dropout:
            h = self.dropout_fc2(h)
        return self.fc2(h)


class VGG16VD(L.VariationalDropoutChain, VGG16):
    """VGG16 whose weights are learned by sparse variational dropout.

    `variational` holds options of the layers, for example
    ``{"initial_log_sigma2": -15}``.
    """

    def __init__(self, *, variational: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to_variational_dropout(**(variational or {}))
