"""Backpropagation written out against autodiff, central differences and products of Jacobians (lecture 9)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.backprop import _chain as chain
from dlcore.backprop import _differences as differences
from dlcore.backprop import _jacobian as jacobian
from dlcore.backprop import _loss as losses
from dlcore.backprop import activation_forward
from dlcore.backprop._activation import SLOPES
from dlcore.losses import sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from dlcore.networks import CNN, MLP
from dlcore.nn import _activation as activation
from dlcore.nn import _conv as conv
from dlcore.nn import _dense as dense
from dlcore.nn import _norm as norm

LOSSES = {
    "softmax": chain.Loss(losses.softmax_cross_entropy_forward, losses.softmax_cross_entropy_backward),
    "sigmoid": chain.Loss(losses.sigmoid_cross_entropy_forward, losses.sigmoid_cross_entropy_backward),
    "mse": chain.Loss(losses.mse_forward, losses.mse_backward),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def close(found, expected, tolerance=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, expected)


CONV = {
    "zero_strided": ({"padding": "zero", "stride": 2}, (5, 6)),
    "valid_strided": ({"padding": "valid", "stride": (2, 3)}, (6, 5)),
    "explicit_1d": ({"padding": [(2, 0)], "stride": 2}, (7,)),
}
POOL = {
    "overlapping": ({"window": (3, 3), "stride": (2, 2)}, (5, 5), None),
    "padded": ({"window": (3, 2), "stride": (2, 2), "padding": "zero"}, (4, 5), ((0, 1), (0, 1))),
}


def windows(x, operation, window, stride, widths):
    """Pooling by looking at one window after the other, cells of the padding being NaN."""
    x = jnp.pad(x, ((0, 0), *(widths or ((0, 0), (0, 0))), (0, 0)), constant_values=jnp.nan)
    starts = [range(0, n - w + 1, s) for n, w, s in zip(x.shape[1:3], window, stride, strict=True)]
    cut = lambda i, j: x[:, i : i + window[0], j : j + window[1]]  # noqa: E731
    return jnp.stack([jnp.stack([operation(cut(i, j), (1, 2)) for j in starts[1]], 1) for i in starts[0]], 1)


def conv_case(options, space):
    params = {"kernel": draw(1, *(3, 2)[: len(space)], 2, 3), "bias": draw(2, 3)}
    function = lambda p, x: conv.conv(x, p["kernel"], p["bias"], **options)  # noqa: E731
    return chain.conv_pair(**options), function, params, draw(0, 2, *space, 2)


def pool_case(kind, options, space, widths):
    operation = {"max": jnp.nanmax, "avg": jnp.nanmean}[kind]
    function = lambda p, x: windows(x, operation, options["window"], options["stride"], widths)  # noqa: E731
    return chain.pool_pair(kind, **options), function, {}, draw(0, 2, *space, 2)


def norm_case(epsilon, *shape):
    def function(p, x):
        mean, variance = norm.moments(x, tuple(range(x.ndim - 1)))
        return norm.batch_norm(x, mean, variance, p["scale"], p["bias"], epsilon=epsilon)

    return chain.batch_norm_pair(epsilon=epsilon), function, {"scale": draw(1, 3), "bias": draw(2, 3)}, draw(0, *shape)


def dense_case():
    params = {"kernel": draw(1, 4, 3), "bias": draw(2, 3)}
    return chain.dense_pair(), lambda p, x: dense.dense(x, p["kernel"], p["bias"]), params, draw(0, 5, 4)


LAYERS = {
    "dense": dense_case,
    "batch_norm": lambda: norm_case(0.1, 4, 2, 3),
    "reshape": lambda: (chain.reshape_pair(3, 4), lambda p, x: x.reshape(2, 3, 4), {}, draw(0, 2, 2, 6)),
    **{f"conv_{name}": lambda case=case: conv_case(*case) for name, case in CONV.items()},
    **{
        f"{kind}_pool_{name}": lambda kind=kind, case=case: pool_case(kind, *case)
        for kind in ("max", "avg")
        for name, case in POOL.items()
    },
}
"""name: () -> (pair, the same function by other means, params, input)."""


@jax.jit(static_argnums=(0, 1))
def three_ways(pair, function, params, x, weight):
    """Values and gradients of ⟨ȳ, f(x)⟩: written out, by autodiff, by central differences."""
    value = lambda p, x: (weight * function(p, x)).sum()  # noqa: E731
    y, cache = pair.forward(params, x)
    numeric = differences.central_differences(lambda both: value(*both), (params, x))
    return y, pair.backward(cache, weight), function(params, x), jax.grad(value, argnums=(0, 1))(params, x), numeric


def agree(pair, function, params, x):
    weight = draw(9, *jax.eval_shape(pair.forward, params, x)[0].shape)
    y, gradients, expected, autodiff, numeric = three_ways(pair, function, params, x, weight)
    close(y, expected, 1e-12)
    close(gradients, autodiff)
    close(gradients, numeric, 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    agree(*LAYERS[name]())


@pytest.mark.slow
def test_activations():
    """Each on its own column, so that all are compiled at once."""
    assert all(activation.by_name(name) for name in SLOPES)
    pairs = [chain.activation_pair(name) for name in SLOPES]

    def forward(params, x):
        outputs = [pair.forward({}, column) for pair, column in zip(pairs, x, strict=True)]
        return jnp.stack([y for y, _ in outputs]), jnp.stack([cache for _, cache in outputs])

    def backward(cache, cotangent):
        return {}, jnp.stack([p.backward(c, y)[1] for p, c, y in zip(pairs, cache, cotangent, strict=True)])

    functions = [activation.by_name(name) for name in SLOPES]
    function = lambda params, x: jnp.stack([f(column) for f, column in zip(functions, x, strict=True)])  # noqa: E731
    agree(chain.Pair(forward, backward), function, {}, 2 * draw(0, len(pairs), 12))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    outputs = 3 * draw(0, 4, 5)
    targets = {"softmax": jnp.array([0, 4, 2, 2]), "sigmoid": jax.nn.sigmoid(draw(1, 4, 5)), "mse": draw(1, 4, 5)}[name]
    theirs = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy, "mse": squared_error}[name]
    mean = lambda a: theirs(a, targets).mean()  # noqa: E731

    @jax.jit
    def all_ways(a):
        value, cache = LOSSES[name].forward(a, targets)
        ours = value, LOSSES[name].backward(cache), LOSSES[name].backward(cache, 0.7)
        return ours, jax.value_and_grad(mean)(a), differences.central_differences(mean, a)

    (value, gradient, scaled), expected, numeric = all_ways(outputs)
    close((value, gradient), expected)
    close(scaled, 0.7 * expected[1])
    close(gradient, numeric, 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_losses_are_finite_at_extremes(name, size):
    logits = jnp.full((2, 3), size).at[:, 0].set(0)
    targets = jnp.array([0, 1]) if name == "softmax" else jnp.array([[0.0, 1, 0], [1, 0, 1]])
    value, cache = LOSSES[name].forward(logits, targets)
    assert np.isfinite(value) and np.isfinite(LOSSES[name].backward(cache)).all()


NETWORKS = {
    "mlp": (MLP((6, 5), 3, activation="tanh"), chain.mlp(2, "tanh"), (4, 2, 3, 1)),
    "cnn": (CNN((2, 2), 3, hidden=4, activation="silu"), chain.cnn(2, "silu"), (3, 4, 4, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    """The gradient of the library's own network, in its own tree of params."""
    model, network, shape = NETWORKS[name]
    x, labels = draw(0, *shape), jnp.arange(shape[0]) % 3
    params, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    params = jax.tree.map(lambda leaf: 0.5 * draw(leaf.size, *leaf.shape), params)

    def value(params):
        outputs, _ = model.apply(params, jax.tree.map(jnp.zeros_like, state), x, train=True)
        return softmax_cross_entropy(outputs, labels).mean()

    @jax.jit
    def all_ways(params):
        ours = chain.loss_and_gradient(network, LOSSES["softmax"], params, x, labels)
        return ours, jax.value_and_grad(value)(params), differences.central_differences(value, params)

    found, expected, numeric = all_ways(params)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    close(found, expected)
    close(found[1], numeric, 1e-6)


def small_network():
    pairs = {
        "conv": chain.conv_pair(stride=2),
        "norm": chain.batch_norm_pair(),
        "sigmoid": chain.activation_pair("sigmoid"),
        "pool": chain.pool_pair("max", 2, stride=1),
        "flat": chain.reshape_pair(-1),
        "dense": chain.dense_pair(),
    }
    params = {
        "conv": {"kernel": draw(1, 3, 3, 1, 2), "bias": draw(2, 2)},
        "norm": {"scale": draw(3, 2), "bias": draw(4, 2)},
        "dense": {"kernel": draw(5, 8, 3), "bias": draw(6, 3)},
    }
    return pairs, params, draw(0, 2, 6, 6, 1), jnp.array([2, 0])


@pytest.mark.slow
def test_product_of_jacobians_is_backpropagation():
    pairs, params, x, labels = small_network()

    @jax.jit
    def both_ways(params):
        product = jacobian.gradient_by_jacobians(pairs, LOSSES["softmax"], params, x, labels)
        return product, chain.loss_and_gradient(chain.chain(**pairs), LOSSES["softmax"], params, x, labels)[1]

    close(*both_ways(params))


@pytest.mark.slow
def test_layer_jacobians_are_those_of_autodiff():
    pairs, params, x, _ = small_network()
    block = chain.chain(**pairs)

    @jax.jit
    def both_ways(params, x):
        found = jacobian.layer_jacobians(block, params, x)[1]
        return found, jax.jacrev(lambda p, x: block.forward(p, x)[0].reshape(-1), argnums=(0, 1))(params, x)

    found, expected = both_ways(params, x)
    close((found.params, found.x), (expected[0], expected[1].reshape(found.x.shape)))


@pytest.mark.slow
def test_explicit_jacobians():
    """The factors, and their product for a network of one hidden layer and one example."""
    kernel, other, label = draw(0, 4, 3), draw(2, 3, 5), 3

    @jax.jit
    def both_ways(x):
        slopes = [activation_forward(x, name)[1] for name in SLOPES]
        diagonals = [jacobian.activation_jacobian(slope) for slope in slopes]
        softmax = jacobian.softmax_jacobian(jax.nn.softmax(x))
        hidden, slope = activation_forward(x @ kernel, "tanh")
        p = jax.nn.softmax(hidden @ other)
        row = -jax.nn.one_hot(label, 5) / p @ jacobian.softmax_jacobian(p) @ jacobian.dense_jacobian(other)
        row = row @ jacobian.activation_jacobian(slope) @ jacobian.dense_jacobian(kernel)
        activate = lambda x: jnp.stack([activation.by_name(name)(x) for name in SLOPES])  # noqa: E731
        whole = lambda x: -jax.nn.log_softmax(jnp.tanh(x @ kernel) @ other)[label]  # noqa: E731
        expected = jax.jacrev(activate)(x), jax.jacrev(jax.nn.softmax)(x), jax.grad(whole)(x)
        return (jnp.stack(diagonals), softmax, row), expected

    close(*both_ways(draw(1, 4)))


def test_multiplications_are_counted():
    # One loss, J2 [3, 5], J1 [5, 7]: 3·5 + 5·7 from the loss, 3·5·7 + 3·7 from the input.
    assert jacobian.multiplications((7, 5, 3)) == 50
    assert jacobian.multiplications((7, 5, 3), reverse=False) == 126


def test_max_pool_sends_a_tie_to_the_first():
    x = jnp.array([[1.0, 5.0], [5.0, 2.0]]).reshape(1, 2, 2, 1)
    pair = chain.pool_pair("max", 2)
    _, gradient = pair.backward(pair.forward({}, x)[1], jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(gradient.reshape(2, 2), [[0, 1], [0, 0]])


def test_central_differences_are_exact_for_a_quadratic_and_second_order():
    a = draw(0, 3)
    close(differences.central_differences(lambda x: (a * x**2).sum(), a, 0.5), 2 * a * a, 1e-12)
    errors = [float(differences.central_differences(jnp.exp, jnp.float64(0), h)) - 1 for h in (1e-2, 1e-3)]
    np.testing.assert_allclose(errors, [1e-4 / 6, 1e-6 / 6], rtol=1e-3)


def test_cost_table():
    (cost,) = differences.cost_table((6,), batch_size=4, repeats=1)
    assert (cost.parameters, cost.differences_evaluations, cost.backprop_evaluations) == (49, 98, 2)
    assert min(cost[3:]) > 0


@pytest.mark.slow
def test_backpropagation_is_cheaper_by_the_number_of_parameters():
    for cost in differences.cost_table((32, 64), batch_size=256):
        # 2P passes against about 3: a tenth of P leaves room for what a call costs in any case.
        assert cost.differences_seconds > cost.parameters / 10 * cost.backprop_seconds, cost


def test_shapes_that_would_broadcast_are_refused():
    for pair in (losses.mse_forward, losses.sigmoid_cross_entropy_forward):
        with pytest.raises(ValueError, match=r"\(3, 1\).*\(3,\)"):
            pair.__wrapped__(jnp.ones((3, 1)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"\(1,\).*\(3, 2\)"):
        losses.softmax_cross_entropy_forward.__wrapped__(jnp.ones((3, 2)), jnp.zeros(1, int))


def test_a_wrong_label_cannot_pass_silently():
    for label in (2, -1, 255):
        value, cache = losses.softmax_cross_entropy_forward(jnp.ones((2, 2)), jnp.asarray([0, label]))
        assert np.isnan(value) and np.isnan(losses.softmax_cross_entropy_backward(cache)[1]).all()


def test_bad_input():
    with pytest.raises(ValueError, match="mirror"):
        chain.conv_pair(padding="mirror").forward({"kernel": jnp.ones((3, 3, 1, 1))}, jnp.ones((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="does not fit"):
        chain.conv_pair().forward({"kernel": jnp.ones((3, 3, 2, 1))}, jnp.ones((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="max or avg"):
        chain.pool_pair("min", 2)
    with pytest.raises(ValueError, match="step"):
        differences.central_differences(jnp.sum, jnp.ones(2), 0.0)
    with pytest.raises(ValueError, match="sizes"):
        differences.cost_table(())
    with pytest.raises(ValueError, match="unknown activation"):
        activation_forward(jnp.ones(2), "reul")
