"""Chain, ChainList and Sequential."""

from __future__ import annotations

import numpy
import pytest

from vdcore import Chain, ChainList, Sequential, serializers
from vdcore import functions as F
from vdcore import links as L


class Block(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.conv = L.Linear(4, 4, nobias=True)
            self.out = L.Linear(4, 4)

    def forward(self, x):
        return self.out(F.relu(self.conv(x)))


class Net(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first = Block()
            self.rest = ChainList(L.Linear(4, 4), Block())
            self.head = Sequential(F.relu, L.Linear(4, 3), F.tanh, L.Linear(3, 2))
        self.unregistered = L.Linear(2, 2)

    def forward(self, x):
        x = self.first(x)
        for link in self.rest:
            x = link(x)
        return self.head(x)


PARAMETERS = [
    "/first/conv/W",
    "/first/out/W",
    "/first/out/b",
    "/rest/0/W",
    "/rest/0/b",
    "/rest/1/conv/W",
    "/rest/1/out/W",
    "/rest/1/out/b",
    "/head/0/W",
    "/head/0/b",
    "/head/1/W",
    "/head/1/b",
]


def test_paths():
    net = Net()
    assert [path for path, _ in net.namedparams()] == PARAMETERS
    paths = [path for path, _ in net.namedlinks()]
    assert paths[:4] == ["/", "/first", "/first/conv", "/first/out"]
    assert len(paths) == len(set(paths)) == 12
    assert len(list(net.links())) == 12
    assert [link.name for link in net.children()] == ["first", "rest", "head"]
    assert dict(net.namedlinks())["/rest/1"] is net.rest[1]


def test_sequential_is_the_composition(rng):
    net = Net()
    x = rng.standard_normal((5, 4)).astype(numpy.float32)
    h = F.relu(x)
    h = net.head[0](h)
    expected = net.head[1](F.tanh(h))
    numpy.testing.assert_array_equal(net.head(x), expected)
    assert net(x).shape == (5, 2)


def test_sequential_refuses_what_cannot_be_called():
    with pytest.raises(TypeError, match="must be a Link or a callable, got int"):
        Sequential(L.Linear(2, 2), 3)


def test_chain_list():
    links = [L.Linear(2, 2) for _ in range(3)]
    chain = ChainList(*links[:2])
    chain.add_link(links[2])
    assert len(chain) == 3
    assert list(chain) == links
    assert chain[2].name == "2"


def test_children_by_name():
    net = Net()
    assert net["first"]["out"] is net.first.out
    with pytest.raises(
        KeyError, match="Net: no child link 'last', there are first, rest"
    ):
        net["last"]


def test_a_child_replaced_keeps_its_place():
    net = Net()
    new, newer = L.Linear(4, 4), L.Linear(4, 3)
    net.replace_child("first", new)
    net.head.replace_child("0", newer)
    assert [link.name for link in net.children()] == ["first", "rest", "head"]
    assert net.first is net["first"] is new
    assert net.head[0] is newer
    x = numpy.ones((1, 4), numpy.float32)
    expected = net.head[1](F.tanh(newer(F.relu(x))))
    numpy.testing.assert_array_equal(net.head(x), expected)


def test_copy_shares_nothing():
    net = Net()
    other = net.copy()
    for (path, ours), (other_path, theirs) in zip(
        net.namedparams(), other.namedparams(), strict=True
    ):
        assert path == other_path
        assert not numpy.shares_memory(ours.array, theirs.array)
        numpy.testing.assert_array_equal(ours.array, theirs.array)


def test_files_have_chainers_layout(tmp_path):
    net, other = Net(), Net()
    path = tmp_path / "net.npz"
    serializers.save_npz(path, net)
    with numpy.load(path, allow_pickle=False) as file:
        assert sorted(file) == sorted(name[1:] for name in PARAMETERS)
    serializers.load_npz(path, other)
    x = numpy.ones((2, 4), numpy.float32)
    numpy.testing.assert_array_equal(net(x), other(x))


def test_a_link_held_twice_counts_once():
    class Tied(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.a = L.Linear(2, 2)
                self.b = self.a

    model = Tied()
    assert len(list(model.links())) == 2
    assert len(list(model.params())) == 2
