"""The LSTM of words: an LSTM of one-hot vectors."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import links as L

WORDS = 7


def test_words_are_rows_of_a_table(library, rng):
    """The table is that of an LSTM's upward weights, transposed."""
    ours, plain = L.OneHotLSTM(WORDS, 5), L.LSTM(WORDS, 5)
    plain.upward.W.array = ours.upward.W.array.T + 0
    plain.upward.b.array = ours.b.array + 0
    plain.lateral.W.array = ours.lateral.W.array + 0
    for parameter in ours.params():
        parameter.array = library.asarray(parameter.array)
    words = rng.integers(0, WORDS, (6, 3)).astype("i4")
    for part in (words[:4], words[4:], words[0]):  # the state is carried
        expected = plain(numpy.eye(WORDS, dtype="f4")[part])
        hs = vdcore.arrays.to_numpy(ours(library.xp.asarray(part)))
        numpy.testing.assert_allclose(hs, expected, atol=1e-6)
    ours.reset_state()
    again = vdcore.arrays.to_numpy(ours(library.xp.asarray(words[0])))
    assert (again != expected).any()


def test_first_values():
    link = L.OneHotLSTM(40, 6, *[vdcore.initializers.Orthogonal()] * 2)
    numpy.testing.assert_array_equal(link.b.array, numpy.repeat([0, 1, 0, 0], 6))
    for gate in range(4):
        part = slice(6 * gate, 6 * gate + 6)
        for W in (link.upward.W.array[:, part], link.lateral.W.array[part]):
            numpy.testing.assert_allclose(W.T @ W, numpy.eye(6), atol=1e-6)
    table = numpy.arange(80.0).reshape(10, 8)
    link = L.OneHotLSTM(10, 2, numpy.ones((8, 2)), table)
    numpy.testing.assert_array_equal(link.upward.W.array, table, strict=True)
    assert {p.array.dtype.name for p in link.params()} == {"float64"}


def test_words_of_a_window_share_their_noise():
    """One draw of the weights for all streams and steps."""
    vdcore.seed(0)
    link = L.VariationalDropoutOneHotLSTM(9, 4, initial_log_sigma2=0.0)
    words = numpy.tile(numpy.arange(6, dtype="i4")[:, None], (1, 3))
    hidden = link(words)
    numpy.testing.assert_array_equal(hidden[:, 0], hidden[:, 1])
    link.reset_state()
    assert (link(words) != hidden).any()  # another draw


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_the_variational_form_takes_all_weights(noise):
    plain = L.OneHotLSTM(9, 4, bias_init=0.3)
    link = L.VariationalDropoutOneHotLSTM.from_link(
        plain, noise=noise, initial_log_sigma2=-7.0, kl="exact"
    )
    paths = dict(plain.namedparams())
    assert {path for path, _ in link.namedparams() if "sigma" not in path} == set(paths)
    for path, parameter in link.namedparams():
        if "sigma" in path:
            assert (parameter.array == -7).all()
        else:
            numpy.testing.assert_array_equal(parameter.array, paths[path].array)
            assert parameter.array is not paths[path].array
    assert link.noise == link.upward.noise == noise
    assert link.upward.kl == link.lateral.kl == "exact"


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (
            numpy.zeros((2, 3, 1), int),
            ValueError,
            r"`x` must have shape \(batch\), for",
        ),
        (numpy.zeros((0, 3), int), ValueError, "none of them 0"),
        (numpy.zeros((2, 3)), TypeError, "embed_id: `ids` must"),
        (numpy.full((2, 3), WORDS), ValueError, f"0 .. {WORDS - 1}"),
        ([[0, 1]], TypeError, "OneHotLSTM: `x` must be an array"),
    ],
)
def test_bad_words(x, error, text):
    link = L.OneHotLSTM(WORDS, 5)
    with pytest.raises(error, match=text):
        link(x)
    assert link.h is None
    words = numpy.zeros((2, 3), "i4")
    link(words)
    with pytest.raises(ValueError, match="which a call with another batch left"):
        link(words[:, :2])
