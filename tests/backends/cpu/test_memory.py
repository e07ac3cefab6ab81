"""Memory that arrays leave to the next ones."""

from __future__ import annotations

import gc

import numpy
import pytest

from vdcore.backends.cpu import memory


@pytest.fixture(autouse=True)
def no_free_blocks():
    memory.free_all()
    yield
    memory.free_all()


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("shape", [(0,), (3, 4), (100_000,), (17, 33, 129)])
def test_arrays_are_ordinary_ones(shape, dtype):
    x = memory.empty(shape, dtype)
    assert type(x) is numpy.ndarray
    assert (x.shape, x.dtype) == (shape, dtype)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert x.flags.aligned
    x[...] = 3
    assert (x == 3).all()


def test_large_arrays_begin_with_a_cache_line():
    assert all(address(memory.empty((2**15 + k,))) % 64 == 0 for k in range(20))


def test_memory_is_used_again():
    x = memory.empty((50_000,))
    first = address(x)
    del x
    y = memory.empty((49_999,))
    assert address(y) == first
    assert address(memory.empty((50_000,))) != first


def test_memory_of_a_view_is_not_given_away():
    x = memory.empty((200_000,))
    x[:] = 1
    view = x.reshape(400, 500)[3:5].T
    del x
    gc.collect()
    others = [memory.empty((200_000,)) for _ in range(3)]
    for other in others:
        other[:] = 2
    assert (view == 1).all()


def test_no_more_is_kept_than_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 500_000)
    arrays = [memory.empty((100_000,)) for _ in range(3)]
    arrays.clear()
    assert sum(map(len, memory._free.values())) == 1
