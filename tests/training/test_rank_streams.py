from __future__ import annotations

import numpy
import pytest

from vdcore import Sequential
from vdcore import links as L
from vdcore.training.rank_streams import RankStreams, generator_of_rank


@pytest.mark.parametrize("kind", ["PCG64", "Philox", "MT19937", "SFC64"])
def test_streams_are_the_ranks_own(kind):
    rng = numpy.random.Generator(getattr(numpy.random, kind)(3))
    draws = [generator_of_rank(rng, rank).standard_normal(1000) for rank in range(4)]
    assert (draws[0] == rng.standard_normal(1000)).all()
    correlations = numpy.corrcoef(draws) - numpy.eye(4)
    assert abs(correlations).max() < 0.15  # 4.7 standard deviations


def test_what_is_no_generator_stays():
    model = Sequential(L.Dropout(), L.VariationalDropoutLinear(2, 2))
    model[1].mask_in_training = True
    before = [link.rng.bit_generator.state for link in model.children()]
    model.serialize_training_state(RankStreams(0))
    assert [link.rng.bit_generator.state for link in model.children()] == before
    model.serialize_training_state(RankStreams(1))
    after = [link.rng.bit_generator.state for link in model.children()]
    assert all(new != old for new, old in zip(after, before, strict=True))
    assert model[1].mask_in_training is True
