"""Guided backpropagation and the deconvnet through every non-linearity, against backward passes by hand."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.interop import from_linen
from dlcore.networks import CNN
from dlcore.nn import GLU, Activation, Conv, Dense, LayerNorm, compose, residual, scan, serial
from dlcore.visualize import deconvnet, deconvolution, gradient, guided, guided_backpropagation, ruled

W1 = np.array([[-1.0, 2.0], [-1.0, -1.0], [2.0, 2.0]])
W2 = np.array([[-2.0, -2.0, -2.0], [2.0, -1.0, 0.0], [2.0, 2.0, -1.0]])
W3 = np.array([1.0, -1.0, 2.0])
X = np.array([[-1.0, 2.0]])
PARAMS = {
    name: {"kernel": jnp.asarray(w, jnp.float32)} for name, w in (("w1", W1.T), ("w2", W2.T), ("w3", W3[:, None]))
}
FOUND = {gradient: (-6, 0), guided_backpropagation: (-4, 8), deconvnet: (-4, 2)}
DENSE = {"w1": Dense(3, bias=False), "w2": Dense(3, bias=False), "w3": Dense(1, bias=False)}


class Flax(linen.Module):
    """The same network, with a ReLU called raw."""

    relu: object = linen.relu

    @linen.compact
    def __call__(self, x):
        x = self.relu(linen.Dense(3, use_bias=False, name="w1")(x))
        return linen.Dense(1, use_bias=False, name="w3")(self.relu(linen.Dense(3, use_bias=False, name="w2")(x)))


def chained(relu):
    return compose(lambda call, x: call("w3", relu(call)(call("w2", relu(call)(call("w1", x))))), **DENSE)


NETS = {
    "reused": compose(
        lambda call, x: call("w3", call("relu", call("w2", call("relu", call("w1", x))))),
        **DENSE,
        relu=Activation("relu"),
    ),
    "functional": chained(lambda call: jax.nn.relu),
    "own_function_with_a_name": chained(lambda call: jax.jit(jax.nn.relu)),
    "own_activation": compose(
        lambda call, x: call("w3", call("relu", call("w2", call("relu", call("w1", x))))),
        **DENSE,
        relu=Activation(lambda x: jnp.maximum(x, 0)),
    ),
    "flax": from_linen(Flax()),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", FOUND, ids=lambda method: method.__name__)
def test_two_relus_by_hand(name, method):
    found = method(NETS[name], PARAMS, {}, jnp.asarray(X, jnp.float32), jnp.array([0]))
    np.testing.assert_allclose(found, [FOUND[method]], atol=1e-5)


def backward(weights, x, rule):
    """The gradient of the only output of a chain of dense layers with ReLUs between them."""
    outputs, h = [], x
    for w, b in weights[:-1]:
        outputs.append(h @ w + b)
        h = np.maximum(outputs[-1], 0)
    g = np.broadcast_to(weights[-1][0][:, 0], h.shape)
    for (w, _), a in zip(weights[-2::-1], outputs[::-1], strict=True):
        g = {"guided": np.maximum(g, 0) * (a > 0), "deconvnet": np.maximum(g, 0)}[rule] @ w.T
    return g


def test_rules_reach_the_head_and_what_is_inside_of_blocks():
    x = jax.random.normal(jax.random.key(0), (5, 4))
    head = serial(Dense(6), Activation("relu"), Dense(1))
    model = serial(
        body=serial(Dense(7), Activation("relu")),
        raw=compose(lambda call, x: jax.nn.relu(call("d", x)), d=Dense(5)),
        head=head,
    )
    params, state = model.init(jax.random.key(1), x)
    layers = [params["body"]["dense_0"], params["raw"]["d"], params["head"]["dense_0"], params["head"]["dense_1"]]
    weights = [(np.asarray(p["kernel"], np.float64), np.asarray(p["bias"], np.float64)) for p in layers]
    for method, rule in ((guided_backpropagation, "guided"), (deconvnet, "deconvnet")):
        found = method(model, params, state, x, jnp.zeros(5, int))
        np.testing.assert_allclose(found, backward(weights, np.asarray(x, np.float64), rule), rtol=1e-4, atol=1e-5)


def test_smooth_activations_are_clipped_by_their_own_slope():
    x = jnp.array([[0.5, -2.0]])
    model = serial(Dense(2, bias=False), Activation("silu"), Dense(1, bias=False))
    params = {"dense_0": {"kernel": jnp.eye(2)}, "dense_1": {"kernel": jnp.array([[3.0], [-4.0]])}}
    slope = float(jax.grad(jax.nn.silu)(0.5))
    np.testing.assert_allclose(
        guided_backpropagation(model, params, {}, x, jnp.array([0])), [[3 * slope, 0]], rtol=1e-5
    )
    np.testing.assert_allclose(deconvnet(model, params, {}, x, jnp.array([0])), [[3, 0]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [guided, deconvolution])
def test_the_forward_pass_stays_to_the_bit(rule):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    model = serial(net=CNN((4,), 3, hidden=5), glu=serial(Dense(4), GLU()), more=scan(residual(LayerNorm()), 2))
    params, state = model.init(jax.random.key(1), x)
    same = ruled(model, rule)
    assert same == ruled(model, rule) and hash(same) == hash(ruled(model, rule))
    np.testing.assert_array_equal(same.apply(params, state, x)[0], model.apply(params, state, x)[0])


RAW = {
    "maximum": (lambda h: jnp.maximum(h, 0), "max"),
    "where": (lambda h: jnp.where(h > 0, h, 0.1 * h), "select_n"),
    "clip": (lambda h: jnp.clip(h, 0, 6), "max|clamp|min"),
    "elu_by_hand": (lambda h: 1 - jnp.exp(-h), "exp"),
    "swish_by_hand": (lambda h: h * jax.nn.sigmoid(h), "logistic"),
    "gelu_by_hand": (lambda h: h * 0.5 * (1 + jnp.tanh(h)), "tanh"),
    "sine": (jnp.sin, "sin"),
    "in_a_loop": (lambda h: jax.lax.scan(lambda c, _: (jax.nn.relu(c), None), h, length=2)[0], "scan"),
}


@pytest.mark.parametrize("name", RAW)
def test_what_has_no_name_is_refused(name):
    function, operation = RAW[name]
    model = compose(lambda call, x: function(call("d", x)), d=Dense(3))
    params, state = model.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=f"'({operation})'.*Activation"):
        guided_backpropagation(model, params, state, jnp.asarray(X, jnp.float32), jnp.array([0]))


class Usual(linen.Module):
    """Norms, attention, pools and a softmax, which are no activations."""

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(4, (3, 3))(x))
        x = linen.GroupNorm(2)(linen.max_pool(x, (2, 2)))
        x = linen.MultiHeadDotProductAttention(2)(linen.LayerNorm()(x.reshape(len(x), -1, 4)))
        return linen.softmax(linen.Dense(3)(linen.RMSNorm()(x.mean(1))))


@pytest.mark.slow
def test_what_is_no_activation_keeps_its_gradient():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    model = from_linen(Usual())
    params, state = model.init(jax.random.key(1), x)
    plain = gradient(model, params, state, x, jnp.array([0, 1]))
    for method in (guided_backpropagation, deconvnet):
        found = method(model, params, state, x, jnp.array([0, 1]))
        np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-6 * float(np.abs(plain).max()))


def test_norms_and_pools_of_this_library_are_not_taken_for_activations():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    model = serial(Conv(4, 3), CNN((4,), 3), Activation("softmax"))
    params, state = model.init(jax.random.key(1), x)
    assert np.isfinite(guided_backpropagation(model, params, state, x, jnp.array([0, 1]))).all()
