"""The JAX backend: its transformations, its errors, and the way to the sparse model.

That its numbers are those of the other backends is tested in
tests/variational/test_same_mathematics.py.
"""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # JAX's, not ours
    jax = pytest.importorskip("jax", reason="jax is not installed")

import jax.numpy as jnp
from scipy.special import dawsn

from vdcore import variational
from vdcore.backends import jax_backend as vd
from vdcore.backends import sparse_backend

KEY = 7


@pytest.fixture(autouse=True)
def dtype(request):
    """float32, as is JAX's default; of `both`, float64 too, in JAX's other mode."""
    dtype = getattr(request, "param", "float32")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)  # to compile sooner
    with jax.enable_x64(dtype == "float64"):
        yield dtype
    jax.config.update("jax_disable_most_optimizations", before)


both = pytest.mark.parametrize("dtype", ["float32", "float64"], indirect=True)


@pytest.fixture
def params(rng, dtype):
    """A multilayer perceptron 6-8-3 as a pytree, some weights of it noise."""

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    params = vd.init(
        {
            "l1": {"W": normal(6, 8), "b": normal(8)},
            "l2": {"W": normal(8, 3), "b": normal(3)},
        }
    )
    for layer in params.values():
        theta = layer["W"].theta
        layer["W"] = vd.Posterior(theta, normal(*theta.shape) * 3)
    return params


@pytest.fixture
def x(rng, dtype):
    return jnp.asarray(rng.standard_normal((5, 6)), dtype)


def model(params, x, key=None):
    keys = vd.split(key, 2)
    h = vd.linear(params["l1"]["W"], x, params["l1"]["b"], key=keys[0])
    return vd.linear(params["l2"]["W"], jax.nn.relu(h), params["l2"]["b"], key=keys[1])


def plain_model(weights, x):
    h = jax.nn.relu(x @ weights["l1"]["W"] + weights["l1"]["b"])
    return h @ weights["l2"]["W"] + weights["l2"]["b"]


def loss(params, x, key, kind="molchanov"):
    y = model(params, x, key)
    return jnp.mean(y**2) + vd.kl(params, kind) / 100


def relative(dtype):
    return 1e-5 if dtype == "float32" else 1e-12


# init


@both
def test_init_takes_weights_and_leaves_biases(params, dtype):
    plain = {"W": jnp.ones((2, 3)), "b": jnp.ones(3), "steps": jnp.asarray(4)}
    tree = vd.init([plain, (plain["W"],)], -7)
    assert jax.tree.structure(vd.prune(tree)) == jax.tree.structure(
        [plain, (plain["W"],)]
    )
    assert_array_equal(tree[1][0].theta, 1)
    assert_array_equal(tree[1][0].log_sigma2, -7)
    assert tree[0]["W"].log_sigma2.dtype == dtype
    assert tree[0]["b"] is plain["b"]
    assert tree[0]["steps"] is plain["steps"]


def test_init_asks_by_path():
    asked = []

    def variational(path, leaf):
        asked.append(path)
        return path.endswith("scale")

    plain = {"l1": {"W": jnp.ones((2, 3)), "scale": jnp.ones(3)}, "l2": [jnp.ones(1)]}
    tree = vd.init(plain, variational=variational)
    assert sorted(asked) == ["l1/W", "l1/scale", "l2/0"]
    assert isinstance(tree["l1"]["scale"], vd.Posterior)
    assert tree["l1"]["W"] is plain["l1"]["W"]
    assert vd.size(tree).layers[0].weights == 3


@pytest.mark.parametrize(
    ("tree", "error", "expected"),
    [
        ({"W": numpy.ones((2, 2))}, TypeError, r"params\['W'\].*JAX, got one of numpy"),
        ({"W": [[1.0]]}, TypeError, r"params\['W/0/0'\]` must be an array, got float"),
        ({"n": jnp.ones((2, 2), int)}, TypeError, r"params\['n'\].*real floating"),
        ({"n": jnp.ones((2, 2), bool)}, TypeError, r"params\['n'\].*got bool"),
        ({"b": jnp.ones(2)}, ValueError, "there is no Posterior in `params`"),
        ({}, ValueError, "there is no Posterior in `params`"),
        ([vd.Posterior(jnp.ones(2), jnp.ones(2))], TypeError, "Posterior already"),
    ],
)
def test_init_refuses(tree, error, expected):
    with pytest.raises(error, match=f"^init: .*{expected}"):
        vd.init(tree)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_init_refuses_a_variance_that_is_no_number(value):
    with pytest.raises(ValueError, match=r"^init: `initial_log_sigma2` must be a fini"):
        vd.init([jnp.ones((2, 2))], value)


# transformations


@both
@pytest.mark.parametrize("kind", ["molchanov", "exact"])
def test_jit_and_grad(params, x, dtype, kind):
    """The gradient against a difference in a random direction."""
    key = jax.random.key(KEY)
    compiled = jax.jit(jax.value_and_grad(loss), static_argnums=3)
    value, gradient = compiled(params, x, key, kind)
    assert value.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {numpy.dtype(dtype)}
    if dtype == "float32":
        return
    rng = numpy.random.default_rng(1)
    ds = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)

    @jax.jit
    def moved(step):
        there = jax.tree.map(lambda p, d: p + step * d, params, ds)
        return loss(there, x, key, kind)

    pairs = zip(*map(jax.tree.leaves, (gradient, ds)), strict=True)
    slope = sum(numpy.vdot(g, d) for g, d in pairs)
    assert slope == pytest.approx(float(moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-6)


def test_vmap_over_examples_and_keys(params, x, dtype):
    keys = jax.random.split(jax.random.key(KEY), 5)
    mapped = jax.jit(jax.vmap(model, (None, 0, 0)))(params, x, keys)
    alone = jax.jit(model)
    one_by_one = [alone(params, x[k], keys[k]) for k in range(5)]
    assert mapped.shape == (5, 3)
    assert_allclose(mapped, jnp.stack(one_by_one), rtol=1e-5, atol=1e-5)


def test_vmap_over_networks(params, dtype):
    """An ensemble is a tree with one axis more."""
    both = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    doubled = jax.tree.map(lambda p: 2 * p, params)
    for function in (vd.kl, vd.sparsity):
        alone, mapped = jax.jit(function), jax.jit(jax.vmap(function))
        expected = [alone(params), alone(doubled)]
        assert_allclose(mapped(both), jnp.stack(expected), rtol=1e-5)


def test_jit_of_all_that_can_be(params, x, dtype):
    key = jax.random.key(KEY)
    for function in (
        lambda params: vd.sample(params, key),
        vd.prune,
        vd.sparsity,
        vd.kl,
        lambda params: vd.apply(plain_model, params, x, key=key),
        lambda params: vd.apply(plain_model, params, x),
    ):
        plain, compiled = function(params), jax.jit(function)(params)
        assert jax.tree.structure(plain) == jax.tree.structure(compiled)
        for a, b in zip(*map(jax.tree.leaves, (plain, compiled)), strict=True):
            assert_allclose(a, b, rtol=10 * relative(dtype), atol=relative(dtype))


def test_threshold_may_be_traced(params):
    swept = jax.vmap(vd.sparsity, (None, 0))(params, jnp.asarray([-20.0, 3.0, 20.0]))
    assert_allclose(swept, [1, vd.sparsity(params), 0], atol=1e-6)


@both
def test_exact_kl_has_dawsons_slope(dtype):
    la = jnp.linspace(-8, 8, 33).astype(dtype)
    ones = jnp.ones_like(la)

    def divergence(log_sigma2):
        return vd.kl(vd.Posterior(ones, log_sigma2), "exact")

    root = numpy.sqrt(0.5 * numpy.exp(-numpy.asarray(la, "float64")))
    expected = -root * dawsn(root)
    slope = jax.jit(jax.grad(divergence))(la)
    assert_allclose(slope, expected, atol=4e-8 if dtype == "float64" else 4e-7)


def test_zero_weights_have_finite_gradients(dtype):
    W = vd.init([jnp.zeros((3, 2))], -10)
    x = jnp.zeros((4, 3))

    def value(W):
        return vd.linear(W[0], x, key=jax.random.key(0)).sum() + vd.kl(W, "exact")

    gradient = jax.jit(jax.grad(value))(W)[0]
    assert numpy.isfinite(gradient.theta).all()
    assert numpy.isfinite(gradient.log_sigma2).all()


# what is drawn


def test_the_key_decides(params, x):
    draws = [vd.sample(params, jax.random.key(k))["l1"]["W"] for k in (1, 1, 2)]
    assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).all()
    ys = [model(params, x, jax.random.key(k)) for k in (1, 1, 2)]
    assert_array_equal(ys[0], ys[1])
    assert (ys[0] != ys[2]).all()


def test_old_keys_work(params, x):
    """Arrays of two uint32: the same numbers as of a new key."""
    new, old = jax.random.key(KEY), jax.random.PRNGKey(KEY)
    assert_array_equal(model(params, x, new), model(params, x, old))
    a, b = vd.sample(params, new), vd.sample(params, old)
    assert_array_equal(a["l2"]["W"], b["l2"]["W"])


def test_weights_have_noise_of_their_own(dtype):
    """Equal weights in two leaves: 40,000 draws, their moments and no correlation."""
    W = jnp.full((200, 200), 0.5, dtype)
    tree = vd.init({"a": W, "b": W}, float(numpy.log(0.04)))
    drawn = vd.sample(tree, jax.random.key(KEY))
    a, b = (numpy.asarray(drawn[k], "float64") - 0.5 for k in "ab")
    # Standard errors: 0.001 of the mean, 0.0007 of the deviation, 0.005 of the last.
    assert abs(a.mean()) < 0.004
    assert a.std() == pytest.approx(0.2, abs=0.003)
    assert abs((a * b).mean() / 0.04) < 0.02


def test_outputs_have_noise_of_their_own(dtype):
    """Local reparameterisation: all examples alike, and each output another."""
    W = vd.Posterior(jnp.zeros((4, 100), dtype), jnp.zeros((4, 100), dtype))
    y = vd.linear(W, jnp.ones((200, 4), dtype), key=jax.random.key(KEY))
    y = numpy.asarray(y, "float64")
    assert len(numpy.unique(y)) > 0.99 * y.size
    assert y.std() == pytest.approx(2, rel=0.02)  # sqrt of four variances of 1


def test_apply_draws_or_prunes(params, x):
    key = jax.random.key(KEY)
    drawn = vd.apply(plain_model, params, x, key=key)
    assert_array_equal(drawn, plain_model(vd.sample(params, key), x))
    assert_array_equal(
        vd.apply(plain_model, params, x, threshold=1.0),
        plain_model(vd.prune(params, 1.0), x),
    )


def test_evaluation_is_that_of_the_pruned_weights(params, x):
    assert 0 < vd.sparsity(params) < 1
    assert_array_equal(model(params, x), plain_model(vd.prune(params), x))


def test_plain_weights_give_plain_layers(params, x):
    weights = vd.prune(params)
    key = jax.random.key(KEY)
    assert_array_equal(model(weights, x, key), plain_model(weights, x))


# sizes


def test_prune_masks_by_log_alpha(params):
    for threshold in (-1.0, 3.0):
        W = params["l1"]["W"]
        theta, log_sigma2 = (numpy.asarray(a, "float64") for a in W)
        keep = log_sigma2 - numpy.log(theta**2) <= threshold
        pruned = vd.prune(params, threshold)["l1"]["W"]
        assert_array_equal(pruned, numpy.where(keep, W.theta, 0))
        assert 0 < keep.mean() < 1
    assert_array_equal(vd.prune(params, numpy.inf)["l1"]["W"], params["l1"]["W"].theta)


def test_size_counts_as_links_do(params):
    """(in, out) here, (out, in) there."""
    size = vd.size(params)
    weights = [numpy.asarray(vd.prune(params)[name]["W"]) for name in ("l1", "l2")]
    assert [layer.name for layer in size.layers] == ["l1/W", "l2/W"]
    assert [layer.inputs for layer in size.layers] == [6, 8]
    assert [layer.outputs for layer in size.layers] == [8, 3]
    kept = [int((W != 0).sum()) for W in weights]
    assert [layer.weights_kept for layer in size.layers] == kept
    used = [int((W != 0).any(axis=1).sum()) for W in weights]
    assert [layer.inputs_kept for layer in size.layers] == used
    assert size.others == 8 + 3
    assert size.parameter_ratio == pytest.approx((72 + 11) / (sum(kept) + 11))
    assert float(vd.sparsity(params)) == pytest.approx(1 - sum(kept) / 72)


def test_size_of_kernels_in_both_layouts(rng, dtype):
    first = vd.init([jnp.asarray(rng.standard_normal((5, 4, 3, 2)), dtype)])
    last = jax.tree.map(lambda k: k.transpose(2, 3, 1, 0), first)
    sizes = vd.size(first), vd.size(last, channels_last=True)
    assert sizes[0] == sizes[1]
    assert (sizes[0].layers[0].inputs, sizes[0].layers[0].outputs) == (4, 5)


def test_half_precision_is_counted_too():
    tree = vd.init({"W": jnp.ones((3, 2), "bfloat16"), "scale": jnp.ones(3)})
    assert vd.kl(tree).dtype == "float32"
    many = vd.init({"W": jnp.ones((400, 300), "float16")})
    expected = 120_000 * variational.kl_sparse_vd(numpy.asarray(-10.0))
    x = jnp.full((2, 400), 300, "float16")  # squares overflow
    y = vd.linear(many["W"], x, key=jax.random.key(0))
    assert y.dtype == "float16"
    small = vd.init({"W": jnp.full((400, 3), 0.01, "float16")})["W"]
    y = vd.linear(small, x, key=jax.random.key(0))
    assert bool(jnp.isfinite(y).all())
    assert float(abs(y - 1200).max()) < 1200  # of deviation 40
    assert float(vd.kl(many)) == pytest.approx(float(expected), rel=1e-3)
    assert vd.size(tree).weight_ratio == 1
    assert vd.to_cpu_sparse([vd.Linear(tree["W"])]).predict(
        numpy.ones((1, 3), "f4")
    ).tolist() == [[3, 3]]


@pytest.mark.parametrize("function", [vd.kl, vd.sparsity, vd.prune, vd.size])
def test_trees_without_a_good_posterior(function, dtype):
    name, good = function.__name__, jnp.ones((2, 3))
    with pytest.raises(ValueError, match=f"^{name}: there is no Posterior in `params`"):
        function({"W": good})
    with pytest.raises(ValueError, match=rf"^{name}: `a/log_sigma2`.*\(2, 3\), got \("):
        function({"a": vd.Posterior(good, jnp.ones(3))})
    with pytest.raises(TypeError, match=f"^{name}: `a/theta` .*JAX, got one of numpy"):
        function({"a": vd.Posterior(numpy.ones((2, 3)), good)})
    with pytest.raises(TypeError, match=f"^{name}: `theta` must have a real floating"):
        function(vd.Posterior(jnp.ones(2, int), jnp.ones(2, int)))
    half = good.astype("float16")
    with pytest.raises(TypeError, match=f"^{name}: `log_sigma2` must have the dtype"):
        function(vd.Posterior(good, half))


def test_unknown_kl(params):
    with pytest.raises(
        ValueError, match=r"^kl: `kind` must be one of 'molchanov', 'ex"
    ):
        vd.kl(params, "cubic")
    with pytest.raises(ValueError, match=r"`clip` must be positive"):
        vd.kl(params, clip=0)


# arguments of layers


@pytest.mark.parametrize(
    ("key", "error", "expected"),
    [
        (3, TypeError, "must be a key of JAX's random numbers, got int 3; make one by"),
        (numpy.random.default_rng(0), TypeError, "got Generator"),
        (numpy.ones(2), TypeError, "got ndarray"),
        (jax.random.split(jax.random.key(0), 3), ValueError, r"got keys of shape \(3,"),
        (jax.random.split(jax.random.PRNGKey(0), 3), ValueError, r"of shape \(3,\)"),
    ],
    ids=["int", "generator", "floats", "keys", "old-keys"],
)
def test_wrong_keys(params, x, key, error, expected):
    W = params["l1"]["W"]
    for name, call in (
        ("linear", lambda: vd.linear(W, x, key=key)),
        ("embedding", lambda: vd.embedding(W, jnp.asarray([0]), key=key)),
        ("sample", lambda: vd.sample(params, key)),
        ("split", lambda: vd.split(key, 2)),
    ):
        with pytest.raises(error, match=f"^{name}: `key` .*{expected}"):
            call()


@pytest.mark.parametrize("compiled", [False, True])
def test_shapes_that_do_not_fit(params, x, compiled):
    jit = jax.jit if compiled else lambda f: f
    W, b = params["l1"]["W"], params["l1"]["b"]
    with pytest.raises(ValueError, match=r"^linear: `x` .*\(\.\.\., 6\), got \(5, 5\)"):
        jit(vd.linear)(W, x[:, 1:])
    with pytest.raises(ValueError, match=r"^linear: `b` .*\(8,\), got \(1,\)"):
        jit(vd.linear)(W, x, b[:1])
    with pytest.raises(ValueError, match=r"^linear: `W` .*\(in_size, out_size\), got"):
        jit(vd.linear)(b, x)
    with pytest.raises(
        ValueError, match=r"^convolution: `x` must have shape of 2 axes"
    ):
        jit(vd.convolution)(W, x)
    with pytest.raises(ValueError, match=r"log_sigma2` must have the shape of `theta`"):
        jit(vd.linear)(vd.Posterior(W.theta, b), x)
    image = jnp.ones((1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"^convolution: `b` .*\(2,\), got \(3,\)"):
        jit(vd.convolution)(jnp.ones((2, 1, 1, 1)), image, jnp.ones(3))


def test_arrays_of_other_kinds(params, x):
    W = params["l1"]["W"]
    with pytest.raises(TypeError, match=r"^linear: `x` .* JAX, got one of numpy; conv"):
        vd.linear(W, numpy.asarray(x))
    with pytest.raises(TypeError, match=r"^linear: `W` .* JAX, got one of numpy"):
        vd.linear(numpy.asarray(W.theta), x)
    with pytest.raises(TypeError, match=r"^linear: `x` must be an array, got list"):
        vd.linear(W, [1.0])
    with pytest.raises(TypeError, match=r"^linear: `x` must have the dtype of `W`"):
        vd.linear(W, x.astype("float16"))
    with pytest.raises(TypeError, match=r"^embedding: `ids` must be integers"):
        vd.embedding(W, jnp.ones(2))


def test_numbers_that_the_table_does_not_have(params):
    W = params["l1"]["W"]
    ids = jnp.asarray([0, 5, 6, -1])
    rows_of = jax.jit(lambda ids, key: vd.embedding(W, ids, key=key))
    for key in (None, jax.random.key(0)):
        rows = rows_of(ids, key)
        assert_array_equal(jnp.isnan(rows).all(axis=1), [False, False, True, True])
        assert_array_equal(jnp.isnan(rows).any(axis=1), [False, False, True, True])


def test_convolution_in_flax_layout(rng, dtype):
    """The same numbers with channels last; the noise is drawn in the layout's order."""
    kernel = [jnp.asarray(rng.standard_normal((4, 3, 3, 2)), dtype) for _ in range(2)]
    x = jnp.asarray(rng.standard_normal((2, 3, 6, 7)), dtype)
    b = jnp.arange(4.0, dtype=dtype)
    first = vd.Posterior(*kernel)
    last = jax.tree.map(lambda k: k.transpose(2, 3, 1, 0), first)
    key = jax.random.key(KEY)

    @jax.jit
    def by_both():
        same = {"window_strides": (2, 1), "padding": "SAME"}
        flax = {**same, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        images = x.transpose(0, 2, 3, 1)
        pruned = vd.convolution(last, images, b, **flax).transpose(0, 3, 1, 2)
        sampled = vd.convolution(last, images, b, key=key, **flax)
        mean = vd.convolution(first.theta, x, **same)
        variance = vd.convolution(jnp.exp(first.log_sigma2), x**2, **same)
        noise = jax.random.normal(key, sampled.shape, dtype).transpose(0, 3, 1, 2)
        expected = mean + jnp.sqrt(variance + 1e-8) * noise + b[:, None, None]
        return (
            (pruned, vd.convolution(first, x, b, **same)),
            (sampled.transpose(0, 3, 1, 2), expected),
        )

    for actual, expected in by_both():
        assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


# to the sparse model


def test_perceptron_to_the_sparse_model(params, x, tmp_path):
    def layers(params):
        l1, l2 = params["l1"], params["l2"]
        return [vd.Linear(**l1), "relu", vd.Linear(**l2), "softmax"]

    expected = jax.nn.softmax(jax.jit(model)(params, x))
    inputs = numpy.asarray(x, "float32")
    sparse = vd.to_cpu_sparse(layers(params))
    assert_allclose(sparse.predict(inputs), expected, rtol=2e-5, atol=1e-6)
    kept = sum(layer.kept for layer in sparse.layers)
    assert kept == vd.size(params).weights_kept
    sparse.save(tmp_path / "sparse.npz")
    loaded = sparse_backend.load(tmp_path / "sparse.npz")
    assert_array_equal(loaded.predict(inputs), sparse.predict(inputs))
    pruned = vd.to_cpu_sparse(layers(vd.prune(params)))
    assert_array_equal(pruned.predict(inputs), sparse.predict(inputs))
    # Another threshold, with its own network.
    few = vd.to_cpu_sparse(layers(params), threshold=0.0)
    expected = jax.nn.softmax(plain_model(vd.prune(params, 0.0), x))
    assert_allclose(few.predict(inputs), expected, rtol=2e-5, atol=1e-6)
    assert sum(layer.kept for layer in few.layers) < kept


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutional_network_to_the_sparse_model(
    rng, dtype, monkeypatch, channels_last
):
    """Convolutions, pooling of both kinds, groups, dilation; flattened in its order."""
    monkeypatch.setenv("VDCORE_NUMBA", "0")

    def normal(*shape, scale=0.3):
        return jnp.asarray(scale * rng.standard_normal(shape), dtype)

    kernels = [normal(4, 2, 3, 3), normal(6, 2, 3, 2)]
    if channels_last:
        kernels = [k.transpose(2, 3, 1, 0) for k in kernels]
    params = vd.init(
        {"c1": kernels[0], "c2": kernels[1], "l": normal(36, 5), "b": normal(6)}
    )
    for name in ("c1", "c2", "l"):
        theta = params[name].theta
        params[name] = vd.Posterior(theta, normal(*theta.shape, scale=3.0) - 3)
    layout = ("NHWC", "HWIO", "NHWC") if channels_last else ("NCHW", "OIHW", "NCHW")

    def pool(h, function, initial, window):
        sizes = (1, *window, 1) if channels_last else (1, 1, *window)
        return jax.lax.reduce_window(h, initial, function, sizes, sizes, "VALID")

    def network(params, x):
        h = vd.convolution(params["c1"], x, padding="SAME", dimension_numbers=layout)
        h = pool(jnp.tanh(h), jax.lax.max, -jnp.inf, (2, 2))
        h = vd.convolution(
            params["c2"],
            h,
            params["b"],
            window_strides=(1, 2),
            padding=[(2, 2), (1, 1)],
            rhs_dilation=(2, 1),
            feature_group_count=2,
            dimension_numbers=layout,
        )
        h = pool(jax.nn.relu(h), jax.lax.add, 0.0, (2, 1)) / 2
        return vd.linear(params["l"], h.reshape(len(h), -1))

    x = rng.standard_normal((3, 2, 8, 9)).astype("float32")
    inputs = jnp.asarray(x, dtype)
    if channels_last:
        inputs = inputs.transpose(0, 2, 3, 1)
    y = jax.jit(network)(params, inputs)
    assert y.shape == (3, 5)
    sparse = vd.to_cpu_sparse(
        [
            vd.Convolution(params["c1"], padding="SAME"),
            "tanh",
            vd.MaxPooling(2),
            vd.Convolution(
                params["c2"],
                params["b"],
                strides=(1, 2),
                padding=[(2, 2), (1, 1)],
                dilation=(2, 1),
                groups=2,
            ),
            "relu",
            vd.AveragePooling((2, 1)),
            "flatten",
            vd.Linear(params["l"]),
        ],
        in_shape=(2, 8, 9),
        channels_last=channels_last,
    )
    assert_allclose(sparse.predict(x), y, rtol=1e-4, atol=1e-5)
    size = vd.size(params, channels_last=channels_last)
    assert sum(layer.kept for layer in sparse.layers) == size.weights_kept
    assert 0.1 < size.weights_kept / size.weights < 0.9


def test_networks_that_cannot_be_exported(params):
    W = params["l1"]["W"]
    kernel = jnp.ones((2, 1, 2, 2))
    for layers, error, expected in (
        ([vd.Linear(W), "gelu"], TypeError, r"`layers\[1\]` must be a Lin.*'gelu'"),
        ([vd.Linear(W), jax.nn.relu], TypeError, r"`layers\[1\]` .*Other networks"),
        ([W], TypeError, r"`layers\[0\]` must be a Linear.*got Posterior\("),
        ([vd.Linear(W.theta[0])], ValueError, r"`layers\[0\].W` .*\(in_size, out_"),
        ([vd.Linear(W, jnp.ones(3))], ValueError, r"`layers\[0\].b` .*\(8,\), got \(3"),
        ([vd.Linear(numpy.ones((2, 2)))], TypeError, "JAX, got one of numpy"),
        ([vd.Linear(W), vd.Linear(W)], ValueError, "6.*8|8.*6"),
        (
            [vd.Convolution(kernel), vd.Linear(W)],
            ValueError,
            r'`layers\[1\]` is affine and follows images; put "flatten"',
        ),
        (
            [vd.Convolution(kernel, padding="SAME")],
            ValueError,
            r"`layers\[0\].padding` must be the same on both sides.*'SAME'",
        ),
        (
            [vd.Convolution(kernel, padding=[(0, 1), (0, 1)])],
            ValueError,
            r"padding` must be the same on both sides of an axis.*\(0, 1\)",
        ),
        ([vd.Linear(W.theta * jnp.nan)], ValueError, "48 of 48 values of `W`"),
    ):
        of_images = isinstance(layers[0], vd.Convolution)
        with pytest.raises(error, match=expected):
            vd.to_cpu_sparse(layers, (1, 4, 4) if of_images else None)


def test_vdcore_does_not_import_jax():
    code = (
        "import sys, vdcore; from vdcore.backends import sparse_backend, numpy_backend;"
        "assert not {'jax', 'jaxlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
