"""NNX modules compute as NNX itself has them do, take only their own params, and keep the structure of their state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typecheck
from flax import nnx
from interop.nnx_modules import Net
from interop.trees import changed, equal

from dlcore.interop import from_nnx
from dlcore.losses import l2
from dlcore.nn import activations, compute_in
from dlcore.optim import decay_mask

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(9), (6, 4)) * 3 + 1


def test_training_is_that_of_nnx_itself():
    model, key = from_nnx(lambda rngs: Net(rngs)), jax.random.key(3)
    params, state = model.init(KEY, X)
    native = Net(nnx.Rngs(key))
    nnx.update(native, params, state)
    native.train()
    out, new = model.apply(params, state, X, train=True, key=key)
    equal(out, native(X))
    equal(new, nnx.to_pure_dict(nnx.state(native, nnx.BatchStat)))


MISFITS = {
    "missing branch": ("params", "layers", None, "'layers/0/bias' is missing"),
    "missing": ("params", "norm/scale", None, "'norm/scale' is missing"),
    "unexpected": ("params", "head/kernel", jnp.ones(2), "'head/kernel' is unexpected"),
    "shape": ("params", "norm/scale", jnp.ones(7), r"'norm/scale' has shape \(7,\).*\(4,\)"),
    "dtype": ("params", "norm/scale", jnp.ones(4, jnp.float16), "'norm/scale' is float16.*float32"),
    "no state": ("state", "norm", None, "'norm/mean' is missing"),
    "state's shape": ("state", "norm/mean", jnp.ones(5), r"'norm/mean' has shape \(5,\)"),
    "state's dtype": ("state", "norm/var", jnp.ones(4, jnp.int32), "'norm/var' is int32"),
    "state's name": ("state", "norm/count", jnp.ones(4), "'norm/count' is unexpected"),
}


@pytest.mark.sampled
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", MISFITS)
def test_params_and_state_of_another_module_are_refused(kind, train):
    which, path, leaf, message = MISFITS[kind]
    model = from_nnx(lambda rngs: Net(rngs))
    params, state = model.init(KEY, X)
    params = changed(params, path, leaf) if which == "params" else params
    state = changed(state, path, leaf) if which == "state" else state
    with pytest.raises(ValueError, match=f"{which}: .*{message}"):
        model.apply(params, state, X, train=train, key=KEY)


def test_mixed_precision_is_no_misfit():
    model = compute_in(from_nnx(lambda rngs: Net(rngs)), jnp.bfloat16)
    params, state = model.init(KEY, X)
    assert model.apply(params, state, X, train=True, key=KEY)[0].dtype == jnp.float32


class Loss(nnx.Variable):
    pass


class Telling(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.drop(x))
        self.kl_loss = Loss(jnp.square(x).sum())
        self.sow(nnx.Intermediate, "seen", x.mean())
        return x


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_variables_made_in_the_call_keep_their_place_in_a_scan():
    model = from_nnx(lambda rngs: Telling(rngs))
    params, state = model.init(KEY, X)
    _, bare = model.init(KEY)
    assert set(bare) == {"norm"} and set(state) == {"norm", "kl_loss", "seen"}

    def step(state, key):
        out, new = model.apply(params, state, X, train=True, key=key)
        return new, out

    keys = jax.random.split(KEY, 3)
    new, outputs = jax.lax.scan(step, state, keys)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    np.testing.assert_allclose(new["kl_loss"], np.square(outputs[-1]).sum(), rtol=1e-5)
    np.testing.assert_allclose(new["seen"][0], outputs[-1].mean(), atol=1e-6)
    assert set(jax.lax.scan(step, bare, keys)[0]) == {"norm"}
    out, judged = model.apply(params, new, 2 * X)
    np.testing.assert_allclose(judged["kl_loss"], np.square(out).sum(), rtol=1e-5)
    np.testing.assert_allclose(judged["seen"][0], out.mean(), atol=1e-6)
    equal(judged["norm"], new["norm"])


class Written(nnx.Module):
    """A loss in a place that is made beforehand, and a count."""

    def __init__(self, rngs):
        self.kl, self.count = Loss(jnp.zeros(())), nnx.Variable(jnp.int32(0))

    def __call__(self, x):
        self.kl[...] = jnp.square(x).sum()
        self.count[...] += 1
        return x


def test_variables_that_a_call_writes_are_told_in_evaluation_and_a_count_is_kept():
    model = from_nnx(Written)
    params, state = model.init(KEY, X)
    _, judged = model.apply(params, state, X)
    assert judged["count"] == 0
    np.testing.assert_allclose(judged["kl"], np.square(X).sum(), rtol=1e-5)
    assert model.apply(params, judged, X, train=True)[1]["count"] == 1


class Coder(nnx.Module):
    def __init__(self, rngs):
        self.encoder, self.decoder = nnx.Linear(4, 2, rngs=rngs), nnx.Linear(2, 4, rngs=rngs)

    def decode(self, z):
        return self.decoder(z)


def test_another_method_takes_the_params_of_the_whole():
    model = from_nnx(Coder, method="decode")
    params, state = model.init(KEY)
    assert set(params) == {"encoder", "decoder"}
    expected = X[:, :2] @ params["decoder"]["kernel"]
    np.testing.assert_allclose(model.apply(params, state, X[:, :2])[0], expected, rtol=1e-5, atol=1e-6)
    assert set(activations(model, params, state, X[:, :2])[1]) == {"decoder"}


def test_a_stream_of_its_own_that_is_not_drawn_from_is_none_of_them():
    """A recurrent net starts from zeros, and has a stream of its own for other starts."""
    model = from_nnx(lambda rngs: nnx.RNN(nnx.GRUCell(4, 3, rngs=rngs)))
    params, state = model.init(KEY)
    native = nnx.RNN(nnx.GRUCell(4, 3, rngs=nnx.Rngs(KEY)))
    for key in (None, KEY):
        np.testing.assert_allclose(model.apply(params, state, X[None], key=key)[0], native(X[None]), rtol=1e-6)


def test_names_in_lists_may_be_texts_as_weights_in_files_have_them():
    model = from_nnx(Net)
    params, state = model.init(KEY, X)
    texts = {**params, "layers": {str(i): layer for i, layer in params["layers"].items()}}
    equal(model.apply(texts, state, X)[0], model.apply(params, state, X)[0])


def test_inputs_without_a_place_fill_keyword_only_ones():
    class Scaled(nnx.Module):
        def __init__(self, rngs):
            pass

        def __call__(self, x, *, scale, train=False):
            return x * scale

    equal(from_nnx(Scaled).apply({}, {}, X, 2.0)[0], X * 2)


class Lazy(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x):
        self.head = nnx.Linear(4, 2, rngs=self.rngs)
        return self.head(x)


def test_params_made_in_the_call_are_refused():
    model = from_nnx(lambda rngs: Lazy(rngs))
    with pytest.raises(ValueError, match="'head/bias'"):
        model.apply({}, {}, X, key=KEY)


class Ranked(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, axis_name="batch", momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


def test_a_mapped_axis_is_bound_or_refused_with_the_way():
    model = from_nnx(lambda rngs: Ranked(rngs), axis_names=("batch",))
    params, state = model.init(KEY, X)
    out, new = model.apply(params, state, X, train=True)
    z = np.asarray(X, np.float64)
    np.testing.assert_allclose(out, (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["norm"]["mean"], 0.1 * z.mean(0), rtol=1e-4)
    with pytest.raises(ValueError, match=r"axis_names=\('batch',\)"):
        from_nnx(lambda rngs: Ranked(rngs)).apply(params, state, X, train=True)


def test_an_nnx_state_is_taken_and_its_paths_are_those_of_the_arrays():
    model = from_nnx(lambda rngs: Net(rngs))
    params, state = model.init(KEY)
    _, boxed, _, boxed_state = nnx.split(Net(nnx.Rngs(KEY)), nnx.Param, nnx.RngState, ...)
    equal(model.apply(boxed, boxed_state, X)[0], model.apply(params, state, X)[0])
    weights = sum(float(np.square(layer["kernel"]).sum()) for layer in params["layers"].values())
    np.testing.assert_allclose(l2(boxed), weights / 2, rtol=1e-6)
    _, new = model.apply(boxed, boxed_state, X, train=True, key=KEY)
    assert jax.tree.structure(new) == jax.tree.structure(boxed_state)
    equal(nnx.to_pure_dict(new), model.apply(params, state, X, train=True, key=KEY)[1])
    equal(jax.tree.leaves(decay_mask(boxed)), jax.tree.leaves(decay_mask(params)))


class Phased(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, phase):
        return self.drop(x, deterministic=not phase)


def test_an_argument_that_nothing_fills_is_named():
    with pytest.raises(ValueError, match=r"'phase'.*flag='name'"):
        from_nnx(Phased).init(jax.random.key(0), jnp.ones(3))


@pytest.mark.parametrize("given", [Phased(nnx.Rngs(0)), (Phased,), None], ids=["a module", "one of a pair", "nothing"])
def test_what_makes_no_module_is_refused(given):
    with typecheck.unchecked(), pytest.raises(ValueError, match="lambda rngs"):
        from_nnx(given)
