"""What the functions refuse, in every library, compiled and traced too."""

from __future__ import annotations

import re
from functools import partial

import numpy
import pytest

from vdcore import variational
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients

ELEMENTWISE = [
    variational.dropout_rate,
    variational.keep_mask,
    variational.kl_sparse_vd,
    variational.kl_sparse_vd_exact,
    variational.kl_sparse_vd_exact_grad,
    variational.kl_sparse_vd_grad,
    variational.log_alpha_grad,
    variational.significand_bits,
]
# The arguments of the others by name, the one whose dtype counts first, with shapes
# that fit and no two sizes alike.
FUNCTIONS = {
    variational.layer_size: {"theta": (2, 3), "log_sigma2": (2, 3)},
    variational.linear_moments: {
        "theta": (2, 3),
        "log_sigma2": (2, 3),
        "x": (5, 3),
        "b": (2,),
    },
    variational.log_alpha: {"theta": (2, 3), "log_sigma2": (2, 3)},
    variational.sample: {"mean": (5, 3), "variance": (5, 3), "noise": (5, 3)},
}


def bound(library, function):
    """The function without the arguments that are tested by themselves."""
    if function is variational.layer_size:
        return partial(function, "/l", library.asarray(numpy.ones((2, 3), bool)))
    return function


def called(library, function, arrays):
    """Call with arguments by name; compiled, if it gives arrays."""
    function = bound(library, function)
    if isinstance(function, partial):
        return function(**arrays)
    names = list(arrays)
    return library.call(
        lambda *values: function(**dict(zip(names, values, strict=True))),
        *arrays.values(),
    )


def fitting(library, function, dtype="float32"):
    return {
        name: library.asarray(numpy.ones(shape, dtype))
        for name, shape in FUNCTIONS[function].items()
    }


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_fits_is_accepted(library, function, dtype):
    called(library, function, fitting(library, function, dtype))


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
@pytest.mark.parametrize("function", ELEMENTWISE)
def test_other_dtypes_are_refused(library, function, dtype):
    array = library.asarray(numpy.zeros(3, dtype))
    expected = (
        rf"{function.__name__}: `(log_alpha|theta|variance)` must have a real floating "
        rf"dtype, got \S*{dtype}; convert it, for example to float32"
    )
    with pytest.raises(TypeError, match=expected):
        library.call(function, array)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_arrays_that_are_all_of_another_dtype_are_refused(library, function, dtype):
    expected = r": `\w+` must have a real floating dtype, got .*; convert it"
    with pytest.raises(TypeError, match=function.__name__ + expected):
        called(library, function, fitting(library, function, dtype))


@pytest.mark.parametrize("other", ["float64", "int32"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_mixed_dtypes_are_refused(library, function, other):
    first, *others = FUNCTIONS[function]
    for name in others:
        arrays = fitting(library, function)
        arrays[name] = library.asarray(numpy.ones(FUNCTIONS[function][name], other))
        expected = (
            rf"{function.__name__}: `{name}` must have the dtype of `{first}`, "
            rf"\S*float32, got \S*{other}; convert one of them"
        )
        with pytest.raises(TypeError, match=expected):
            called(library, function, arrays)


@pytest.mark.parametrize(
    ("function", "name", "shape", "expected"),
    [
        (variational.sample, "noise", (3,), "the shape of `mean`, (5, 3), got (3,)"),
        (variational.sample, "noise", (5, 1), "the shape of `mean`, (5, 3), got"),
        (variational.sample, "noise", (), "the shape of `mean`, (5, 3), got ()"),
        (variational.sample, "variance", (3,), "the shape of `mean`, (5, 3), got (3,)"),
        (variational.sample, "mean", (1, 5, 3), "the shape of `mean`, (1, 5, 3), got"),
        (
            variational.log_alpha,
            "log_sigma2",
            (3,),
            "the shape of `theta`, (2, 3), got",
        ),
        (variational.log_alpha, "log_sigma2", (), "the shape of `theta`, (2, 3), got"),
        (variational.linear_moments, "log_sigma2", (3,), "the shape of `theta`"),
        (variational.linear_moments, "b", (2, 1), "shape (2,) to go with"),
        (variational.linear_moments, "b", (1,), "shape (2,) to go with"),
        (variational.linear_moments, "b", (), "shape (2,) to go with"),
        (variational.linear_moments, "b", (5, 2), "shape (2,) to go with"),
        (variational.linear_moments, "b", (3,), "shape (2,) to go with"),
        (variational.linear_moments, "x", (3,), "shape (batch, 3) to go with `theta`"),
        (variational.linear_moments, "x", (5, 2), "shape (batch, 3) to go with"),
        (variational.linear_moments, "x", (4, 5, 3), "shape (batch, 3) to go with"),
        (variational.linear_moments, "theta", (3,), "(out_size, in_size), got (3,)"),
        (variational.linear_moments, "theta", (4, 2, 3), "(out_size, in_size), got"),
        (variational.layer_size, "theta", (3, 2), "the shape of `keep`, (2, 3), got"),
        (variational.layer_size, "log_sigma2", (3,), "the shape of `keep`, (2, 3)"),
    ],
)
def test_other_shapes_are_refused(library, function, name, shape, expected):
    """Those too that would broadcast."""
    arrays = fitting(library, function)
    arrays[name] = library.asarray(numpy.ones(shape, "float32"))
    with pytest.raises(ValueError, match=re.escape(expected)) as error:
        called(library, function, arrays)
    assert str(error.value).startswith(f"{function.__name__}: `")


@pytest.mark.parametrize("value", [None, 0.0, [0.0]])
@pytest.mark.parametrize("function", ELEMENTWISE)
def test_what_is_no_array_is_refused(function, value):
    expected = (
        rf"{function.__name__}: `\w+` must be an array, got {type(value).__name__}; "
        "convert it, for example by numpy.asarray"
    )
    with pytest.raises(TypeError, match=expected):
        function(value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_number_among_arrays_is_refused(library, function):
    for name in FUNCTIONS[function]:
        arrays = fitting(library, function) | {name: 1.0}
        expected = rf"{function.__name__}: `{name}` must be an array, got float"
        with pytest.raises(TypeError, match=expected):
            bound(library, function)(**arrays)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_masks_are_booleans(library, dtype):
    keep = library.asarray(numpy.ones((2, 3), dtype))
    theta = library.asarray(numpy.ones((2, 3)))
    for name, function in (
        ("sparsity", variational.sparsity),
        ("layer_size", lambda keep: variational.layer_size("/l", keep, theta)),
    ):
        expected = (
            rf"{name}: `keep` must be an array of booleans, got \S*{dtype}; make it by "
            "keep_mask"
        )
        with pytest.raises(TypeError, match=expected):
            function(keep)


def test_traced_arrays_are_checked_and_accepted(tape_library):
    """The derivative of a sample by its mean is 1, whatever the noise."""
    arrays = list(fitting(tape_library, variational.sample).values())

    def total(noise, mean, variance):
        y = variational.sample(mean, variance, noise)
        return array_namespace(y).sum(y)

    _, (slope, _) = value_and_gradients(partial(total, arrays[2]), arrays[:2])
    numpy.testing.assert_array_equal(to_numpy(slope), numpy.ones((5, 3)))
    row = tape_library.asarray(numpy.ones(3, "float32"))
    with pytest.raises(ValueError, match=r"sample: `noise` must have the shape of"):
        value_and_gradients(partial(total, row), arrays[:2])
    double = tape_library.asarray(numpy.ones((5, 3)))
    with pytest.raises(TypeError, match=r"sample: `noise` must have the dtype of"):
        value_and_gradients(partial(total, double), arrays[:2])


def test_half_precision_of_torch_is_accepted(torch):
    for dtype in (torch.float16, torch.bfloat16):
        arrays = [torch.ones((2, 3), dtype=dtype) for _ in range(3)]
        assert variational.sample(*arrays).dtype == dtype
        assert variational.kl_sparse_vd(arrays[0]).dtype == dtype


def test_bfloat16_of_jax_is_accepted(jax):
    arrays = [jax.numpy.ones((2, 3), dtype=jax.numpy.bfloat16) for _ in range(3)]
    assert jax.jit(variational.sample)(*arrays).dtype == jax.numpy.bfloat16
