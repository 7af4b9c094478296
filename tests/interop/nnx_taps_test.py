"""What goes on inside NNX modules: activations by path, and taps that change what follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop.nnx_modules import Net

from dlcore.interop import from_nnx
from dlcore.nn import activations, serial, tapped

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(9), (6, 4)) * 3 + 1


class Residual(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.noise = nnx.Linear(4, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        h = self.dense(self.dense(x))
        self.sow(nnx.Intermediate, "double", 2 * h)
        return x + self.noise(h)


class Tower(nnx.Module):
    """Blocks in a list, one of them called twice, and one inside NNX's own rematerialisation."""

    def __init__(self, rngs):
        self.blocks = nnx.List([Residual(rngs), Residual(rngs)])
        self.again, self.head = Residual(rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        x = self.blocks[0](x)
        return self.head(nnx.remat(lambda m, x: m(x))(self.again, x))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_activations_are_those_of_the_submodules_by_path(inside):
    model = from_nnx(lambda rngs: Tower(rngs))
    params, state = model.init(KEY)
    plain = model.apply(params, state, X)[0]
    weights, wrapped = params, model
    if inside:
        wrapped, params = serial(net=model), {"net": params}
    out, found = jax.jit(lambda params: activations(wrapped, params, {}, X))(params)
    found = {path.removeprefix("net/"): h for path, h in found.items() if path != "net"}

    def dense(p, h):
        return h @ p["kernel"] + p["bias"]

    def block(p, h):
        return h + dense(p["dense"], dense(p["dense"], h))

    first, second = weights["blocks"][0], weights["blocks"][1]
    one = dense(first["dense"], X)
    h = block(second, block(first, X))
    expected = {
        "blocks/0/dense": one,
        "blocks/0/dense:1": dense(first["dense"], one),
        "blocks/0/noise": dense(first["dense"], one),
        "blocks/0/double": 2 * dense(first["dense"], one),
        "blocks/0": block(first, X),
        "blocks/1": h,
        "blocks/0:1": block(first, h),
        "head": plain,
    }
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
    assert "again/dense" not in found, "what runs inside a transformation does not leak"
    np.testing.assert_allclose(out, plain, rtol=1e-5)


def test_a_tap_changes_what_follows_and_gives_the_gradient_there():
    model = from_nnx(lambda rngs: Net(rngs))
    params, state = model.init(KEY)
    zeroed, _ = tapped(model, lambda path, h: 0 * h if path == "norm" else h, params, state, X)
    head = params["layers"][1]
    np.testing.assert_allclose(zeroed, jnp.broadcast_to(head["bias"], (6, 3)), atol=1e-6)

    def loss(bump):
        return tapped(model, lambda path, h: h + bump if path == "norm" else h, params, state, X)[0][:, 0].sum()

    gradient = jax.grad(loss)(jnp.zeros((6, 4)))
    np.testing.assert_allclose(gradient, jnp.broadcast_to(head["kernel"][:, 0], (6, 4)), rtol=1e-5)
