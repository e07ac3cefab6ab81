"""One mathematics: each backend, given the same weights, inputs and noise, agrees.

Outputs, KL terms and gradients of a linear layer, a convolution and an embedding, of
vdcore's functions on the tape, of ``vdcore.variational`` composed and differentiated by
torch and JAX, and of the torch and JAX backends, against formulas written down here in
NumPy: to 1e-12 in float64 and to 1e-5 in float32, relative to the largest element.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy
import pytest
from scipy.integrate import quad
from scipy.special import dawsn

from tests.conftest import ON_TAPE, make_library
from vdcore import functions as F
from vdcore import variational
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients

STRIDE, PAD, DILATE = (2, 1), (1, 2), (1, 2)
KL_FACTOR = 0.25  # of the KL term in the objective
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
NAMES = ("theta", "log_sigma2", "b", "x")


class Case(NamedTuple):
    """What a backend is given; the objective is sum(weights * y) + KL_FACTOR * KL.

    `x` is None for an embedding, whose rows `ids` are looked up; `b` is None there.
    """

    theta: Any
    log_sigma2: Any
    b: Any
    x: Any
    ids: Any
    noise: Any
    weights: Any


class Answer(NamedTuple):
    """What a backend says: outputs, the KL term, the gradients by those of `NAMES`."""

    y: Any
    kl: Any
    gradients: tuple[Any, ...]


# The oracle: formulas, in double precision.


def make_case(operation):
    rng = numpy.random.default_rng(5)
    shapes = {  # of the weights, inputs and outputs
        "linear": ((20, 30), (9, 30), (9, 20)),
        "convolution": ((4, 3, 3, 2), (2, 3, 6, 5), (2, 4, 3, 7)),
        "embedding": ((7, 5), None, (2, 6, 5)),
    }
    weights, inputs, outputs = shapes[operation]
    theta = rng.standard_normal(weights)
    # A bias and inputs where there are some; log alpha from about -6 to 6.
    return Case(
        theta,
        rng.uniform(-4, 4, weights),
        None if inputs is None else rng.standard_normal(weights[0]),
        None if inputs is None else rng.standard_normal(inputs),
        rng.integers(0, 7, (2, 6)) if inputs is None else None,
        rng.standard_normal(outputs),
        rng.standard_normal(outputs),
    )


def oracle(operation, case, kind):
    theta, log_sigma2 = case.theta, case.log_sigma2
    square = theta**2 + 1e-8
    la = log_sigma2 - numpy.log(square)
    divergence, slope = DIVERGENCES[kind]
    if operation == "embedding":
        y, by_layer = embedding_oracle(case)
    else:
        y, by_layer = noisy_map_oracle(operation, case)
    by_theta, by_log_sigma2, *others = by_layer
    slopes = KL_FACTOR * slope(la)
    gradients = (by_theta - 2 * theta / square * slopes, by_log_sigma2 + slopes)
    return Answer(y, divergence(la).sum(), (*gradients, *others))


def noisy_map_oracle(operation, case):
    """Molchanov et al. 2017, equation 17, for rows of inputs; and its derivatives."""
    W, sigma2 = (a.reshape(len(a), -1) for a in (case.theta, numpy.exp(case[1])))
    noise, g = case.noise, case.weights
    if operation == "linear":
        rows = case.x
    else:  # a convolution is a linear map of the pixels under its window
        pixels, positions = window_pixels(case.x.shape)
        padded = numpy.append(case.x.ravel(), 0)
        rows = padded[pixels]
        noise, g = (a.transpose(0, 2, 3, 1).reshape(len(rows), -1) for a in (noise, g))
    std = numpy.sqrt(rows**2 @ sigma2.T + 1e-8)
    y = rows @ W.T + std * noise + case.b
    by_variance = g * noise / (2 * std)
    by_theta = (g.T @ rows).reshape(case.theta.shape)
    by_log_sigma2 = (by_variance.T @ rows**2 * sigma2).reshape(case.theta.shape)
    by_x = g @ W + 2 * rows * (by_variance @ sigma2)
    if operation == "convolution":
        y = y.reshape(len(case.x), *positions, -1).transpose(0, 3, 1, 2)
        summed = numpy.zeros(case.x.size + 1)
        numpy.add.at(summed, pixels, by_x)
        by_x = summed[:-1].reshape(case.x.shape)
    return y, (by_theta, by_log_sigma2, g.sum(axis=0), by_x)


def window_pixels(shape):
    """For each output (row) and element of the kernel the pixel's place in `x`.

    Pixels of the padding have the place after the last.
    """
    batch, channels, height, width = shape
    kernel = (3, 2)
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            (height, width), kernel, STRIDE, PAD, DILATE, strict=True
        )
    ]
    axes = (batch, *sizes, channels, *kernel)
    image, top, left, channel, row, column = numpy.indices(axes)
    row = top * STRIDE[0] + row * DILATE[0] - PAD[0]
    column = left * STRIDE[1] + column * DILATE[1] - PAD[1]
    place = ((image * channels + channel) * height + row) * width + column
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixels = numpy.where(inside, place, batch * channels * height * width)
    return pixels.reshape(batch * sizes[0] * sizes[1], -1), sizes


def embedding_oracle(case):
    """``theta + sigma * noise`` of the rows looked up, each with its own noise."""
    spread = numpy.exp(case.log_sigma2 / 2)[case.ids] * case.noise
    by_theta, by_log_sigma2 = numpy.zeros((2, *case.theta.shape))
    numpy.add.at(by_theta, case.ids, case.weights)
    numpy.add.at(by_log_sigma2, case.ids, case.weights * spread / 2)
    return case.theta[case.ids] + spread, (by_theta, by_log_sigma2)


def equation_14(la):
    s = 1 / (1 + numpy.exp(-(1.87320 + 1.48695 * la)))
    return 0.5 * numpy.log1p(numpy.exp(-la)) + 0.63576 - 0.63576 * s


def slope_of_equation_14(la):
    s = 1 / (1 + numpy.exp(-(1.87320 + 1.48695 * la)))
    return -0.63576 * 1.48695 * s * (1 - s) - 0.5 / (1 + numpy.exp(la))


@numpy.vectorize
def true_divergence(la):
    """Twice the integral of Dawson's function from 0 to sqrt(1 / (2 alpha))."""
    return 2 * quad(dawsn, 0, numpy.sqrt(0.5 * numpy.exp(-la)), epsabs=1e-12)[0]


def true_slope(la):
    root = numpy.sqrt(0.5 * numpy.exp(-la))
    return -root * dawsn(root)


DIVERGENCES = {
    "molchanov": (equation_14, slope_of_equation_14),
    "exact": (true_divergence, true_slope),
}


# The backends. Each states layers, KL and gradients in its own way.


class Backend:
    """Makes an Answer of a Case of NumPy arrays; its methods are a backend's."""

    operations = ("linear", "convolution", "embedding")

    def answer(self, operation, case, kind):
        case = Case(*(a if a is None else self.array(a) for a in case))
        given = {n: getattr(case, n) for n in NAMES if getattr(case, n) is not None}

        def outputs(*arrays):
            traced = case._replace(**dict(zip(given, arrays, strict=True)))
            return self.outputs(operation, traced, kind)

        def objective(*arrays):
            y, kl = outputs(*arrays)
            return self.sum(y * case.weights) + kl * KL_FACTOR

        arrays = list(given.values())
        gradients = self.gradients(objective, arrays)
        return Answer(*self.compiled(outputs)(*arrays), tuple(gradients))

    def sum(self, y):
        return array_namespace(y).sum(y)

    def compiled(self, function):
        return function


class Tape(Backend):
    """vdcore's functions, fused, on the tape; for the arrays of one library."""

    def __init__(self, library):
        self.array = make_library(library).asarray

    def outputs(self, operation, case, kind):
        W, log_sigma2, b, x, ids, noise, _ = case
        kl = F.sparse_vd_kl(W, log_sigma2, kl=kind)[0]
        noise = noise + 0  # consumed
        if operation == "linear":
            return F.vd_linear(x, W, log_sigma2, b, noise), kl
        if operation == "convolution":
            options = {"stride": STRIDE, "pad": PAD, "dilate": DILATE}
            return F.vd_convolution_2d(x, W, log_sigma2, b, noise, **options), kl
        rows = (F.embed_id(ids, table) for table in (W, log_sigma2))
        return F.sample_weights(*rows, noise), kl

    def gradients(self, objective, arrays):
        return value_and_gradients(objective, arrays)[1]


class Composition(Tape):
    """``vdcore.variational`` alone, traced: no kernel, no derivative by hand."""

    operations = ("linear",)

    def outputs(self, operation, case, kind):
        return composition(case, kind)


class TorchComposition(Backend):
    """``vdcore.variational`` on torch's tensors, by torch's gradients."""

    operations = ("linear",)

    def __init__(self):
        self.torch = pytest.importorskip("torch", reason="torch is not installed")
        self.array = self.torch.asarray

    def outputs(self, operation, case, kind):
        return composition(case, kind)

    def gradients(self, objective, arrays):
        for array in arrays:
            array.requires_grad_()
        return self.torch.autograd.grad(objective(*arrays), arrays)


class TorchBackend(TorchComposition):
    """The modules of vdcore.backends.torch_backend, given the draws of the case."""

    operations = Backend.operations

    def outputs(self, operation, case, kind):
        from vdcore.backends import torch_backend as vd

        torch, theta = self.torch, case.theta
        options = {"kl": kind, "clip": None, "dtype": theta.dtype}
        if operation == "linear":
            layer = vd.LinearVD(*theta.shape[::-1], **options)
        elif operation == "convolution":
            options |= {"stride": STRIDE, "padding": PAD, "dilation": DILATE}
            out_channels, in_channels, *window = theta.shape
            layer = vd.Conv2dVD(in_channels, out_channels, tuple(window), **options)
        else:
            layer = vd.EmbeddingVD(*theta.shape, noise="activations", **options)

        class WithKL(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def forward(self, x):
                return self.layer(x), vd.kl_divergence(self.layer)

        weights = {"weight": theta, "log_sigma2": case.log_sigma2, "bias": case.b}
        named = {f"layer.{k}": v for k, v in weights.items() if v is not None}
        x = case.ids if case.x is None else case.x
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", drawn(case.noise))
            return torch.func.functional_call(WithKL(), named, (x,))


class JaxComposition(Backend):
    """``vdcore.variational`` on JAX's arrays, compiled with JAX's gradients."""

    operations = ("linear",)

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX's, not ours
            self.jax = pytest.importorskip("jax", reason="jax is not installed")
        self.array = self.jax.numpy.asarray

    def answer(self, operation, case, kind):
        with self.jax.enable_x64(case.theta.dtype == "float64"):
            return super().answer(operation, case, kind)

    def outputs(self, operation, case, kind):
        return composition(case, kind)

    def gradients(self, objective, arrays):
        by_all = tuple(range(len(arrays)))
        return self.compiled(self.jax.grad(objective, by_all))(*arrays)

    def compiled(self, function):
        return self.jax.jit(function)


class JaxBackend(JaxComposition):
    """The functions of vdcore.backends.jax_backend, given the draws of the case."""

    operations = Backend.operations

    def outputs(self, operation, case, kind):
        from vdcore.backends import jax_backend as vd

        posterior = vd.Posterior(case.theta, case.log_sigma2)
        key = self.jax.random.key(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.jax.random, "normal", drawn(case.noise))
            if operation == "linear":
                # Its weights are (in, out).
                W = self.jax.tree.map(lambda w: w.T, posterior)
                y = vd.linear(W, case.x, case.b, key=key)
            elif operation == "convolution":
                options = {"window_strides": STRIDE, "rhs_dilation": DILATE}
                options["padding"] = [(p, p) for p in PAD]
                y = vd.convolution(posterior, case.x, case.b, key=key, **options)
            else:
                y = vd.embedding(posterior, case.ids, key=key)
        return y, vd.kl(posterior, kind)


def composition(case, kind):
    moments = variational.linear_moments(case.x, case.theta, case.log_sigma2, case.b)
    log_alpha = variational.log_alpha(case.theta, case.log_sigma2)
    functions = {
        "molchanov": variational.kl_sparse_vd,
        "exact": variational.kl_sparse_vd_exact,
    }
    kl = functions[kind](log_alpha)
    return variational.sample(*moments, case.noise), array_namespace(kl).sum(kl)


def drawn(noise):
    """A generator's function that yields `noise`, for whom it has the shape."""

    def draw(*arguments, **options):
        shapes = [tuple(a) for a in arguments if isinstance(a, tuple | list)]
        assert shapes == [tuple(noise.shape)]
        return noise + 0

    return draw


BACKENDS = {
    **{f"tape-{name}": (Tape, name) for name in ON_TAPE},
    **{f"composition-{name}": (Composition, name) for name in ON_TAPE},
    "composition-torch": (TorchComposition,),
    "composition-jax": (JaxComposition,),
    "torch-backend": (TorchBackend,),
    "jax-backend": (JaxBackend,),
}
RUNS = [
    (backend, operation)
    for backend, (cls, *_) in BACKENDS.items()
    for operation in cls.operations
]


def as_float64(values):
    return to_numpy(values).astype(numpy.float64)


@pytest.mark.parametrize("kind", ["molchanov", "exact"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("backend", "operation"), RUNS)
def test_same_numbers(backend, operation, dtype, kind):
    make, *arguments = BACKENDS[backend]
    case = make_case(operation)
    cast = Case(*(a.astype(dtype) if is_real(a) else a for a in case))
    answer = make(*arguments).answer(operation, cast, kind)
    # Of the numbers as they are in float32, which the backend was given.
    exact = Case(*(a.astype("float64") if is_real(a) else a for a in cast))
    expected = oracle(operation, exact, kind)
    assert len(answer.gradients) == len(expected.gradients)
    for name, actual, right in zip(
        ("y", "kl", *NAMES),
        (answer.y, answer.kl, *answer.gradients),
        (expected.y, expected.kl, *expected.gradients),
        strict=False,
    ):
        assert to_numpy(actual).dtype == dtype
        error = numpy.abs(as_float64(actual) - right).max()
        tolerance = TOLERANCE[dtype] * numpy.abs(right).max()
        if kind == "exact" and name in ("kl", "theta", "log_sigma2"):
            tolerance += error_of_the_fit(name, exact)
        assert error <= tolerance, name


def is_real(array):
    return array is not None and array.dtype.kind == "f"


def error_of_the_fit(name, case):
    """What the polynomial of the exact KL, or its slope, may be off by; see kl.py."""
    if name == "kl":
        return 3e-8 * case.theta.size
    slope_of_log_alpha = 2 / numpy.abs(case.theta).min() if name == "theta" else 1
    return 3e-8 * KL_FACTOR * slope_of_log_alpha


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "tape-numpy"])
def test_same_fit_of_the_exact_kl(backend):
    """To 1e-12 of vdcore's own functions, for the formula is not as close as that."""
    make, *arguments = BACKENDS[backend]
    case = make_case("linear")
    right = Tape("numpy").answer("linear", case, "exact")
    answer = make(*arguments).answer("linear", case, "exact")
    for actual, expected in zip(
        (answer.kl, *answer.gradients), (right.kl, *right.gradients), strict=True
    ):
        error = numpy.abs(as_float64(actual) - as_float64(expected)).max()
        assert error <= 1e-12 * numpy.abs(as_float64(expected)).max()


def test_the_oracle_by_differences():
    """Its gradients, in a random direction, are slopes of its own objective."""
    rng = numpy.random.default_rng(3)
    for operation in Backend.operations:
        case = make_case(operation)
        ds = {n: getattr(case, n) for n in NAMES if getattr(case, n) is not None}
        ds = {name: rng.standard_normal(a.shape) for name, a in ds.items()}

        def objective(step, operation=operation, case=case, ds=ds):
            moved = {n: getattr(case, n) + step * d for n, d in ds.items()}
            answer = oracle(operation, case._replace(**moved), "molchanov")
            return (answer.y * case.weights).sum() + KL_FACTOR * answer.kl

        gradients = oracle(operation, case, "molchanov").gradients
        slope = sum(
            numpy.vdot(g, d) for g, d in zip(gradients, ds.values(), strict=True)
        )
        difference = (objective(1e-6) - objective(-1e-6)) / 2e-6
        assert slope == pytest.approx(difference, rel=1e-6)
