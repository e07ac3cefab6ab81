from __future__ import annotations

import os
import threading
import time

import numpy
import pytest

from vdcore.backends.cpu.jit import jit, numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.cpu import team as team_module
from vdcore.backends.cpu.team import ASLEEP, parallel_for, team
from vdcore.backends.cpu.threads import limited_to, thread_count


@jit(cache=False)
def count_part(counts, amount, part):
    counts[part] += amount


@jit(cache=False)
def count(board, parts, counts, amount):
    parallel_for(board, parts, count_part, (counts, amount))


@jit(cache=False)
def count_row_part(board, counts, row):
    parallel_for(board, counts.shape[1], count_part, (counts[row], 1))


@jit(cache=False)
def count_rows(board, counts):
    parallel_for(board, len(counts), count_row_part, (board, counts))


@pytest.fixture(params=["1", "2", "5"], autouse=True)
def threads(request, monkeypatch):
    monkeypatch.setenv("VDCORE_NUM_THREADS", request.param)
    return int(request.param)


@pytest.mark.parametrize("parts", [0, 1, 2, 7, 1000])
def test_every_part_is_done_once(parts):
    counts = numpy.zeros(1000, numpy.int64)
    for _ in range(100):
        count(team(parts), parts, counts, 3)
    assert (counts[:parts] == 300).all()
    assert (counts[parts:] == 0).all()


def test_work_within_work():
    counts = numpy.zeros((30, 40), numpy.int64)
    count_rows(team(30), counts)
    assert (counts == 1).all()


def test_two_callers_at_once():
    def work(counts):
        for _ in range(300):
            count(team(50), 50, counts, 1)

    results = [numpy.zeros(50, numpy.int64) for _ in range(3)]
    callers = [threading.Thread(target=work, args=(counts,)) for counts in results]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for counts in results:
        assert (counts == 300).all()


@jit(cache=False)
def fail_at(bad, part):
    if part == bad:
        raise ValueError  # never seen


@jit(cache=False)
def fail(board, parts, bad):
    parallel_for(board, parts, fail_at, (bad,))


def test_a_failed_part_is_an_error_once_all_have_ended():
    with pytest.raises(MemoryError, match="a thread could not allocate memory"):
        fail(team(20), 20, 3)
    fail(team(20), 20, 99)
    counts = numpy.zeros(20, numpy.int64)
    count(team(20), 20, counts, 1)
    assert (counts == 1).all()


def test_callers_at_once_found_one_team(threads):
    before = {t.ident for t in threading.enumerate() if t.name == "vdcore"}
    team_module._teams.clear()
    callers = [threading.Thread(target=team, args=(9,)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    after = {t.ident for t in threading.enumerate() if t.name == "vdcore"}
    assert len(after - before) == threads - 1


def test_members_fall_asleep_and_are_woken(threads):
    counts = numpy.zeros(9, numpy.int64)
    count(team(9), 9, counts, 1)
    board = team(9)
    deadline = time.monotonic() + 60
    while board[ASLEEP] < threads - 1:
        assert time.monotonic() < deadline, "members do not fall asleep"
        time.sleep(0.01)
    count(team(9), 9, counts, 1)
    assert (counts == 2).all()
    assert board is team(9)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
# JAX's warning, where another test has imported it: the child does not call JAX.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_forked_process_has_a_team_of_its_own():
    counts = numpy.zeros(100, numpy.int64)
    count(team(100), 100, counts, 1)
    child = os.fork()
    if child == 0:
        count(team(100), 100, counts, 1)
        os._exit(0 if (counts == 2).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_limit_of_threads(monkeypatch):
    monkeypatch.setenv("VDCORE_NUM_THREADS", "3")
    with limited_to(2):
        assert thread_count() == 2
        with limited_to(5):
            assert thread_count() == 3
        assert thread_count() == 2
    assert thread_count() == 3


def test_thread_count(monkeypatch):
    monkeypatch.setenv("VDCORE_NUM_THREADS", "3")
    assert thread_count() == 3
    for setting in ("0", "-3", "two", "1.5"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", setting)
        with pytest.raises(ValueError, match=f"positive integer, got '{setting}'"):
            thread_count()
    monkeypatch.delenv("VDCORE_NUM_THREADS")
    assert 1 <= thread_count() <= (os.cpu_count() or 1)
