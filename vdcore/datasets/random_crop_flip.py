"""Training images moved by a few pixels and mirrored, anew each time."""

from __future__ import annotations

from functools import partial

import array_api_compat
import numpy

from vdcore.arrays import Array, array_namespace, asarray_like
from vdcore.configuration import spawn_rng
from vdcore.replay import live
from vdcore.serialization import Serializer, generator_state, restore_generator


class RandomCropFlip:
    """Crops images at random out of a border, and mirrors some of them.

    Each image of a batch has its own offset, from 0 to ``2 * pad`` in height and in
    width, and is mirrored (left to right) or not, independently of the others. For
    the argument `transform` of :class:`vdcore.iterators.SerialIterator`.

    Parameters
    ----------
    pad : int
        Pixels of border on each side.
    flip : float
        Probability that an image is mirrored, 0 to 1.
    value : float
        Of the border. 0 is the mean of standardised images.
    rng : numpy.random.Generator, optional
        Source of offsets and mirrorings; part of a snapshot. Default a child of
        ``config.rng``.

    Raises
    ------
    TypeError
        If `pad` is no int.
    ValueError
        If `pad` or `flip` is out of range.

    Notes
    -----
    The original drew one offset, which never was ``2 * pad``, for the whole batch, and
    mirrored its first half.

    Examples
    --------
    >>> images = numpy.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    >>> RandomCropFlip(pad=1, rng=numpy.random.default_rng(9))(images)
    array([[[[0., 2.],
             [0., 4.]]]])
    """

    def __init__(
        self,
        pad: int = 4,
        flip: float = 0.5,
        value: float = 0.0,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        if isinstance(pad, bool) or not isinstance(pad, int):
            message = f"RandomCropFlip: `pad` must be an int, got {type(pad).__name__}"
            raise TypeError(message)
        if pad < 0:
            message = f"RandomCropFlip: `pad` must be at least 0, got {pad}"
            raise ValueError(message)
        if not 0 <= flip <= 1:
            message = f"RandomCropFlip: `flip` must be from 0 to 1, got {flip}"
            raise ValueError(message)
        self.pad = pad
        self.flip = flip
        self.value = value
        self._rng = rng or spawn_rng()

    def __call__(self, images: Array) -> Array:
        """Draw and apply offsets and mirrorings.

        Parameters
        ----------
        images : array, shape (batch, channels, height, width)
            Left as they are. Of a library whose arrays can be written to, which
            JAX's cannot; on a GPU all but the drawing is done there.

        Returns
        -------
        array, shape and dtype of `images`

        Raises
        ------
        ValueError
            If `images` has another number of axes.
        """
        if len(images.shape) != 4:
            message = (
                "RandomCropFlip: `images` must have shape (batch, channels, height, "
                f"width), got {tuple(images.shape)}; load them with ndim=3"
            )
            raise ValueError(message)
        batch, _, height, width = images.shape
        framed = self._framed(images)
        xp = array_namespace(framed)
        # Where each value comes from in the flat array: one gather does all.
        draw_starts = partial(self._draw_starts, tuple(framed.shape), height)
        starts = asarray_like(live(draw_starts), images)
        columns = asarray_like(live(partial(self._draw_columns, batch, width)), images)
        index = starts + columns
        values = xp.take(xp.reshape(framed, (-1,)), xp.reshape(index, (-1,)), axis=0)
        return xp.reshape(values, tuple(images.shape))

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the generator."""
        state = serializer("rng", generator_state(self._rng))
        if not serializer.is_writer:
            restore_generator(self._rng, state)

    def _draw_starts(self, shape: tuple[int, ...], height: int) -> numpy.ndarray:
        """Where the rows of the cropped images begin in the flat framed ones."""
        batch, channels, frame_height, frame_width = shape
        offsets = self._rng.integers(0, 2 * self.pad, (batch, 1), endpoint=True)
        rows = (offsets + numpy.arange(height)).reshape(batch, 1, height, 1)
        plane = numpy.arange(batch * channels).reshape(batch, channels, 1, 1)
        return (plane * frame_height + rows) * frame_width

    def _draw_columns(self, batch: int, width: int) -> numpy.ndarray:
        """Which columns of the framed images those of the cropped ones are."""
        offsets = self._rng.integers(0, 2 * self.pad, (batch, 1), endpoint=True)
        is_mirrored = self._rng.random((batch, 1)) < self.flip
        column = numpy.arange(width)
        columns = offsets + numpy.where(is_mirrored, column[::-1], column)
        return columns.reshape(batch, 1, 1, width)

    def _framed(self, images: Array) -> Array:
        xp = array_namespace(images)
        batch, channels, height, width = images.shape
        pad = self.pad
        framed = xp.full(
            (batch, channels, height + 2 * pad, width + 2 * pad),
            self.value,
            dtype=images.dtype,
            device=array_api_compat.device(images),
        )
        framed[:, :, pad : pad + height, pad : pad + width] = images
        return framed
