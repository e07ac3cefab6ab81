"""Share of correct classifications."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import is_on_gpu

SCORES = numpy.asarray([[0.1, 0.7, 0.2], [3.0, 1.0, 2.0], [-1.0, -3.0, -2.0]])


@pytest.mark.parametrize("label_dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize(
    ("labels", "share"), [([1, 0, 0], 1), ([1, 2, 0], 2 / 3), ([0, 1, 2], 0)]
)
def test_value(tape_library, labels, share, label_dtype):
    x = tape_library.asarray(SCORES.astype(numpy.float32))
    t = tape_library.asarray(numpy.asarray(labels, label_dtype))
    result = F.accuracy(x, t)
    assert result.dtype == tape_library.xp.float32
    assert tuple(result.shape) == ()
    assert float(result) == pytest.approx(share, abs=1e-7)


def test_more_classes_than_a_small_integer_holds():
    """The argmax is compared in a dtype that holds it."""
    scores = numpy.zeros((1, 300), numpy.float32)
    scores[0, 256] = 1
    assert float(F.accuracy(scores, numpy.asarray([0], numpy.uint8))) == 0


def test_errors(tape_library):
    x = tape_library.asarray(SCORES)
    with pytest.raises(ValueError, match=r"accuracy: expected .*\(3, 3\) and \(2,\)"):
        F.accuracy(x, tape_library.asarray(numpy.asarray([0, 1])))
    with pytest.raises(TypeError, match="accuracy: `t` must hold integer"):
        F.accuracy(x, tape_library.asarray(numpy.asarray([0.0, 1, 2])))
    if is_on_gpu(x):
        return  # to look at labels is to wait for the GPU
    with pytest.raises(ValueError, match=r"accuracy: `t` must lie in 0 \.\. 2"):
        F.accuracy(x, tape_library.asarray(numpy.asarray([0, 1, 3])))
