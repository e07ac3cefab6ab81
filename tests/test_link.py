"""Links: registration, paths, devices, copies."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import Link, Parameter, Sequential, initializers, serializers
from vdcore.arrays import to_numpy
from vdcore.link import observe_calls


class Scale(Link):
    def __init__(self, size=3):
        super().__init__()
        with self.init_scope():
            self.W = Parameter(initializers.Constant(2), (size,))
        self.outside = Parameter(initializers.Constant(5), (size,))

    def forward(self, x, *, shift=0):
        return x * self.W.array + shift


def test_init_scope_registers_what_is_assigned_inside():
    link = Scale()
    assert [path for path, _ in link.namedparams()] == ["/W"]
    assert list(link.params()) == [link.W]
    assert link.W.name == "W"


def test_init_scope_may_be_nested_and_ends_with_an_error():
    link = Scale()
    with link.init_scope(), link.init_scope():
        link.a = Parameter(initializers.Constant(0), (1,))
    with pytest.raises(ZeroDivisionError), link.init_scope():
        raise ZeroDivisionError
    link.b = Parameter(initializers.Constant(0), (1,))
    assert [path for path, _ in link.namedparams()] == ["/W", "/a"]


def test_a_parameter_assigned_again_counts_once():
    link = Scale()
    new = Parameter(initializers.Constant(1), (3,))
    with link.init_scope():
        link.W = new
    assert list(link.params()) == [new]


def test_call_runs_forward_with_all_arguments():
    assert Scale()(numpy.ones(3), shift=1).tolist() == [3, 3, 3]


def test_a_link_without_forward():
    with pytest.raises(RuntimeError, match="Link: forward is not defined"):
        Link()(1)


def test_observe_calls():
    calls = []
    link = Scale()
    with observe_calls(lambda *call: calls.append(call)):
        y = link(numpy.ones(3))
    link(numpy.ones(3))
    assert len(calls) == 1
    seen, args, output = calls[0]
    assert seen is link
    assert args[0].tolist() == [1, 1, 1]
    assert output is y


def test_copy_is_independent():
    link = Scale()
    other = link.copy()
    other.W.array += 1
    assert link.W.array.tolist() == [2, 2, 2]
    assert [p for p, _ in other.namedparams()] == ["/W"]


def test_cleargrads():
    link = Scale()
    link.W.grad = numpy.ones(3)
    link.cleargrads()
    assert link.W.grad is None


def test_to_cpu(library):
    link = Scale()
    link.W.array = library.asarray(numpy.asarray([1.0, 2.0, 3.0], numpy.float32))
    link.W.grad = library.asarray(numpy.zeros(3, numpy.float32))
    assert link.to_cpu() is link
    for array in (link.W.array, link.W.grad):
        assert type(array) is numpy.ndarray
        assert array.dtype == numpy.float32
    assert link.W.array.tolist() == [1, 2, 3]


def test_training_goes_on_after_to_cpu(tape_library):
    """What to_cpu gives can be written to: optimizers update in place."""
    link = Scale()
    link.W.array = tape_library.asarray(numpy.ones(3, numpy.float32))
    optimizer = vdcore.optimizers.Adam(alpha=0.5).setup(link.to_cpu())
    optimizer.update(lambda: (link(numpy.ones(3, numpy.float32)) ** 2).sum())
    numpy.testing.assert_allclose(link.W.array, [0.5] * 3, rtol=1e-5)


def test_parameter_is_made_like_an_example(library):
    parameter = Parameter(initializers.Constant(3))
    assert not parameter.is_initialized
    assert repr(parameter) == "Parameter(None, shape=None)"
    like = library.asarray(numpy.zeros(1, numpy.float32))
    parameter.initialize((2,), like)
    assert type(parameter.array) is type(like)
    assert to_numpy(parameter.array).tolist() == [3, 3]
    assert repr(parameter) == "Parameter(None, shape=(2,))"


def test_serialize_round_trip(tmp_path):
    link = Scale()
    link.W.array = numpy.asarray([1.0, 2.0, 3.0], numpy.float32)
    serializers.save_npz(tmp_path / "link.npz", link)
    other = Scale()
    serializers.load_npz(tmp_path / "link.npz", other)
    assert other.W.array.tolist() == [1, 2, 3]


def test_a_parameter_without_shape_is_not_saved(tmp_path):
    link = Link()
    with link.init_scope():
        link.W = Parameter(initializers.Constant(3))
    link.name = "l1"
    expected = "shape of parameter 'W' of link 'l1' is not known yet; call the model on"
    with pytest.raises(RuntimeError, match=expected):
        serializers.save_npz(tmp_path / "link.npz", link)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base", [Link, vdcore.Chain, vdcore.ChainList])
def test_a_link_that_forgets_super_init(base):
    class Forgetful(base):
        def __init__(self, scoped):
            if scoped:
                with self.init_scope():
                    self.W = Parameter(initializers.Constant(0), (1,))

    expected = (
        r"^Forgetful: the link has not been set up; call super\(\)\.__init__\(\) at "
        r"the beginning of Forgetful\.__init__$"
    )
    with pytest.raises(RuntimeError, match=expected):
        Forgetful(scoped=True)
    with pytest.raises(RuntimeError, match=expected):
        list(Forgetful(scoped=False).params())


class Counter(Link):
    def __init__(self):
        super().__init__()
        self.add_persistent("mean", numpy.zeros(2, numpy.float32))
        self.count = 0
        self.register_persistent("count")


def test_persistents_are_saved_with_the_parameters(tmp_path):
    chain, other = (vdcore.ChainList(Counter()) for _ in range(2))
    chain[0].mean = numpy.asarray([1, 2], numpy.float32)
    chain[0].count = 5
    serializers.save_npz(tmp_path / "chain.npz", chain)
    with numpy.load(tmp_path / "chain.npz") as file:
        assert sorted(file) == ["0/count", "0/mean"]
    serializers.load_npz(tmp_path / "chain.npz", other)
    assert other[0].mean.tolist() == [1, 2]
    assert other[0].count == 5
    assert list(other.params()) == []


def test_a_file_that_does_not_fit_leaves_persistents(tmp_path):
    chain = vdcore.ChainList(Counter())
    numpy.savez(tmp_path / "a.npz", **{"0/count": 3, "0/mean": numpy.ones(2)})
    with pytest.raises(serializers.FileFormatError, match="'0/mean' must be float32"):
        serializers.load_npz(tmp_path / "a.npz", chain)
    assert chain[0].count == 0
    assert chain[0].mean.tolist() == [0, 0]


def test_persistents_move_and_are_copied(library):
    link = Counter()
    link.mean = library.asarray(numpy.ones(2, numpy.float32))
    other = link.copy()
    assert vdcore.ChainList(link).to_cpu()[0] is link
    assert type(link.mean) is numpy.ndarray
    assert link.count == 0
    other.mean = other.mean + 1
    assert link.mean.tolist() == [1, 1]


def test_names_of_persistents():
    link = Counter()
    link.register_persistent("count")  # again changes nothing
    assert [path for path, _ in link.namedpersistents()] == ["/mean", "/count"]
    nested = dict(Sequential(link).namedpersistents())
    assert nested["/0/count"] == link.count
    with pytest.raises(AttributeError, match="add_persistent: Counter has an attr"):
        link.add_persistent("count", 3)
    with pytest.raises(AttributeError, match="register_persistent: Counter has no"):
        link.register_persistent("missing")
