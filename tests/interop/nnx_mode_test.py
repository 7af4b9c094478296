"""Training and evaluation of NNX modules, however they are told which: noise, streams of keys, arguments."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop.trees import equal

from dlcore.interop import from_nnx
from dlcore.keys import fold_name

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(9), (6, 4)) * 3 + 1


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.drop, self.rngs = nnx.Dropout(0.5, rngs=rngs), rngs

    def __call__(self, x, noisy=True):
        return self.drop(x) + (jax.random.normal(self.rngs.noise(), x.shape) if noisy else 0)


@pytest.mark.parametrize("jit", [False, True])
def test_noise_in_both_modes_needs_a_key_in_both(jit):
    model = from_nnx(lambda rngs: Noisy(rngs))
    params, state = model.init(KEY)
    for train in (False, True):
        apply = lambda x, train=train: model.apply(params, state, x, train=train)[0]  # noqa: E731
        with pytest.raises(ValueError, match=r"key=\.\.\."):
            (jax.jit(apply) if jit else apply)(X)
    equal(model.apply(params, state, X, noisy=False)[0], X)
    key = jax.random.key(4)
    native = Noisy(nnx.Rngs(key))
    native.eval()
    equal(model.apply(params, state, X, key=key)[0], native(X))


class Given(nnx.Module):
    """Streams are an argument of the call."""

    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x, *, is_training, rngs=None):
        return self.drop(x, deterministic=not is_training, rngs=rngs)


class Attribute(nnx.Module):
    def __init__(self, rngs):
        self.training, self.train, self.drop = False, False, nnx.Dropout(0.5, deterministic=False, rngs=rngs)

    def __call__(self, x):
        return self.drop(x) if self.training and self.train else x


@dataclass(frozen=True)
class Config:
    deterministic: bool


class Configured(nnx.Module):
    def __init__(self, config, rngs):
        self.config, self.drop = config, nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(x, deterministic=self.config.deterministic)


MODES = {
    "flag and streams of the call": lambda: from_nnx(Given),
    "flag by name": lambda: from_nnx(Given, flag="is_training"),
    "attribute": lambda: from_nnx(Attribute),
    "pair": lambda: from_nnx(
        (lambda rngs: Configured(Config(False), rngs), lambda rngs: Configured(Config(True), rngs))
    ),
}


@pytest.mark.parametrize("kind", MODES)
def test_dropout_in_training_and_none_in_evaluation(kind):
    model = MODES[kind]()
    params, state = model.init(KEY, X)
    equal(model.apply(params, state, X)[0], X)
    equal(model.apply(params, state, X, key=KEY)[0], X)
    out = np.asarray(model.apply(params, state, X, train=True, key=KEY)[0])
    assert (out == 0).any() and (out != model.apply(params, state, X, train=True, key=jax.random.key(1))[0]).any()
    np.testing.assert_allclose(out[out != 0], 2 * np.asarray(X)[out != 0], rtol=1e-6)
    with pytest.raises(ValueError, match="key"):
        model.apply(params, state, X, train=True)


def test_streams_of_the_call_come_from_the_key():
    model = from_nnx(Given)
    expected = Given(nnx.Rngs(0))(X, is_training=True, rngs=nnx.Rngs(fold_name(KEY, "rngs")))
    equal(model.apply({}, {}, X, train=True, key=KEY)[0], expected)


def test_a_mode_in_a_configuration_is_refused():
    with pytest.raises(ValueError, match=r"config.*pair"):
        from_nnx(lambda rngs: Configured(Config(False), rngs))


@pytest.mark.parametrize(
    "make", [lambda rngs: Noisy(nnx.Rngs(0)), lambda rngs: Noisy(nnx.Rngs(noise=rngs(), dropout=0))]
)
def test_streams_that_no_key_reaches_are_refused(make):
    model = from_nnx(make)
    with pytest.raises(ValueError, match=r"same in every call.*lambda rngs"):
        jax.jit(lambda key: model.apply({}, {}, X, train=True, key=key)[0])(KEY)


class Masked(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train, mask):
        return self.drop(x, deterministic=not train) * mask


def test_inputs_behind_the_mode():
    x, mask = jnp.ones(8), jnp.arange(8) % 2
    model = from_nnx(Masked)
    params, state = model.init(jax.random.key(0), x, mask)
    np.testing.assert_array_equal(model.apply(params, state, x, mask)[0], mask)
    out, _ = model.apply(params, state, x, mask, train=True, key=jax.random.key(1))
    assert {*np.asarray(out[1::2]).tolist()} == {0.0, 2.0} and not out[::2].any()
