"""Optimisers of optax train as in a loop written with optax alone, whatever they ask for beside the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib as contrib
import pytest

from dlcore.losses.regression import squared_error
from dlcore.losses.supervised import supervised
from dlcore.nn.activation import Activation
from dlcore.nn.combine import serial
from dlcore.nn.dense import Dense
from dlcore.train.evaluate import evaluated
from dlcore.train.state import checksums, create, sha256
from dlcore.train.step import make_train_step
from dlcore.train.updates import ema_update, evaluation_update, gradient_update

MODEL = serial(Dense(3), Activation("tanh"), Dense(2))
BATCH = {"image": jax.random.normal(jax.random.key(0), (8, 3)), "label": jax.random.normal(jax.random.key(1), (8, 2))}
OBJECTIVE = supervised(MODEL, squared_error)
PARAMS = MODEL.init(jax.random.split(jax.random.key(2))[0], BATCH["image"])[0]
"""What `create` makes of the key 2."""

SGD = optax.sgd(0.1)
POLYAK = optax.polyak_sgd(max_learning_rate=50.0)
ADVERSARY = optax.chain(contrib.normalize(), optax.sgd(0.05))
EVERYTHING = ("value", "grad", "value_fn")
OPTIMIZERS = {
    "adamw": (optax.adamw(0.1), ()),
    "reduce_on_plateau": (optax.chain(optax.adam(0.1), contrib.reduce_on_plateau(patience=1, rtol=0.5)), ("value",)),
    "polyak_sgd": (POLYAK, ("value",)),
    "momo": (contrib.momo(0.5), ("value",)),
    "momo_adam": (contrib.momo_adam(0.05), ("value",)),
    "lbfgs": (optax.lbfgs(memory_size=3), EVERYTHING),
    "backtracking": (optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)), EVERYTHING),
    "clipped lbfgs": (optax.chain(optax.clip(1.0), optax.lbfgs(memory_size=2)), EVERYTHING),
    "sam": (contrib.sam(SGD, ADVERSARY), ()),
    "opaque sam": (contrib.sam(SGD, ADVERSARY, opaque_mode=True), ("grad_fn",)),
    "clipped sam": (optax.chain(optax.clip(1.0), contrib.sam(SGD, ADVERSARY)), ()),
    "sophia": (contrib.sophia(0.01, update_interval=2), ("obj_fn",)),
    "schedule_free": (contrib.schedule_free_sgd(0.1), ()),
    "schedule_free adamw": (contrib.schedule_free_adamw(0.1), ()),
    "prodigy": (contrib.prodigy(), ()),
    "dog": (contrib.dog(), ()),
    "dowg": (contrib.dowg(), ()),
    "dadapt_adamw": (contrib.dadapt_adamw(), ()),
    "mechanize": (contrib.mechanize(SGD), ()),
    "cocob": (contrib.cocob(), ()),
    "muon": (contrib.muon(0.01), ()),
    "apply_if_finite": (optax.apply_if_finite(POLYAK, 2), ("value",)),
    "accumulated": (optax.MultiSteps(optax.adam(0.1), 2), ()),
    "accumulated polyak": (optax.MultiSteps(POLYAK, 2), ("value",)),
    "injected": (optax.inject_hyperparams(optax.adam)(learning_rate=lambda step: 0.1 / (step + 1)), ()),
    "noisy": (optax.noisy_sgd(0.1, key=3), ()),
    "frozen": (
        optax.partition({"a": POLYAK, "b": optax.set_to_zero()}, {"dense_0": "a", "dense_1": "b"}),
        ("value",),
    ),
}


def own_loop(tx, wanted, steps=4):
    """Params and loss after each step, with nothing of dlcore's engine."""
    loss = lambda p: jnp.square(MODEL.apply(p, {}, BATCH["image"])[0] - BATCH["label"]).mean()  # noqa: E731

    @jax.jit
    def step(params, memory):
        value, grads = jax.value_and_grad(loss)(params)
        told = {"value": value, "grad": grads, "value_fn": loss, "obj_fn": loss}
        told["grad_fn"] = lambda p, i: jax.grad(loss)(p)
        updates, memory = tx.update(grads, memory, params, **{name: told[name] for name in wanted})
        return optax.apply_updates(params, updates), memory, value

    params, memory, values = PARAMS, tx.init(PARAMS), []
    for _ in range(steps):
        params, memory, value = step(params, memory)
        values.append(value)
    return params, values


def train(tx, steps=4, *after, **options):
    """Steps in a `lax.scan`, as the engine's dispatches take them, from a state whose memory is given away."""
    state = create(jax.random.key(2), lambda key: MODEL.init(key, BATCH["image"]), {"params": tx}, ema=bool(after))
    step = make_train_step(gradient_update(OBJECTIVE, tx, **options), *after)
    run = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, BATCH), s, length=steps), donate_argnums=0)
    state, metrics = run(state)
    return state, metrics["loss"].total / metrics["loss"].count


def close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


QUICK = (
    "reduce_on_plateau",
    "polyak_sgd",
    "lbfgs",
    "opaque sam",
    "clipped sam",
    "sophia",
    "dowg",
    "accumulated polyak",
    "noisy",
)
"""One of each kind; the others are a slow proof."""


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS])
def test_the_same_losses_and_params_as_with_optax_alone(name):
    tx, wanted = OPTIMIZERS[name]
    params, values = own_loop(tx, wanted)
    state, losses = train(tx)
    close(losses, values, 1e-5)
    close(state.params, params, 1e-5)
    assert sha256(state) and checksums(state).size == len(jax.tree.leaves(state)), "it can be checkpointed"


def test_an_optimiser_that_asks_for_nothing_costs_nothing():
    tx = optax.chain(optax.clip(1.0), optax.adam(0.1))

    def plain(state, batch, key):
        loss = lambda p: OBJECTIVE(p, state.state, batch, key=key, train=True)  # noqa: E731
        grads, aux = jax.grad(loss, has_aux=True)(state.params)
        updates, opt = tx.update(grads, state.opt["params"], state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**aux.metrics, "gradient_norm": optax.tree.norm(grads)}
        return state._replace(params=params, opt={"params": opt}), metrics

    state = create(jax.random.key(2), lambda key: (PARAMS, {}), {"params": tx})
    args = state, BATCH, jax.random.key(0)
    ours, theirs = (jax.make_jaxpr(step)(*args) for step in (gradient_update(OBJECTIVE, tx), plain))
    kinds = lambda jaxpr: [str(equation.primitive) for equation in jaxpr.jaxpr.eqns]  # noqa: E731
    assert kinds(ours) == kinds(theirs)


@pytest.mark.parametrize("name", ["polyak_sgd", "backtracking", "opaque sam"])
def test_microbatches_tell_of_the_whole_batch(name):
    tx, wanted = OPTIMIZERS[name]
    params, values = own_loop(tx, wanted)
    state, losses = train(tx, microbatches=4)
    close(losses, values, 1e-5)
    close(state.params, params, 1e-5)


def test_a_pair_of_params_looks_ahead():
    tx = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.5)
    loss = lambda p: jnp.square(MODEL.apply(p, {}, BATCH["image"])[0] - BATCH["label"]).mean()  # noqa: E731
    pair = optax.LookaheadParams.init_synced(PARAMS)
    memory, values = tx.init(pair), []
    state = create(jax.random.key(2), lambda key: (pair, {}), {"params": tx}, ema=True)
    step = jax.jit(make_train_step(gradient_update(OBJECTIVE, tx), ema_update(0.0)))
    for _ in range(4):
        value, grads = jax.value_and_grad(loss)(pair.fast)
        updates, memory = tx.update(grads, memory, pair)
        pair = optax.apply_updates(pair, updates)
        state, metrics = step(state, BATCH)
        close(metrics["loss"].value(), value)
        close(state.params, pair)
        values.append(float(value))
    assert values[-1] < values[0]
    close(evaluated(state)[0], pair.slow)
    close(evaluated(state._replace(ema={}))[0], pair.slow)
    with pytest.raises(ValueError, match="init_synced"):
        train(tx)
    with pytest.raises(ValueError, match="go together"):
        alone = create(jax.random.key(2), lambda key: (pair, {}), {"params": SGD})
        gradient_update(OBJECTIVE, SGD)(alone, BATCH, jax.random.key(0))


def test_a_branch_looks_ahead_beside_another():
    def objective(params, state, batch, *, key, train):
        (value, aux) = OBJECTIVE({"dense_0": params["one"], "dense_1": params["two"]}, {}, batch, key=key, train=train)
        return value, aux._replace(state=state)

    ahead, tx = optax.lookahead(SGD, 2, 0.5), optax.sgd(0.2)
    params = {"one": optax.LookaheadParams.init_synced(PARAMS["dense_0"]), "two": PARAMS["dense_1"]}
    state = create(jax.random.key(2), lambda key: (params, {}), {"one": ahead, "two": tx})
    step = make_train_step(gradient_update(objective, ahead, name="one"), gradient_update(objective, tx, name="two"))
    after, _ = step(state, BATCH)
    slope = jax.grad(lambda p: OBJECTIVE(p, {}, BATCH, key=None, train=True)[0])
    one = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS["dense_0"], slope(PARAMS)["dense_0"])
    two = slope({"dense_0": one, "dense_1": PARAMS["dense_1"]})["dense_1"]
    close(after.params["one"].fast, one)
    close(after.params["one"].slow, PARAMS["dense_0"])
    close(after.params["two"], jax.tree.map(lambda p, g: p - 0.2 * g, PARAMS["dense_1"], two))
    close(evaluated(after)[0]["one"], PARAMS["dense_0"])


def test_what_cannot_work_says_so():
    demanding = optax.GradientTransformationExtraArgs(lambda p: (), lambda g, s, p, *, curvature: (g, s))
    with pytest.raises(ValueError, match=r"curvature.*update of your own"):
        train(demanding)
    with pytest.raises(ValueError, match=r"per.example"):
        train(contrib.dpsgd(0.1, 1.0, 0.1, 0))
    flat = optax.GradientTransformation(lambda p: (), lambda g, s, p: (jax.tree.leaves(g), s))
    with pytest.raises(ValueError, match="structure"):
        train(flat)
    summed = optax.stateless(lambda g, p: jax.tree.map(lambda x: x.sum(0), g))
    with pytest.raises(ValueError, match="'dense_0/bias' has shape"):
        train(summed)


def test_evaluation_at_params_that_the_optimiser_names():
    tx = contrib.schedule_free_sgd(0.1)
    state, _ = train(tx, 4, evaluation_update(lambda s: contrib.schedule_free_eval_params(s.opt["params"], s.params)))
    params, memory = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        grads = jax.grad(lambda p: OBJECTIVE(p, {}, BATCH, key=None, train=True)[0])(params)
        updates, memory = tx.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
    close(evaluated(state)[0], contrib.schedule_free_eval_params(memory, params))
    assert jnp.abs(evaluated(state)[0]["dense_0"]["kernel"] - params["dense_0"]["kernel"]).max() > 1e-4
    with pytest.raises(ValueError, match="ema=True"):
        bare = create(jax.random.key(2), lambda key: (PARAMS, {}), {"params": tx})
        evaluation_update(lambda s: s.params)(bare, BATCH, jax.random.key(0))


def test_a_constant_decay_is_the_average_of_optax():
    decay, average = 0.8, PARAMS
    state = create(jax.random.key(2), lambda key: (PARAMS, {}), {"params": SGD}, ema=True)
    step = jax.jit(make_train_step(gradient_update(OBJECTIVE, SGD), ema_update(decay, warmup=False)))
    tx = optax.ema(decay, debias=False)
    memory = tx.init(PARAMS)
    for t in range(1, 5):
        state, _ = step(state, BATCH)
        average = optax.incremental_update(state.params, average, 1 - decay)
        close(state.ema["params"], average)
        # optax.ema starts at 0, so that it lacks what is left of the start.
        from_zero, memory = tx.update(state.params, memory)
        close(state.ema["params"], jax.tree.map(lambda e, p: e + decay**t * p, from_zero, PARAMS))  # noqa: B023
