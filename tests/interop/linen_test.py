"""Linen modules of every shape compute, start and train as Flax itself has them do."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interop.trees import equal

from dlcore.interop import from_linen
from dlcore.keys import fold_name
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.nn import Dense, activations, serial
from dlcore.train import create, gradient_update, make_train_step

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(9), (6, 4)) * 3 + 1


class WeightNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = x @ self.param("v", nn.initializers.normal(0.05), (x.shape[-1], 3))
        return y * self.param("g", lambda key: 1 / jnp.std(y, 0))


def test_a_data_dependent_start_sees_the_data():
    """Salimans & Kingma 2016: outputs of standard deviation 1 at the start."""
    params, _ = from_linen(WeightNorm()).init(KEY, X)
    equal(params, WeightNorm().init(KEY, X)["params"])
    by_hand = 1 / np.std(np.asarray(X, np.float64) @ np.asarray(params["v"], np.float64), 0)
    np.testing.assert_allclose(params["g"], by_hand, rtol=1e-5)
    assert np.isinf(from_linen(WeightNorm()).init(KEY, jax.ShapeDtypeStruct((6, 4), jnp.float32))[0]["g"]).all()


@pytest.mark.parametrize("jit", [False, True])
def test_a_data_dependent_start_inside_a_network_sees_what_comes_before(jit):
    model = serial(Dense(5), norm=from_linen(WeightNorm()))
    init = jax.jit(model.init) if jit else model.init
    params, state = init(KEY, X)
    np.testing.assert_allclose(np.std(np.asarray(model.apply(params, state, X)[0]), 0), 1, rtol=1e-4)


def test_a_data_dependent_start_in_training_sees_the_first_batch():
    model = from_linen(WeightNorm())
    batch = {"image": X, "label": jnp.arange(6) % 3}
    update = gradient_update(supervised(model, softmax_cross_entropy), optax.sgd(0.1))
    state = jax.jit(lambda batch: create(KEY, lambda key: model.init(key, batch["image"]), update))(batch)
    np.testing.assert_allclose(np.std(model.apply(state.params, state.state, X)[0], 0), 1, rtol=1e-4)
    assert np.isfinite(make_train_step(update)(state, batch)[1]["loss"].value())


class OwnNoise(nn.Module):
    noisy: bool = True

    @nn.compact
    def __call__(self, x):
        return x + jax.random.normal(self.make_rng("latent"), x.shape) if self.noisy else x


def test_every_stream_has_a_key_of_its_own():
    class Streams(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dropout(0.5, deterministic=not train)(x)
            noise = [jax.random.normal(self.make_rng(name), x.shape) for name in ("latent", "gate") if train]
            return sum(noise, x)

    model, key = from_linen(Streams()), jax.random.key(3)
    params, state = model.init(KEY, X)
    rngs = {name: fold_name(key, name) for name in ("dropout", "latent", "gate")}
    expected = Streams().apply({"params": params}, X, train=True, rngs=rngs)
    equal(model.apply(params, state, X, train=True, key=key)[0], expected)
    with pytest.raises(ValueError, match="key"):
        model.apply(params, state, X, train=True)


def test_noise_in_both_modes_needs_a_key_in_both():
    model = from_linen(OwnNoise())
    params, state = model.init(KEY, X)
    for train in (False, True):
        with pytest.raises(ValueError, match=r"key=\.\.\."):
            model.apply(params, state, X, train=train)
    key = jax.random.key(2)
    expected = OwnNoise().apply({}, X, rngs={"latent": fold_name(key, "latent")})
    equal(model.apply(params, state, X, key=key)[0], expected)


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        return nn.Dense(3, kernel_init=kernel)(x)


def test_boxes_are_taken_off_at_the_door():
    model = from_linen(Boxed())
    boxed = Boxed().init(KEY, X)["params"]
    params, state = model.init(KEY, X)
    equal(params, nn.unbox(boxed))
    assert type(params["Dense_0"]["kernel"]) is type(X)
    equal(model.apply(boxed, state, X)[0], Boxed().apply({"params": boxed}, X))
    equal(model.apply(params, state, X)[0], Boxed().apply({"params": boxed}, X))


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(3)(x)
        nn.BatchNorm(use_running_average=not train)(x)
        self.sow("losses", "kl", jnp.square(x).sum())
        self.sow("sums", "all", x.sum(), init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)
        self.sow("sums", "all", x.sum(), init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)
        if train:
            self.sow("losses", "late", x.mean())
        self.sow("intermediates", "h", x)
        return x


def test_sown_values_keep_their_place_in_a_scan():
    model = from_linen(Sowing())
    params, state = model.init(KEY, X)
    outputs = jax.lax.scan(lambda s, _: model.apply(params, s, X, train=True)[::-1], state, length=3)[1]
    _, new = model.apply(params, state, X, train=True)
    out, judged = model.apply(params, new, 3 * X)
    np.testing.assert_allclose(judged["losses"]["kl"][0], np.square(out).sum(), rtol=1e-5)
    equal(judged["batch_stats"], new["batch_stats"])
    out, again = model.apply(params, new, 2 * X, train=True)
    assert jax.tree.structure(state) == jax.tree.structure(again)
    np.testing.assert_allclose(again["losses"]["kl"][0], np.square(out).sum(), rtol=1e-5)
    np.testing.assert_allclose(again["losses"]["late"][0], np.mean(out), atol=1e-6)
    np.testing.assert_allclose(again["sums"]["all"], 2 * np.sum(out), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(2 * outputs[0], out, rtol=1e-4, atol=1e-5)


class Telling(nn.Module):
    """A loss as a variable that every call writes, and one sown beside a memory."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        self.variable("losses", "kl", jnp.zeros, ()).value = jnp.square(x).sum()
        self.sow("numbers", "rows", len(x))
        return x


class Remembering(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(3)(x)
        count = self.variable("memory", "count", jnp.zeros, ())
        if train and not self.is_initializing():
            count.value += 1
        self.sow("memory", "sum", x.sum())
        return x


def test_variables_that_a_call_writes_are_told_in_evaluation_as_well():
    model = from_linen(Telling())
    params, state = model.init(KEY, X)
    for train in (False, True):
        out, new = jax.jit(lambda x, train=train: model.apply(params, state, x, train=train))(2 * X)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        np.testing.assert_allclose(new["losses"]["kl"], np.square(out).sum(), rtol=1e-5)
        assert new["numbers"]["rows"] == (6,)


def test_what_is_sown_beside_a_memory_is_that_of_the_last_call():
    model = from_linen(Remembering())
    params, state = model.init(KEY, X)
    for x in (X, 2 * X):
        out, state = model.apply(params, state, x, train=True)
    assert state["memory"]["count"] == 2 and len(state["memory"]["sum"]) == 1
    np.testing.assert_allclose(state["memory"]["sum"][0], np.sum(out), rtol=1e-4, atol=1e-5)


class Previous(nn.Module):
    """Reads what the last call wrote."""

    @nn.compact
    def __call__(self, x):
        last = self.variable("memory", "last", jnp.zeros, x.shape)
        x, last.value = x - last.value, x
        return x


class Counted(nn.Module):
    """Changes its memory in evaluation as well."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        self.variable("counts", "n", jnp.zeros, ()).value += 1
        return x


def test_a_memory_is_no_output():
    with pytest.raises(ValueError, match=r'"last".*flag=.*pair'):
        from_linen(Previous()).init(KEY, X)
    with pytest.raises(ValueError, match=r'"n".*"counts".*remembered='):
        from_linen(Counted()).apply({}, {"counts": {"n": jnp.zeros(())}}, X)
    model = from_linen(Counted(), remembered="counts")
    params, state = model.init(KEY, X)
    before = state["counts"]["n"]
    assert model.apply(params, state, X)[1]["counts"]["n"] == before + 1


class Head(nn.Module):
    """An auxiliary head in training."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        return (nn.Dense(2, name="main")(x), nn.Dense(2, name="extra")(x)) if train else nn.Dense(2, name="main")(x)


def test_params_of_one_mode_are_there_from_the_start():
    model = from_linen(Head())
    params, state = model.init(KEY, X)
    assert set(params) == {"main", "extra"}
    assert len(model.apply(params, state, X, train=True)[0]) == 2
    assert model.apply(params, state, X)[0].shape == (6, 2)


class Ranked(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.BatchNorm(use_running_average=not train, axis_name="batch")(x)


def test_a_mapped_axis_is_bound_or_refused_with_the_way():
    params, state = from_linen(Ranked()).init(KEY, X)
    apply = lambda x: from_linen(Ranked()).apply(params, state, x, train=True)  # noqa: E731
    for run in (apply, jax.jit(apply)):
        with pytest.raises(ValueError, match=r"axis_names=\('batch',\)"):
            run(X)
    model = from_linen(Ranked(), axis_names="batch")
    params, state = model.init(KEY, X)
    out, new = jax.jit(lambda p, s, x: model.apply(p, s, x, train=True))(params, state, X)
    z = np.asarray(X, np.float64)
    np.testing.assert_allclose(out, (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["mean"], 0.01 * z.mean(0), rtol=1e-4)


class Gathering(nn.Module):
    @nn.compact
    def __call__(self, x):
        gathered = jax.lax.all_gather(nn.Dense(2)(x), "batch", axis=0, tiled=True)
        return gathered / jax.lax.psum(1, "batch") + jax.lax.axis_index("batch")


def test_what_is_gathered_over_an_axis_is_there_once():
    model = from_linen(Gathering(), axis_names=("batch",))
    params, state = model.init(KEY, X)
    np.testing.assert_allclose(model.apply(params, state, X)[0], X @ params["Dense_0"]["kernel"], rtol=1e-5, atol=1e-6)


class Pair(NamedTuple):
    a: Any
    b: Any


class Inputs(nn.Module):
    @nn.compact
    def __call__(self, x, other=None, times: int = 1, *, scale=None, train: bool = False):
        leaves = [nn.Dense(2)(leaf) for leaf in jax.tree.leaves((x, other)) for _ in range(times)]
        return sum(leaves) if scale is None else sum(leaves) * scale


CALLS = {
    "dict": (({"a": X, "b": X},), {}),
    "named tuple": ((Pair(X, 2 * X),), {}),
    "None": ((X, None), {}),
    "two": ((X, 3 * X), {}),
    "an int": ((X, None, 2), {}),
    "by keyword": ((X,), {"other": X}),
    "keyword only": ((X,), {"scale": 2.0}),
    "shapes": (({"a": jax.ShapeDtypeStruct((6, 4), jnp.float32)},), {}),
}


@pytest.mark.parametrize("kind", CALLS)
def test_inputs_of_every_kind(kind):
    args, kwargs = CALLS[kind]
    model = from_linen(Inputs())
    params, state = model.init(KEY, *args, **kwargs)
    assert state == {}
    if kind == "shapes":
        args = ({"a": X},)
    equal(params, Inputs().init(KEY, *args, **kwargs)["params"])
    equal(model.apply(params, state, *args, **kwargs)[0], Inputs().apply({"params": params}, *args, **kwargs))


def test_inputs_without_a_place_fill_keyword_only_ones_and_supervised_takes_several():
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, *, tokens, mask, train: bool = False):
            return nn.Dense(2)(tokens) * mask[:, None]

    model, mask = from_linen(Masked()), jnp.arange(6.0)
    params, state = model.init(KEY, X, mask)
    expected = Masked().apply({"params": params}, tokens=X, mask=mask)
    equal(model.apply(params, state, X, mask)[0], expected)
    batch = {"x": X, "mask": mask, "label": jnp.zeros(6, jnp.int32)}
    objective = supervised(model, softmax_cross_entropy, inputs=("x", "mask"))
    loss, _ = objective(params, state, batch, key=None, train=True)
    logits = np.asarray(expected, np.float64)
    np.testing.assert_allclose(loss, np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0]), rtol=1e-5)


class Coder(nn.Module):
    def setup(self):
        self.encoder, self.decoder = nn.Dense(2), nn.Dense(4)

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)

    def __call__(self, x):
        return self.decode(self.encode(x))


@pytest.mark.parametrize("method", ["decode", Coder.decode, lambda module, z: module.decode(z)])
def test_another_method_takes_the_params_of_the_whole(method):
    params, state = from_linen(Coder()).init(KEY, X)
    out, _ = from_linen(Coder(), method=method).apply(params, state, X[:, :2])
    np.testing.assert_allclose(out, X[:, :2] @ params["decoder"]["kernel"], rtol=1e-5, atol=1e-6)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = nn.relu(nn.Dense(4)(x))
        self.sow("intermediates", "double", 2 * x)
        return x, None


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        dense = nn.Dense(4)
        x, _ = Block()(dense(dense(x)))
        variables = {"params": 0, "intermediates": 0}
        loop = nn.scan(Block, variable_axes=variables, split_rngs={"params": True}, length=2)
        return loop(name="loop")(x, None)[0]


@pytest.mark.parametrize("inside", [False, True])
def test_activations_are_flax_intermediates(inside):
    model = from_linen(Deep())
    params, state = model.init(KEY, X)
    _, flax = Deep().apply({"params": params}, X, capture_intermediates=True, mutable=["intermediates"])
    flax = flax["intermediates"]
    if inside:
        model, params = serial(net=model), {"net": params}
    out, found = jax.jit(lambda params: activations(model, params, state, X))(params)
    found = {path.removeprefix("net/"): h for path, h in found.items() if path != "net"}
    first, second = flax["Dense_0"]["__call__"]
    np.testing.assert_allclose(found["Dense_0"], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["Dense_0:1"], second, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["Block_0/double"], flax["Block_0"]["double"][0], rtol=1e-5, atol=1e-6)
    inner = flax["loop"]["Dense_0"]["__call__"][0]
    assert inner.shape == (2, 6, 4)
    np.testing.assert_allclose(found["loop/Dense_0"], inner, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, flax["__call__"][0], rtol=1e-5, atol=1e-6)
    assert {"Block_0", "Block_0/Dense_0", "loop", "loop/double"} <= set(found)


class Noised(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))
        return x + jax.random.normal(self.make_rng("noise"), x.shape)


def test_a_call_may_have_its_keys_by_stream_as_in_flax():
    model = from_linen(Noised())
    keys = {"params": KEY, "noise": jax.random.key(1), "dropout": jax.random.key(2)}
    params, state = model.init(keys, X)
    equal(params, Noised().init(keys, X)["params"])
    out = jax.jit(lambda params, rngs: model.apply(params, state, X, train=True, rngs=rngs)[0])(params, keys)
    expected = Noised().apply({"params": params}, X, train=True, rngs=keys)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="noise"):
        model.apply(params, state, X, train=True, rngs={"dropout": KEY})


@pytest.mark.parametrize("method", ["encode", Coder.encode])
def test_a_call_may_name_its_method_as_in_flax(method):
    model = from_linen(Coder())
    params, state = model.init(KEY, X)
    out, _ = model.apply(params, state, X, method=method)
    equal(out, Coder().apply({"params": params}, X, method=method))
    equal(model.init(KEY, X, method=method)[0], Coder().init(KEY, X, method=method)["params"])
    equal(model.apply(params, state, X)[0], Coder().apply({"params": params}, X))
