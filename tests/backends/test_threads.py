from __future__ import annotations

import os
import threading

import pytest

from vdcore.backends.threads import in_parallel, thread_count


def test_every_part_is_done_once_and_the_first_by_the_caller():
    done = {}
    bounds = [0, 3, 3, 10, 11]
    in_parallel(
        lambda first, last: done.setdefault((first, last), threading.get_ident()),
        bounds,
    )
    assert sorted(done) == [(0, 3), (3, 3), (3, 10), (10, 11)]
    assert done[0, 3] == threading.get_ident()


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_reach_the_caller(failing):
    def work(first, last):
        if first == failing:
            raise KeyError(first)

    with pytest.raises(KeyError):
        in_parallel(work, [0, 1, 2])


def test_thread_count(monkeypatch):
    monkeypatch.setenv("VDCORE_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.delenv("VDCORE_NUM_THREADS")
    assert 1 <= thread_count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_pool_works_in_a_forked_process():
    in_parallel(lambda first, last: None, [0, 1, 2])
    child = os.fork()
    if child == 0:
        done = []
        in_parallel(lambda first, last: done.append(first), [0, 1, 2])
        os._exit(0 if sorted(done) == [0, 1] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
