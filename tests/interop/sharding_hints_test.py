"""Sharding hints of Flax modules become rules for every leaf of dlcore's training states."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from dlcore.interop import from_linen, from_nnx, sharding_rules
from dlcore.losses import l2, squared_error, supervised
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import shardings
from dlcore.train import create, gradient_update, with_average
from dlcore.tree import named_leaves

KERNEL = nn.initializers.lecun_normal()
X = jnp.ones((2, 8))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16, kernel_init=nn.with_partitioning(KERNEL, ("embed", "mlp")))(x)
        return nn.Dense(8, kernel_init=nn.with_partitioning(KERNEL, (("mlp", "data"), None)))(nn.LayerNorm()(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, kernel_init=nnx.with_partitioning(KERNEL, ("embed", "mlp")), rngs=rngs)
        self.last = nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x):
        return self.last(self.first(x))


def specs(model, rule):
    update = with_average(gradient_update(supervised(model, squared_error), optax.adam(0.1)), 0.9)
    state = create(jax.random.key(0), lambda key: model.init(key, X), update)
    found = {path: where.spec for path, where in named_leaves(shardings(state, make_mesh(8), rule))}
    jax.device_put(state, shardings(state, make_mesh(8), rule))
    return {path: spec for path, spec in found.items() if spec != P() and any(spec)}


def test_hints_of_linen_reach_params_optimiser_and_average():
    found = specs(from_linen(Linen()), sharding_rules(Linen(), X, axes={"mlp": "data"}))
    below = ("params", "memory/gradient/0/mu", "memory/gradient/0/nu", "memory/ema/params")
    assert set(found) == {f"{place}/Dense_{i}/kernel" for place in below for i in (0, 1)}
    assert all(spec == P(*((None, "data") if "Dense_0" in path else ("data", None))) for path, spec in found.items())


def test_names_that_are_no_axes_of_the_mesh_are_on_every_device():
    found = specs(from_linen(Linen()), sharding_rules(Linen(), X))
    assert found["params/Dense_1/kernel"] == P("data", None)
    assert "params/Dense_0/kernel" not in found


def test_hints_of_nnx():
    found = specs(from_nnx(Nnx), sharding_rules(Nnx, axes={"mlp": "data"}))
    assert found["params/first/kernel"] == found["memory/gradient/0/mu/first/kernel"] == P(None, "data")
    assert all("first/kernel" in path for path in found)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"\['data', 'embed', 'mlp'\], not 'heads'"):
        sharding_rules(Linen(), X, axes={"heads": "data"})


def test_paths_see_through_the_variables_of_a_module():
    parts = nnx.Dict(mix=nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))
    found = [path for path, _ in named_leaves(parts)]
    assert found == [path for path, _ in named_leaves(nnx.state(parts))] and "mix/value/kernel" in found
    weights = [part["kernel"] for part in nnx.to_pure_dict(nnx.state(parts))["mix"].values()]
    np.testing.assert_allclose(l2(parts), sum(np.square(w).sum() for w in weights) / 2, rtol=1e-5)


def test_paths_see_through_boxes():
    boxed = Linen().init(jax.random.key(0), X)["params"]
    params = from_linen(Linen()).init(jax.random.key(0), X)[0]
    assert [path for path, _ in named_leaves(boxed)] == [path for path, _ in named_leaves(params)]
    ones = jax.tree.map(jnp.ones_like, boxed)
    assert l2(ones) == (8 * 16 + 16 * 8) / 2
