from __future__ import annotations

from types import SimpleNamespace

import numpy
import pytest

from vdcore.iterators import SerialIterator
from vdcore.serialization import DictionarySerializer, NpzDeserializer
from vdcore.training.triggers import (
    IntervalTrigger,
    ManualScheduleTrigger,
    MaxValueTrigger,
    MinValueTrigger,
    get_stop_trigger,
    get_trigger,
)


class Clock:
    """A trainer that does nothing but count: `size` examples, 2 a batch."""

    def __init__(self, size=7):
        self.iterator = SerialIterator(numpy.arange(size), 2)
        self.updater = self
        self.observation = {}
        self.iteration = 0

    epoch_detail = property(lambda self: self.iterator.epoch_detail)
    previous_epoch_detail = property(lambda self: self.iterator.previous_epoch_detail)

    def tick(self, **observation):
        self.observation = observation
        next(self.iterator)
        self.iteration += 1


def fired(trigger, ticks=14):
    clock = Clock()
    assert not trigger(clock)
    iterations = []
    for _ in range(ticks):
        clock.tick()
        if trigger(clock):
            iterations.append(clock.iteration)
    return iterations


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        # 7 examples, 2 a batch: epochs end in iterations 4, 7, 11, 14
        ((1, "epoch"), [4, 7, 11, 14]),
        ((2, "epoch"), [7, 14]),
        ((0.5, "epoch"), [2, 4, 6, 7, 9, 11, 13, 14]),
        ((5, "iteration"), [5, 10]),
        ((1, "iteration"), list(range(1, 15))),
        (None, []),
        (ManualScheduleTrigger([1, 3.5], "epoch"), [4, 13]),
        (ManualScheduleTrigger(6, "iteration"), [6]),
    ],
)
def test_when_triggers_fire(trigger, expected):
    assert fired(get_trigger(trigger)) == expected


def test_a_trigger_may_be_asked_twice():
    trigger, clock = IntervalTrigger(2, "iteration"), Clock()
    clock.tick()
    clock.tick()
    assert [trigger(clock), trigger(clock)] == [True, True]


def test_the_end_is_a_point_not_an_interval():
    assert fired(get_stop_trigger((3, "epoch"))) == [11, 12, 13, 14]
    assert get_stop_trigger((0, "iteration"))(Clock()) is True


@pytest.mark.parametrize(
    ("make", "expected"), [(MinValueTrigger, [2, 6]), (MaxValueTrigger, [2, 4])]
)
def test_best_value_of_interval_averages(make, expected):
    trigger, clock, iterations = make("loss", (2, "iteration")), Clock(), []
    for loss in (4.0, 6.0, 5.0, 7.0, 1.0, 2.0, 5.0, 4.0):  # averages 5, 6, 1.5, 4.5
        clock.tick(loss=loss)
        if trigger(clock):
            iterations.append(clock.iteration)
    assert iterations == expected


def test_best_value_goes_on_after_serialization():
    trigger, clock = MinValueTrigger("loss", (2, "iteration")), Clock()
    for loss in (4.0, 6.0, 9.0):
        clock.tick(loss=loss)
        trigger(clock)
    writer = DictionarySerializer()
    trigger.serialize(writer)
    restored = MinValueTrigger("loss", (2, "iteration"))
    restored.serialize(NpzDeserializer(writer.entries))
    assert restored.best_value == 5
    clock.tick(loss=0.5)  # with the 9 before: 4.75
    assert restored(clock) is True
    assert restored.best_value == 4.75


def test_a_value_that_is_not_reported_is_an_error():
    trigger, clock = MinValueTrigger("validation/loss", (1, "iteration")), Clock()
    clock.tick(loss=1.0)
    with pytest.raises(ValueError, match=r"`key` 'validation/loss' was not .* loss$"):
        trigger(clock)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: get_trigger("epoch"), TypeError, r"must be None, .*, got 'epoch'"),
        (lambda: get_trigger((1, "week")), ValueError, r"`unit` must be one of"),
        (lambda: IntervalTrigger(0, "epoch"), ValueError, "`period` must be positive"),
        (lambda: get_stop_trigger((-1, "epoch")), ValueError, "must not be negative"),
    ],
)
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_callable_is_a_trigger():
    assert get_trigger(lambda trainer: trainer.answer)(SimpleNamespace(answer=7)) == 7
