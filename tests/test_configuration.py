"""Settings for a stretch of code, and the seed."""

from __future__ import annotations

import threading

import numpy
import pytest

from vdcore.configuration import config, seed, spawn_rng, using_config


def test_train_is_the_default():
    assert config.train is True


def test_using_config_ends_with_its_block():
    with using_config("train", False):
        assert config.train is False
        with using_config("train", True):
            assert config.train is True
        assert config.train is False
    assert config.train is True


def test_using_config_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), using_config("train", False):
        raise ZeroDivisionError
    assert config.train is True


def test_assignment_inside_a_block_is_local_to_it():
    with using_config("train", True):
        config.train = False
        assert config.train is False
    assert config.train is True


def test_a_block_is_local_to_its_thread():
    seen = []
    with using_config("train", False):
        thread = threading.Thread(target=lambda: seen.append(config.train))
        thread.start()
        thread.join()
    assert seen == [True]


def test_unknown_settings_are_refused():
    for attempt in (
        lambda: config.trian,
        lambda: setattr(config, "trian", False),
        lambda: using_config("trian", False).__enter__(),
    ):
        with pytest.raises(
            AttributeError, match="no setting 'trian'; there are rng, tf32, tra"
        ):
            attempt()


def test_seed_repeats_everything_drawn_after_it():
    draws = []
    for value in (7, 7, 8):
        seed(value)
        draws.append([spawn_rng().random(), spawn_rng().random()])
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_children_are_independent():
    seed(0)
    first, second = (spawn_rng().standard_normal(100_000) for _ in range(2))
    assert abs(numpy.corrcoef(first, second)[0, 1]) < 5 / numpy.sqrt(100_000)


def test_a_child_does_not_depend_on_what_others_draw():
    seed(0)
    spawn_rng().random(1000)
    after_many = spawn_rng().random()
    seed(0)
    spawn_rng()
    assert spawn_rng().random() == after_many
