"""A Linen module is told whether it trains by name or by being another module, or it is refused."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.linen_test import KEY, OwnNoise, X
from interop.trees import equal

from dlcore.interop import from_linen
from dlcore.keys import fold_name


def flagged(name, off, *, keyword_only=False, variadic=False):
    """A module whose call takes its mode as `name`, which is `off` in evaluation."""

    class Net(nn.Module):
        def forward(self, x, value):
            training = value is not off
            x = nn.BatchNorm(use_running_average=not training, momentum=0.5, name="bn")(x)
            return nn.Dropout(0.5, deterministic=not training, name="drop")(x)

    takes = "self, x, **flags" if variadic else f"self, x, *, {name}" if keyword_only else f"self, x, {name}={off}"
    source = f"def __call__({takes}): return self.forward(x, {f'flags.get({name!r}, {off})' if variadic else name})"
    scope: dict[str, Any] = {}
    exec(source, scope)
    return type("Flagged", (Net,), {"__call__": nn.compact(scope["__call__"]), "__module__": __name__})


TRUE_IN_TRAINING = ("train", "training", "is_training", "is_train", "enable_dropout")
FALSE_IN_TRAINING = ("deterministic", "use_running_average", "inference", "eval", "is_eval", "testing")


@pytest.mark.sampled
@pytest.mark.parametrize("keyword_only", [False, True])
@pytest.mark.parametrize("name", TRUE_IN_TRAINING + FALSE_IN_TRAINING)
def test_the_mode_is_found_by_name_with_its_sense(name, keyword_only):
    off = name in FALSE_IN_TRAINING
    module = flagged(name, off, keyword_only=keyword_only)()
    check_modes(from_linen(module), module, {name: not off}, {name: off})


@pytest.mark.parametrize(("flag", "name", "off"), [("learn", "learn", False), ("!frozen", "frozen", True)])
@pytest.mark.parametrize("variadic", [False, True])
def test_the_mode_by_any_name(flag, name, off, variadic):
    module = flagged(name, off, variadic=variadic)()
    check_modes(from_linen(module, flag=flag), module, {name: not off}, {name: off})


def check_modes(model, module, on, off):
    params, state = model.init(KEY, X)
    key = jax.random.key(5)
    out, new = model.apply(params, state, X, train=True, key=key)
    rngs = {"dropout": fold_name(key, "dropout")}
    expected = module.apply({"params": params, **state}, X, **on, rngs=rngs, mutable=["batch_stats"])
    equal((out, new), expected)
    np.testing.assert_allclose(new["batch_stats"]["bn"]["mean"], 0.5 * np.asarray(X).mean(0), rtol=1e-5)
    assert (np.asarray(out) == 0).any(), "dropout is on"
    out, new = model.apply(params, state, X)
    equal((out, new), (module.apply({"params": params, **state}, X, **off), state))


def test_a_flag_that_the_call_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"flag='learn'.*train"):
        from_linen(flagged("train", False)(), flag="learn")


class Fixed(nn.Module):
    """The mode is a field."""

    train: bool
    conditional: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        if self.conditional:
            return nn.Dropout(0.5, deterministic=False)(x) if self.train else x
        return nn.Dropout(0.5, deterministic=not self.train)(x)


@dataclass(frozen=True)
class Config:
    deterministic: bool = False


class Configured(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5)(x, deterministic=self.config.deterministic)


class Statistics(nn.Module):
    train: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=not self.train)(x)


class OwnNoiseInTraining(nn.Module):
    is_training: bool = False

    @nn.compact
    def __call__(self, x):
        return OwnNoise(self.is_training)(x)


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "n", lambda: jnp.zeros(()))
        count.value += 1
        return x


UNSWITCHABLE = {
    "dropout on": lambda: Fixed(True),
    "dropout off": lambda: Fixed(False),
    "dropout off for good": lambda: nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=True)]),
    "dropout left out": lambda: Fixed(False, conditional=True),
    "in a configuration": lambda: Configured(Config()),
    "noise by a field": OwnNoiseInTraining,
    "statistics": Statistics,
    "frozen statistics": lambda: Statistics(False),
    "a counter": Counting,
    "behind **kwargs": lambda: flagged("train", False, variadic=True)(),
}


@pytest.mark.parametrize("kind", UNSWITCHABLE)
def test_a_module_that_nothing_tells_its_mode_is_refused(kind):
    with pytest.raises(ValueError, match=r"flag=.*pair.*function"):
        from_linen(UNSWITCHABLE[kind]()).init(KEY, X)


WAYS = {"pair": (Fixed(True), Fixed(False)), "function": lambda train: Fixed(train)}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_for_each_mode(way):
    model, key = from_linen(WAYS[way]), jax.random.key(4)
    params, state = model.init(KEY, X)
    equal(params, Fixed(False).init(KEY, X)["params"])
    one, two = (model.apply(params, state, X, key=jax.random.key(k))[0] for k in (1, 2))
    equal(one, two)
    expected = Fixed(True).apply({"params": params}, X, rngs={"dropout": fold_name(key, "dropout")})
    equal(model.apply(params, state, X, train=True, key=key)[0], expected)


def test_a_class_is_no_module():
    with pytest.raises(ValueError, match="make the module first"):
        from_linen(Fixed)


@pytest.mark.parametrize("keyword_only", [False, True])
def test_an_argument_that_nothing_fills_is_named(keyword_only):
    class Net(nn.Module):
        def forward(self, x, phase):
            return nn.Dropout(0.5, deterministic=phase == 0)(x)

    scope: dict[str, Any] = {}
    exec(f"def __call__(self, x, {'*, ' if keyword_only else ''}phase): return self.forward(x, phase)", scope)
    module = type("Phased", (Net,), {"__call__": nn.compact(scope["__call__"]), "__module__": __name__})()
    with pytest.raises(ValueError, match=r"'phase'.*flag='name'"):
        from_linen(module).init(KEY, X)
    with pytest.raises(ValueError, match="too many positional"):
        from_linen(module, flag="phase").init(KEY, X, X)


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x, train, mask):
        return nn.Dropout(0.5, deterministic=not train)(x) * mask


def test_inputs_behind_the_mode():
    mask = jnp.arange(X.shape[-1]) % 2
    model = from_linen(Masked())
    params, state = model.init(KEY, X, mask)
    np.testing.assert_array_equal(model.apply(params, state, X, mask)[0], X * mask)
    out = np.asarray(model.apply(params, state, X, mask, train=True, key=KEY)[0] / X)
    assert {*out[..., 1::2].round(3).flat} == {0.0, 2.0} and not out[..., ::2].any()
