"""Optimisers of optax train as in a loop written with optax alone, whatever they ask for beside the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib as contrib
import pytest

from dlcore.losses import squared_error, supervised
from dlcore.nn import Activation, Dense, serial
from dlcore.norms import global_norm
from dlcore.train import chain, checksums, create, ema_update, gradient_update, make_train_step, sha256, view_of
from dlcore.types import Carry

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

    @jax.jit
    def step(params, memory):
        value, grads = jax.value_and_grad(own_loss)(params)
        told = {"value": value, "grad": grads, "value_fn": own_loss, "obj_fn": own_loss}
        told["grad_fn"] = lambda p, i: jax.grad(own_loss)(p)
        updates, memory = tx.update(grads, memory, params, **{name: told[name] for name in wanted})
        return optax.apply_updates(params, updates), memory, value

    params, memory, values = PARAMS, tx.init(PARAMS), []
    for _ in range(steps):
        params, memory, value = step(params, memory)
        values.append(value)
    return params, values


def start(update, params=PARAMS):
    return create(jax.random.key(2), lambda key: (params, {}), update)


def train(tx, steps=4, **options):
    """Steps in a `lax.scan`, as the engine's dispatches take them, from a state whose memory is given away."""
    update = gradient_update(OBJECTIVE, tx, **options)
    state = create(jax.random.key(2), lambda key: MODEL.init(key, BATCH["image"]), update)
    step = make_train_step(update)
    run = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, BATCH), s, length=steps), donate_argnums=0)
    state, metrics = run(state)
    return state, metrics["loss"].total / metrics["loss"].count


def own_loss(params):
    return jnp.square(MODEL.apply(params, {}, BATCH["image"])[0] - BATCH["label"]).mean()


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


@pytest.mark.slow
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

    def plain(carry, batch, *, key, step):
        loss = lambda p: OBJECTIVE(p, carry.state, batch, key=key, train=True, step=step)  # noqa: E731
        grads, aux = jax.grad(loss, has_aux=True)(carry.params)
        updates, memory = tx.update(grads, carry.memory, carry.params)
        params = optax.apply_updates(carry.params, updates)
        return Carry(params, aux.state, memory), {**aux.metrics, "gradient_norm": global_norm(grads)}

    given = {"key": jax.random.key(0), "step": jnp.int32(0)}
    args = Carry(PARAMS, {}, tx.init(PARAMS)), BATCH
    own = gradient_update(OBJECTIVE, tx).apply
    ours, theirs = (jax.make_jaxpr(step)(*args, **given) for step in (own, plain))
    kinds = lambda jaxpr: [str(equation.primitive) for equation in jaxpr.jaxpr.eqns]  # noqa: E731
    assert kinds(ours) == kinds(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polyak_sgd", "backtracking", "opaque sam"])
def test_microbatches_tell_of_the_whole_batch(name):
    tx, wanted = OPTIMIZERS[name]
    params, values = own_loop(tx, wanted)
    state, losses = train(tx, microbatches=4)
    close(losses, values, 1e-5)
    close(state.params, params, 1e-5)


def walk_ahead(tx, loss_of, params, steps):
    """The pair of params and the loss after each step, with optax alone."""
    pair = optax.LookaheadParams.init_synced(params)
    memory, found = tx.init(pair), []
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss_of)(pair.fast)
        updates, memory = tx.update(grads, memory, pair)
        pair = optax.apply_updates(pair, updates)
        found.append((pair, value))
    return found


@pytest.mark.slow
def test_a_pair_of_params_looks_ahead():
    tx = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.5)
    update = gradient_update(OBJECTIVE, tx, lookahead=True)
    state, step = start(update), jax.jit(make_train_step(update))
    close(view_of(update, state).params, PARAMS)
    expected = walk_ahead(tx, own_loss, PARAMS, 4)
    for pair, value in expected:
        state, metrics = step(state, BATCH)
        close(metrics["loss"].value(), value)
        close(state.params, pair.fast)
        close(view_of(update, state).params, pair.slow)
    assert expected[-1][1] < expected[0][1]
    assert abs(pair.fast["dense_0"]["kernel"] - pair.slow["dense_0"]["kernel"]).max() > 1e-2, "the last step is ahead"


@pytest.mark.slow
def test_in_one_go_a_pair_of_params_does_the_same():
    tx = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.5)
    state, losses = train(tx, 4, lookahead=True)
    expected = walk_ahead(tx, own_loss, PARAMS, 4)
    close(losses, [value for _, value in expected])
    close(state.params, expected[-1][0].fast)
    assert sha256(state) and checksums(state).size == len(jax.tree.leaves(state)), "it can be checkpointed"


def test_looking_ahead_is_asked_for_where_the_optimiser_does_it():
    with pytest.raises(ValueError, match=r"go together.*lookahead=True"):
        train(optax.lookahead(SGD, 2, 0.5))
    with pytest.raises(ValueError, match="go together"):
        train(SGD, lookahead=True)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ahead first", "ahead last"])
def test_a_branch_looks_ahead_beside_another(order):
    ahead, tx = optax.lookahead(SGD, 2, 0.5), optax.sgd(0.2)
    parts = {
        "one": gradient_update(OBJECTIVE, ahead, only="dense_0/**", lookahead=True),
        "two": gradient_update(OBJECTIVE, tx, only="dense_1/**"),
    }
    names = list(parts) if order == "ahead first" else list(parts)[::-1]
    update = chain(**{name: parts[name] for name in names})
    state, step = start(update), jax.jit(make_train_step(update))
    pair, two = optax.LookaheadParams.init_synced(PARAMS["dense_0"]), PARAMS["dense_1"]
    memory = ahead.init(pair)
    for _ in range(3):
        for name in names:
            grads = jax.grad(own_loss)({"dense_0": pair.fast, "dense_1": two})
            if name == "one":
                updates, memory = ahead.update(grads["dense_0"], memory, pair)
                pair = optax.apply_updates(pair, updates)
            else:
                two = jax.tree.map(lambda p, g: p - 0.2 * g, two, grads["dense_1"])
        state, _ = step(state, BATCH)
        close(state.params, {"dense_0": pair.fast, "dense_1": two})
        close(view_of(update, state).params, {"dense_0": pair.slow, "dense_1": two})
    assert abs(pair.fast["kernel"] - pair.slow["kernel"]).max() > 1e-3


def test_what_cannot_work_says_so():
    demanding = optax.GradientTransformationExtraArgs(lambda p: (), lambda g, s, p, *, curvature: (g, s))
    with pytest.raises(ValueError, match=r"curvature.*update of your own"):
        train(demanding)
    with pytest.raises(ValueError, match=r"value is given to the outermost.*lookahead"):
        train(optax.lookahead(POLYAK, 2, 0.5), lookahead=True)
    searching = optax.partition({"a": optax.lbfgs(), "b": SGD}, {"dense_0": "a", "dense_1": "b"})
    with pytest.raises(ValueError, match=r"structures.*line search.*only="):
        train(searching)
    with pytest.raises(ValueError, match=r"per.example"):
        train(contrib.dpsgd(0.1, 1.0, 0.1, 0))
    flat = optax.GradientTransformation(lambda p: (), lambda g, s, p: (jax.tree.leaves(g), s))
    with pytest.raises(ValueError, match="structure"):
        train(flat)
    summed = optax.stateless(lambda g, p: jax.tree.map(lambda x: x.sum(0), g))
    with pytest.raises(ValueError, match="'dense_0/bias' has shape"):
        train(summed)


EVALUATED = {
    "schedule_free": (contrib.schedule_free_sgd(0.1), contrib.schedule_free_eval_params),
    "sam": (contrib.sam(SGD, ADVERSARY, sync_period=3), lambda memory, params: memory.cache),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATED)
def test_evaluation_at_params_that_the_optimiser_names(name):
    tx, judged = EVALUATED[name]
    state, _ = train(tx, 4, evaluated=judged)
    params, memory = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        updates, memory = tx.update(jax.grad(own_loss)(params), memory, params)
        params = optax.apply_updates(params, updates)
    close(state.params, params)
    seen = view_of(gradient_update(OBJECTIVE, tx, evaluated=judged), state)
    close(seen.params, judged(memory, params))
    assert abs(seen.params["dense_0"]["kernel"] - params["dense_0"]["kernel"]).max() > 1e-4
    close(view_of(gradient_update(OBJECTIVE, tx), state).params, params)


def test_one_branch_is_evaluated_where_its_optimiser_says():
    tx, judged = EVALUATED["schedule_free"]
    update = chain(
        one=gradient_update(OBJECTIVE, tx, only="dense_0/**", evaluated=judged),
        two=gradient_update(OBJECTIVE, SGD, only="dense_1/**"),
    )
    state, step = start(update), jax.jit(make_train_step(update))
    for _ in range(3):
        state, _ = step(state, BATCH)
    seen = view_of(update, state).params
    one, two = {"dense_0": state.params["dense_0"]}, {"dense_1": state.params["dense_1"]}
    close(seen, judged(state.memory["one"], one) | two)
    assert abs(seen["dense_0"]["kernel"] - state.params["dense_0"]["kernel"]).max() > 1e-4


def test_what_looks_ahead_may_be_evaluated_elsewhere():
    tx = optax.lookahead(contrib.schedule_free_sgd(0.1), 2, 0.5)
    judged = lambda memory, slow: contrib.schedule_free_eval_params(memory.fast_state, slow)  # noqa: E731
    update = gradient_update(OBJECTIVE, tx, lookahead=True, evaluated=judged)
    state, _ = train(tx, 3, lookahead=True)
    pair = optax.LookaheadParams.init_synced(PARAMS)
    memory = tx.init(pair)
    for _ in range(3):
        updates, memory = tx.update(jax.grad(own_loss)(pair.fast), memory, pair)
        pair = optax.apply_updates(pair, updates)
    close(view_of(update, state).params, contrib.schedule_free_eval_params(memory.fast_state, pair.slow))


def test_a_constant_decay_is_the_average_of_optax():
    decay, average = 0.8, PARAMS
    update = chain(gradient=gradient_update(OBJECTIVE, SGD), ema=ema_update(decay, warmup=False))
    state, step = start(update), jax.jit(make_train_step(update))
    tx = optax.ema(decay, debias=False)
    memory = tx.init(PARAMS)
    for t in range(1, 5):
        state, _ = step(state, BATCH)
        average = optax.incremental_update(state.params, average, 1 - decay)
        seen = view_of(update, state).params
        close(seen, average)
        # optax.ema starts at 0, so that it lacks what is left of the start.
        from_zero, memory = tx.update(state.params, memory)
        close(seen, jax.tree.map(lambda e, p: e + decay**t * p, from_zero, PARAMS))  # noqa: B023
