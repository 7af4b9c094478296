"""Programs of optax users: loops of their own on dlcore's pieces, against the same loops with optax alone."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.train import Checkpoints, create, gradient_update, make_train_step, sha256, view_of

MODEL = MLP((4,), outputs=3)
X = jax.random.normal(jax.random.key(0), (16, 5))
Y = jax.random.randint(jax.random.key(1), (16,), 0, 3)
BATCHES = [{"image": X[i : i + 8], "label": Y[i : i + 8]} for i in (0, 8)]
WHOLE = [{"image": X, "label": Y}]
KEY = jax.random.key(2)
STEPS = 6


def start():
    """Params as `create` makes them of KEY."""
    return MODEL.init(jax.random.split(KEY)[0], X)[0]


def loss(params, batch):
    logits = MODEL.apply(params, {}, batch["image"], train=True)[0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


def lookahead():
    return optax.lookahead(optax.adam(0.05), sync_period=2, slow_step_size=0.5)


def plateau():
    return optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.3))


def with_lookahead():
    """The program of optax's documentation: gradients at the fast params."""
    tx, pair = lookahead(), optax.LookaheadParams.init_synced(start())
    memory, losses = tx.init(pair), []
    for i in range(STEPS):
        value, grads = jax.jit(jax.value_and_grad(loss))(pair.fast, BATCHES[i % 2])
        updates, memory = jax.jit(tx.update)(grads, memory, pair)
        pair = optax.apply_updates(pair, updates)
        losses.append(value)
    return losses, pair.fast, pair.slow


def with_plateau():
    """The program of optax's documentation: the loss as `value`."""
    tx, params = plateau(), start()
    memory, losses = tx.init(params), []
    for i in range(STEPS):
        value, grads = jax.jit(jax.value_and_grad(loss))(params, BATCHES[i % 2])
        updates, memory = jax.jit(tx.update)(grads, memory, params, value=value)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    assert float(memory[1].scale) < 1, "the plateau was met"
    return losses, params, params


def with_lbfgs():
    """The program of optax's documentation: value, gradient and function, on the full batch."""
    tx, params = optax.lbfgs(memory_size=4), start()
    memory, losses = tx.init(params), []
    f = lambda p: loss(p, WHOLE[0])  # noqa: E731

    @jax.jit
    def step(params, memory):
        value, grads = jax.value_and_grad(f)(params)
        updates, memory = tx.update(grads, memory, params, value=value, grad=grads, value_fn=f)
        return optax.apply_updates(params, updates), memory, value

    for _ in range(STEPS):
        params, memory, value = step(params, memory)
        losses.append(value)
    return losses, params, params


CLIENTS = {
    "lookahead": (with_lookahead, lookahead(), BATCHES),
    "reduce_on_plateau": (with_plateau, plateau(), BATCHES),
    "lbfgs": (with_lbfgs, optax.lbfgs(memory_size=4), WHOLE),
}


@pytest.fixture(params=CLIENTS)
def client(request):
    theirs, tx, batches = CLIENTS[request.param]
    ahead = request.param == "lookahead"
    update = gradient_update(supervised(MODEL, softmax_cross_entropy), tx, lookahead=ahead)
    state = create(KEY, lambda key: MODEL.init(key, X), update)
    return theirs, batches, state, jax.jit(make_train_step(update)), lambda state: view_of(update, state).params


def walk(step, state, batches, steps):
    losses = []
    for i in range(int(state.step), steps):
        state, metrics = step(state, batches[i % len(batches)])
        losses.append(metrics["loss"].value())
    return state, losses


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6), a, b)


@pytest.mark.slow
def test_losses_and_params_are_those_of_optax_alone_and_a_resumed_run_has_the_same_bits(client, tmp_path):
    theirs, batches, state, step, judged_by = client
    losses, params, judged = theirs()
    end, ours = walk(step, state, batches, STEPS)
    same(ours, losses)
    same(end.params, params)
    same(judged_by(end), judged)
    assert losses[-1] < losses[0]

    half, _ = walk(step, state, batches, STEPS // 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(half, {}, step=STEPS // 2)
    checkpoints.close()
    again = Checkpoints(tmp_path, read_only=True)
    restored, _, _ = again.restore_newest(jax.tree.map(jnp.zeros_like, state), pytest.fail)
    again.close()
    assert sha256(restored) == sha256(half)
    assert sha256(walk(step, restored, batches, STEPS)[0]) == sha256(end)


@pytest.mark.slow
def test_an_optimiser_that_draws_noise_resumes_to_the_bit(tmp_path):
    tx = optax.noisy_sgd(0.1, key=3)
    update = gradient_update(supervised(MODEL, softmax_cross_entropy), tx)
    state = create(KEY, lambda key: MODEL.init(key, X), update)
    step = jax.jit(make_train_step(update))
    half, _ = walk(step, state, BATCHES, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(half, {}, step=2)
    checkpoints.wait()
    restored, _, _ = checkpoints.restore_newest(state, pytest.fail)
    checkpoints.close()
    assert sha256(walk(step, restored, BATCHES, 4)[0]) == sha256(walk(step, half, BATCHES, 4)[0])


def test_the_loop_of_the_readme_runs():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (program,) = (text for text in re.findall(r"```python\n(.*?)```", readme, re.S) if "optax.lookahead" in text)
    found = {}
    exec(program, found)
    assert found["history"][-1] < found["history"][0]
    seen = found["view"].params
    jax.tree.map(np.testing.assert_array_equal, seen, found["train_state"].memory["slow"])
    ahead, _ = found["train_step"](found["train_state"], found["batch"])
    jax.tree.map(np.testing.assert_array_equal, view_of(found["update"], ahead).params, seen)
    assert jnp.abs(ahead.params["dense_1"]["kernel"] - seen["dense_1"]["kernel"]).max() > 1e-3, (
        "only the fast ones move"
    )
