from __future__ import annotations

import numpy
import pytest

from vdcore import Chain, ChainList, Link, Parameter, Sequential, config, initializers
from vdcore import functions as F
from vdcore import links as L
from vdcore.recording import Step, record

LEAVES = {L.Linear: lambda link, shape: (link.out_size,)}


class Block(Chain):
    def __init__(self, in_size, out_size):
        super().__init__()
        with self.init_scope():
            self.fc = L.Linear(in_size, out_size)

    def forward(self, x):
        return F.tanh(self.fc(x))


class Model(Chain):
    """Runs its child and the function it is given."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        with self.init_scope():
            self.block = Block(6, 4)

    def forward(self, x):
        return self.function(self, x)


def steps(model, **options):
    return [(step.name, step.path) for step in record(model, LEAVES, **options)]


def test_order_is_that_of_the_forward_not_of_the_attributes():
    class Backwards(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.last = L.Linear(4, 2)
                self.first = Block(6, 4)

        def forward(self, x):
            return F.softmax(self.last(F.relu(self.first(F.flatten(x)))))

    assert steps(Backwards()) == [
        ("flatten", None),
        ("Linear", "/first/fc"),
        ("tanh", None),
        ("relu", None),
        ("Linear", "/last"),
        ("softmax", None),
    ]


def test_sequential_and_chain_list_at_any_depth():
    class Stack(ChainList):
        def forward(self, x):
            for link in self:
                x = link(x)
            return x

    model = Sequential(L.Linear(6, 5), F.sigmoid, Stack(Block(5, 4), L.Linear(4, 3)))
    assert steps(model) == [
        ("Linear", "/0"),
        ("sigmoid", None),
        ("Linear", "/1/0/fc"),
        ("tanh", None),
        ("Linear", "/1/1"),
    ]


def test_model_that_is_itself_a_leaf():
    link = L.Linear(3, 2)
    (step,) = record(link, LEAVES)
    assert step == Step("Linear", "/", link)


def test_runs_in_evaluation_mode():
    modes = []
    record(Model(lambda self, x: modes.append(config.train) or self.block(x)), LEAVES)
    assert modes == [False]


def test_subclass_with_its_parents_forward_is_a_leaf():
    class Named(L.Linear):
        pass

    assert steps(Named(3, 2)) == [("Named", "/")]


def test_subclass_with_a_forward_of_its_own_is_not():
    class Doubled(L.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    with pytest.raises(TypeError, match=r"`/0` \(Doubled\) is no link that"):
        record(Sequential(Doubled(3, 2)), LEAVES)


def test_leaf_gets_the_shape_of_one_example():
    shapes = []
    leaves = {L.Linear: lambda link, shape: shapes.append(shape) or (link.out_size,)}
    model = Sequential(L.Linear(6, 5), F.relu, L.Linear(5, 4))
    record(model, leaves, in_shape=(2, 3))
    record(Sequential(F.flatten, L.Linear(6, 4)), leaves, in_shape=(2, 3))
    record(model, leaves)
    assert shapes == [(2, 3), (5,), (6,), None, (5,)]


def test_forward_may_ask_for_the_shape_of_its_input():
    shapes = []

    def forward(self, x):
        shapes.append((x.shape, x.ndim))
        return self.block(x)

    record(Model(forward), LEAVES, in_shape=(2, 3))
    assert shapes == [((1, 2, 3), 3)]
    with pytest.raises(TypeError, match="pass `in_shape`"):
        record(Model(forward), LEAVES)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda self, x: x + 1, "`__add__`"),
        (lambda self, x: 1 - x, "`__rsub__`"),
        (lambda self, x: numpy.ones(3) * x, "`multiply`"),
        (lambda self, x: numpy.float32(2) * x, "`multiply`"),
        (lambda self, x: -x, "`__neg__`"),
        (lambda self, x: x @ x, "`__matmul__`"),
        (lambda self, x: x > 0, "`__gt__`"),
        (lambda self, x: x[0], "`__getitem__`"),
        (lambda self, x: list(x), "`__iter__`"),
        (lambda self, x: len(x), "`__len__`"),
        (lambda self, x: x and x, "`__bool__`"),
        (lambda self, x: float(x), "`__float__`"),
        (lambda self, x: numpy.maximum(x, 0), "`maximum`"),
        (lambda self, x: numpy.sum(x), "`sum`"),
        (lambda self, x: numpy.asarray(x), "`__array__`"),
        (lambda self, x: x.mean(), r"`\.mean`"),
        (lambda self, x: F.linear(x, self.block.fc.W.array), r"`\."),
    ],
)
def test_other_computations_are_refused_by_name(function, text):
    model = Sequential(Model(lambda self, x: function(self, self.block(x))))
    with pytest.raises(TypeError, match=rf"link `/0` \(Model\) uses {text}"):
        record(model, LEAVES, in_shape=(6,))


def test_residual_connection_is_refused():
    with pytest.raises(TypeError, match=r"`/` \(Model\) uses `__add__`"):
        record(Model(lambda self, x: self.block(x) + x), LEAVES)


def test_branches_are_refused():
    model = Model(lambda self, x: (self.block(x), self.block(x))[1])
    with pytest.raises(TypeError, match="its layers branch"):
        record(model, LEAVES)


def test_dropped_layers_are_refused():
    model = Model(lambda self, x: (x, self.block(x))[0])
    with pytest.raises(TypeError, match="its layers branch"):
        record(model, LEAVES)


@pytest.mark.parametrize("result", [(1, 2), None, 3.0])
def test_other_results_are_refused(result):
    name = type(result).__name__
    with pytest.raises(TypeError, match=rf"\(Model\) returns {name}, not activations"):
        record(Model(lambda self, x: result), LEAVES)


def test_unknown_link_is_named_by_path_and_class():
    class Scale(Link):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.W = Parameter(initializers.Constant(1), (3,))

        def forward(self, x):
            return x * self.W.array

    with pytest.raises(TypeError) as caught:
        record(Sequential(L.Linear(6, 3), Sequential(F.relu, Scale())), LEAVES)
    assert str(caught.value) == (
        "to_cpu_sparse: link `/1/0` (Scale) is no link that a sparse model can run; "
        "it can run Linear. A sparse model is a sequence of linear and convolution "
        "layers with batch normalisation, pooling, dropout, relu, tanh, sigmoid, "
        "softmax or flatten between them; or of an embedding, recurrent and linear "
        "layers"
    )


def test_link_without_parameters_is_run():
    class Activation(Link):
        def forward(self, x):
            return F.relu(x)

    assert steps(Sequential(L.Linear(6, 3), Activation()))[1:] == [("relu", None)]


def test_arrays_still_compute():
    numpy.testing.assert_array_equal(F.relu(numpy.asarray([-1.0, 2.0])), [0, 2])


def test_link_that_says_what_it_is_the_same_as():
    class Fused(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.fc = L.Linear(6, 3)

        def forward(self, x):
            return x @ self.fc.W.array.T

        def as_links(self):
            return self.fc, L.Linear(3, 2), L.Linear(2, 1)

    model = Sequential(Fused(), F.relu)
    assert steps(model) == [
        ("Linear", "/0/fc"),
        ("Linear", "/0"),
        ("Linear", "/0"),
        ("relu", None),
    ]


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
def test_rows_keep_the_last_axis(shape):
    seen = []

    def forward(model, x):
        x = F.rows(x)
        seen.append(x.shape)
        return model.block(x)

    record(Model(forward), LEAVES, in_shape=shape)
    assert seen == [(1, 5)]
