from __future__ import annotations

import math
import pickle
import threading

import numpy
import pytest

from vdcore.reporter import (
    DictSummary,
    Reporter,
    Summary,
    report,
    report_scope,
    reported,
    retract,
)
from vdcore.serialization import DictionarySerializer, NpzDeserializer


class Model:
    pass


def test_values_get_the_name_of_the_object_that_reports_them():
    model, layer = Model(), Model()
    reporter = Reporter()
    reporter.add_observers("main", [("/", model), ("/l1", layer)])
    observation = {}
    with reporter.scope(observation):
        report({"loss": 0.5, "kl": numpy.float32(2)}, model)
        report({"sparsity": numpy.asarray(0.25)}, layer)
        report({"lr": 1e-3})
    assert observation == {
        "main/loss": 0.5,
        "main/kl": 2,
        "main/l1/sparsity": 0.25,
        "lr": 1e-3,
    }


def test_nothing_happens_outside_a_scope():
    report({"loss": 0.5}, Model())
    retract()
    with (
        pytest.raises(RuntimeError, match=r"use Reporter\(\)\.scope"),
        report_scope({}),
    ):
        pass


def test_scopes_nest_and_are_restored():
    outer, inner = {}, {}
    with Reporter().scope(outer):
        with report_scope(inner):
            report({"loss": 1.0})
        report({"loss": 2.0})
    assert (outer, inner) == ({"loss": 2.0}, {"loss": 1.0})


def test_a_retracted_scope_is_empty():
    observation = {}
    with Reporter().scope(observation):
        report({"loss": math.nan})
        retract()
        report({"skipped": 1})
    assert observation == {"skipped": 1}


def test_another_thread_does_not_report_here():
    observation = {}
    with Reporter().scope(observation):
        thread = threading.Thread(target=report, args=({"loss": 1.0},))
        thread.start()
        thread.join()
    assert observation == {}


def test_an_unknown_observer_is_an_error():
    reporter = Reporter()
    reporter.add_observer("main", Model())
    with (
        reporter.scope({}),
        pytest.raises(ValueError, match=r"a Model, is not known .* known are main"),
    ):
        report({"loss": 0.5}, Model())


@pytest.mark.parametrize(
    ("value", "got"),
    [(numpy.zeros(3), r"shape \(3,\)"), ("0.5", "got str"), (None, "got NoneType")],
)
def test_a_value_that_is_no_number_is_an_error(value, got):
    with (
        Reporter().scope({}),
        pytest.raises(TypeError, match=f"'loss' must be .*{got}"),
    ):
        report({"loss": value})


def test_summary_is_the_weighted_mean_and_deviation():
    values = numpy.asarray([0.5, 2.0, -1.0, 7.0])
    weights = numpy.asarray([1.0, 2.0, 3.0, 0.5])
    summary = Summary()
    for value, weight in zip(values, weights, strict=True):
        summary.add(numpy.float32(value), weight)
    mean, deviation = summary.make_statistics()
    expected = numpy.average(values, weights=weights)
    assert mean == pytest.approx(expected, rel=1e-15)
    variance = numpy.average((values - expected) ** 2, weights=weights)
    assert deviation == pytest.approx(math.sqrt(variance), rel=1e-14)


def test_summary_adds_float32_in_double_precision():
    summary = Summary()
    value = numpy.float32(0.1)
    for _ in range(1000):
        summary.add(value)
    assert summary.compute_mean() == pytest.approx(float(value), rel=1e-13)


def test_summary_of_arrays_of_another_library():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    summary = Summary()
    for value in (1.0, 2.0, 6.0):
        summary.add(xp.asarray(value, dtype=xp.float32))
    assert summary.make_statistics() == pytest.approx((3.0, math.sqrt(14 / 3)))


def test_summary_of_nothing_is_nan_and_nan_stays():
    assert math.isnan(Summary().compute_mean())
    summary = Summary()
    summary.add(1.0)
    summary.add(math.nan)
    assert math.isnan(summary.compute_mean())


def test_dict_summary_continues_exactly_after_serialization():
    first, second = {"a": 0.1, "b": 1.0}, {"a": 0.7, "c": 3.0}
    whole, before, after = DictSummary(), DictSummary(), DictSummary()
    whole.add(first)
    before.add(first)
    writer = DictionarySerializer()
    before.serialize(writer)
    after.serialize(NpzDeserializer(writer.entries))
    for summary in (whole, after):
        summary.add(second)
    assert after.make_statistics() == whole.make_statistics()
    assert after.compute_mean() == {"a": pytest.approx(0.4), "b": 1.0, "c": 3.0}


def test_merged_summaries_are_one_of_all():
    rows = [{"a": 0.1, "b": 1.0}, {"a": 0.7, "c": 3.0}, {"a": 0.2}]
    whole, parts = DictSummary(), [DictSummary(), DictSummary()]
    for weight, row in enumerate(rows, start=1):
        whole.add(row, weight)
        parts[weight % 2].add(row, weight)
    merged = DictSummary()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.make_statistics() == pytest.approx(whole.make_statistics())


def test_what_has_been_reported():
    assert reported() == {}
    with Reporter().scope({}):
        report({"loss": 0.5})
        assert reported() == {"loss": 0.5}
    assert reported() == {}
