"""Streams that record work, and graphs that do it again."""

from __future__ import annotations

import numpy
import pytest

from tests.emulated_cupy import UndefinedBehaviour
from tests.emulated_cupy.errors import CUDARuntimeError

pytestmark = pytest.mark.usefixtures("emulation")


@pytest.fixture
def capture(cupy):
    """A function that captures what a step does, in memory of the graph's own."""
    pool = cupy.cuda.MemoryPool()

    def capture(step, pool=pool):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream, cupy.cuda.using_allocator(pool and pool.malloc):
            stream.begin_capture()
            try:
                result = step()
            finally:
                graph = stream.end_capture()
        return graph, result

    return capture


def test_work_is_recorded_and_not_done(cupy, capture):
    x = cupy.ones(3, numpy.float32)
    graph, y = capture(lambda: cupy.exp(x) * 2 + x)
    assert numpy.isnan(y.get()).all()
    graph.launch()
    numpy.testing.assert_allclose(y.get(), 2 * numpy.e + 1, rtol=1e-6)
    x[...] = 0
    graph.launch()
    numpy.testing.assert_array_equal(y.get(), 2)


def test_in_place_work_changes_nothing_before_a_launch(cupy, capture):
    x = cupy.zeros((2, 3), numpy.float32)

    def step():
        nonlocal x
        x += 1
        x[:, 1] = 5
        cupy.multiply(x, 2, out=x)
        x.reshape(-1)[::2] -= 1

    graph, _ = capture(step)
    assert not x.get().any()
    graph.launch()
    numpy.testing.assert_array_equal(x.get(), [[1, 10, 1], [2, 9, 2]])


def test_kernels_are_recorded(cupy, capture):
    source = 'extern "C" __global__ void f(float* x, float y) { x[threadIdx.x] += y; }'
    kernel = cupy.RawModule(code=source).get_function("f")
    x = cupy.zeros(4, numpy.float32)
    graph, _ = capture(lambda: kernel((1,), (4,), (x, numpy.float32(2))))
    assert not x.get().any()
    for _ in range(3):
        graph.launch()
    assert (x.get() == 6).all()


def test_array_functions_are_recorded(cupy, capture):
    x = cupy.arange(6, dtype=numpy.float32).reshape(2, 3)

    def step():
        parts = cupy.split(cupy.concatenate([x, x]), 2)
        return (
            cupy.matmul(parts[0], parts[1].T),
            x.sum(axis=1),
            x.astype(numpy.int32),
            cupy.take(x, x[0].astype(numpy.int32), axis=1),
            cupy.full((2,), x[1, 1]),
            cupy.where(x > 2, x, 0.0),
            cupy.divmod(x, 2),
        )

    expected = step()
    graph, results = capture(step)
    graph.launch()
    for result, value in zip(results, expected, strict=True):
        assert type(result) is type(value)
        pairs = zip(result, value, strict=True)
        for got, wanted in pairs if isinstance(value, tuple) else [(result, value)]:
            assert (got.dtype, got.strides) == (wanted.dtype, wanted.strides)
            numpy.testing.assert_array_equal(got.get(), wanted.get())


def test_draws_are_new_in_each_launch(cupy, capture):
    rng = cupy.random.default_rng(0)
    graph, x = capture(lambda: rng.standard_normal(8, dtype=numpy.float32))
    graph.launch()
    first = x.get()
    graph.launch()
    assert (x.get() != first).all()


@pytest.mark.parametrize(
    "look",
    [
        lambda cupy, x: x.get(),
        lambda cupy, x: float(x[0]),
        lambda cupy, x: bool(x[0]),
        lambda cupy, x: x.tolist(),
        lambda cupy, x: repr(x),
        lambda cupy, x: x[x > 0],
        lambda cupy, x: cupy.nonzero(x),
        lambda cupy, x: cupy.unique(x),
        lambda cupy, x: cupy.asarray(numpy.ones(3)),
        lambda cupy, x: x.set(numpy.ones(3, numpy.float32)),
        lambda cupy, x: x[[0, 1]],
        lambda cupy, x: cupy.cuda.get_current_stream().synchronize(),
        lambda cupy, x: cupy.cuda.Device().synchronize(),
        lambda cupy, x: cupy.cuda.get_current_stream().record().synchronize(),
    ],
)
def test_the_host_may_not_look_while_a_stream_captures(cupy, look):
    x = cupy.ones(3, numpy.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            look(cupy, x)
        assert stream.is_capturing()
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
        assert not stream.is_capturing()
        look(cupy, x)


def test_copies_from_pinned_memory_are_recorded(cupy, capture, emulation):
    import cupyx

    host = cupyx.empty_pinned(3, numpy.float32)
    host[...] = 1
    x = cupy.zeros(3, numpy.float32)
    graph, _ = capture(lambda: x.set(host))
    host[...] = 2
    with emulation.transfers() as moved:
        graph.launch()
    assert (moved.to_device, moved.launches, x.tolist()) == (1, 1, [2, 2, 2])


@pytest.fixture
def pinned():
    """Host memory with a 1 in it."""
    import cupyx

    host = cupyx.empty_pinned(1, numpy.float32)
    host[...] = 1
    return host


def test_pinned_memory_that_changes_before_its_copy_is_done(cupy, pinned):
    x, stream = cupy.zeros(1, numpy.float32), cupy.cuda.Stream()
    x.set(pinned, stream=stream)
    copied = stream.record()
    copied.synchronize()
    pinned[...] = 2
    assert x.tolist() == [1]
    x.set(pinned, stream=stream)
    pinned[...] = 3  # too early
    assert x.tolist() == [3]


@pytest.mark.parametrize("wait", ["device", "stream", "event", "other stream", "work"])
def test_what_waits_for_a_stream(cupy, pinned, wait):
    x, stream = cupy.zeros(1, numpy.float32), cupy.cuda.Stream(non_blocking=True)
    x.set(pinned, stream=stream)
    assert x.tolist() == [0]  # the default stream does not wait for this one
    if wait == "device":
        cupy.cuda.Device().synchronize()
    elif wait == "stream":
        stream.synchronize()
    elif wait == "event":
        stream.record().synchronize()
    elif wait == "other stream":
        cupy.cuda.Stream.null.wait_event(stream.record())
    else:
        with stream:
            x += 0
    assert x.tolist() == [1]


def test_launches_are_put_off_too(cupy, capture):
    x = cupy.zeros(1, numpy.float32)
    graph, _ = capture(lambda: x.__iadd__(1))
    blocking, other = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    for _ in range(3):
        graph.launch(blocking)
    assert x.tolist() == [3]
    graph.launch(other)
    event = other.record()
    graph.launch(other)
    assert x.tolist() == [3]
    event.synchronize()
    assert x.tolist() == [4]
    del other, event
    assert x.tolist() == [5]


def test_memory_that_anyone_may_get_is_an_error(cupy, capture):
    inputs, pool = [cupy.ones(3, numpy.float32)], cupy.get_default_memory_pool()
    graph, _ = capture(lambda: cupy.exp(inputs[0]) + 1, pool)
    with pytest.raises(UndefinedBehaviour, match="was freed, and any array may get it"):
        graph.launch()
    graph, y = capture(lambda: cupy.exp(inputs[0]), pool)
    graph.launch()
    numpy.testing.assert_allclose(y.get(), numpy.e, rtol=1e-6)
    inputs.clear()
    with pytest.raises(UndefinedBehaviour, match="was freed"):
        graph.launch()


def test_memory_of_a_graph_that_another_array_got_is_an_error(cupy, capture):
    x, pool = cupy.ones(3, numpy.float32), cupy.cuda.MemoryPool()
    stream = cupy.cuda.Stream()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        y = cupy.exp(x) + 1
        graph = stream.end_capture()
        graph.launch()
        z = cupy.zeros(3, numpy.float32)
    with pytest.raises(UndefinedBehaviour, match="belongs to another array now"):
        graph.launch()
    del z
    graph.launch()
    numpy.testing.assert_allclose(y.get(), numpy.e + 1, rtol=1e-6)


def test_memory_that_a_pool_gave_back_is_an_error(cupy, capture):
    x, pool = cupy.ones(3, numpy.float32), cupy.cuda.MemoryPool()
    graph, y = capture(lambda: cupy.exp(x) + 1, pool)
    graph.launch()
    pool.free_all_blocks()
    with pytest.raises(UndefinedBehaviour, match="was returned to the device"):
        graph.launch()
    graph, y = capture(lambda: cupy.exp(x) + 1, pool)
    del pool, y
    with pytest.raises(UndefinedBehaviour, match="was returned to the device"):
        graph.launch()


def test_streams_join_a_capture_by_events(cupy):
    x = cupy.zeros(3, numpy.float32)
    first, second = cupy.cuda.Stream(), cupy.cuda.Stream()
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        first.begin_capture()
        second.wait_event(first.record())
        with second:
            x += 1
        with first:
            y = x * 2
        first.wait_event(second.record())
        graph = first.end_capture()
    assert not second.is_capturing()
    graph.launch()
    assert (x.tolist(), y.tolist()) == ([1, 1, 1], [2, 2, 2])

    first.begin_capture()
    second.wait_event(first.record())
    with second:
        x += 1
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnjoined"):
        first.end_capture()

    event = second.record()
    first.begin_capture()
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureIsolation"):
        first.wait_event(event)
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        first.end_capture()


@pytest.mark.parametrize("non_blocking", [False, True])
def test_the_default_stream_meanwhile(cupy, non_blocking):
    x = cupy.zeros(3, numpy.float32)
    stream = cupy.cuda.Stream(non_blocking=non_blocking)
    stream.begin_capture()
    if non_blocking:
        x += 1
        stream.end_capture()
        assert x.tolist() == [1, 1, 1]
        return
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureImplicit"):
        x += 1
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()


def test_misuse_of_captures(cupy):
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cupy.cuda.Stream.null.begin_capture()
    stream = cupy.cuda.Stream()
    with pytest.raises(CUDARuntimeError, match="cudaErrorInvalidValue"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
        stream.begin_capture()
    stream.end_capture()


def test_errors_of_shape_come_while_capturing(cupy, capture):
    x = cupy.ones(3)
    for wrong in (
        lambda: x + cupy.ones(4),
        lambda: x.__setitem__(slice(2), cupy.ones(4)),
        lambda: x.__iadd__(cupy.ones(4)),
    ):
        with pytest.raises(ValueError, match="broadcast"):
            capture(wrong)


def test_events_time_work(cupy):
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    end.record()
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0
    assert end.done
    untimed = cupy.cuda.Event(disable_timing=True)
    untimed.record()
    with pytest.raises(CUDARuntimeError):
        cupy.cuda.get_elapsed_time(start, untimed)


def test_current_stream(cupy):
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    with cupy.cuda.Stream() as stream:
        assert cupy.cuda.get_current_stream() is stream
        with cupy.cuda.Stream.null:
            assert cupy.cuda.get_current_stream().ptr == 0
        assert cupy.cuda.get_current_stream() is stream
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
