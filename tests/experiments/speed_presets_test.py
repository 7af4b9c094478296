"""The recipes that train for seconds: what is frozen, what one call holds, and that they fit the other contracts."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec, choose, load
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import replicate
from dlcore.train import LoopConfig, cadence, main_fit, make_engine, run, session
from dlcore.train._engine import fitting_dispatch
from experiments import _speed, classify

TINY = ("widths=4,6", "train.batch_size=64", "train.steps=8", "train.log_every=4")


def engine_of(settings, preset="speed94"):
    """The engine of the recipe on digits, its feed and the settings of its loop."""
    made = run.named("classify", preset=preset, settings=settings, folder="nowhere")
    name, fit = main_fit(made.system)
    split = made.whole().train
    rows = {**split.read(np.arange(64)), "row": np.arange(64, dtype=np.int32)}
    feed = choose(split, seed=0, batch_size=64)
    epoch = fit.loop.steps_per_epoch(split.size)
    where = {"mesh": make_mesh(1), "rule": replicate}
    return make_engine(fit, feed, fit.loop, rows=rows, key=made.key(name), epoch=epoch, **where), feed


def trained(engine, feed, calls):
    """The state after calls of so many steps each."""
    feed.seek({"step": 0})
    state, totals = engine.make(), jax.tree.map(jnp.asarray, dict(engine.zeros))
    for count in calls:
        state, totals = engine.program(state, totals, engine.resident, jnp.asarray(feed.next(count)))
    return state, totals


@pytest.mark.slow
def test_an_epoch_in_one_call_is_its_steps_one_by_one():
    engine, feed = engine_of([*TINY, "dtype=float32"])
    start = engine.make()
    one_by_one, sums = trained(engine, feed, [1] * 6)
    at_once, sums_at_once = trained(engine, feed, [6])
    assert int(at_once.step) == 6 and engine.resident["image"].dtype == np.uint8
    for a, b in zip(jax.tree.leaves((one_by_one, sums)), jax.tree.leaves((at_once, sums_at_once)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), start.params, at_once.params)
    assert min(jax.tree.leaves(moved)) > 1e-3, "every param has moved"
    for state in (one_by_one, at_once):
        stem = state.state["stem"]["whitening_0"]
        jax.tree.map(np.testing.assert_array_equal, stem, start.state["stem"]["whitening_0"])


def test_a_call_is_an_epoch_on_a_gpu_and_a_step_on_a_cpu():
    config = dataclasses.replace(_speed.recipe("speed94", classify.Config(), load("digits").spec).train, log_every=50)
    assert config.whole_epochs
    assert fitting_dispatch(config, most=10, epoch=107) == 107
    assert fitting_dispatch(config, most=1, epoch=107) == 1, "a convolution in a loop is slow on a CPU"
    assert fitting_dispatch(dataclasses.replace(config, whole_epochs=False), most=10, epoch=107) == 10
    assert fitting_dispatch(dataclasses.replace(config, whole_epochs=False, log_every=9), most=10, epoch=107) == 9
    assert fitting_dispatch(config, most=10, epoch=0) == 10, "data that is streamed"
    engine, _ = engine_of(list(TINY))
    assert engine.dispatch == 1
    when = cadence(LoopConfig(512, epochs=10, log_every=50, eval_every=0), 55_000, 107)
    assert (when.total, when.log, when.dispatch) == (1070, 107, 107), "no call is cut short"


@pytest.mark.parametrize("name", _speed.RECIPES)
def test_on_fashion_mnist_a_recipe_is_whole_epochs(name):
    spec = DataSpec("clothes", (28, 28, 1), 256, 10, tuple("abcdefghij"), (55_000, 5000, 10_000), (0.3,), (0.3,))
    config = classify.preset(name, spec)
    assert config.train.total_steps(55_000) % config.train.steps_per_epoch(55_000) == 0
    assert config.flip and config.dtype == "bfloat16" and not (config.test_flip or config.test_shift or config.ema)
    assert config.optimizer.name == "muon"
    digits = classify.preset(name, load("digits").spec)
    assert not digits.flip and not digits.cutout, "a mirrored digit is none"
    with pytest.raises(ValueError, match=f"preset {name} is for images, and plane has points"):
        classify.preset(name, spec._replace(name="plane", shape=(2,)))


def test_the_stem_whitens_training_images_as_they_are_shown(tmp_path):
    settings = [*TINY, "dtype=float32", "train.batch_size=512", "train.steps=1"]
    made = run.named("classify", preset="speed94", settings=settings, folder=tmp_path)
    name, fit = main_fit(made.system)
    split = made.whole().train
    rows = {**split.read(np.arange(512)), "row": np.arange(512, dtype=np.int32)}
    shown = jax.jit(lambda rows: fit.preprocess(rows, key=None, train=False)["image"])(rows)
    _, state = jax.jit(fit.init)(made.key(name), {"image": shown})
    stem = {k: np.asarray(v, np.float64) for k, v in state["stem"]["whitening_0"].items()}
    x = np.asarray(shown, np.float64)
    cut = [x[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
    outputs = np.concatenate(cut, -1).reshape(-1, 9) @ stem["kernel"].reshape(9, 9) + stem["bias"]
    values = np.linalg.eigvalsh(np.cov(np.concatenate(cut, -1).reshape(-1, 9).T, bias=True))
    expected = np.diag(values / (values + 5e-4 * values.mean()))
    assert expected.min(initial=1, where=expected > 0) > 0.9
    np.testing.assert_allclose(np.cov(outputs.T, bias=True), expected, atol=1e-3)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-3)


@pytest.mark.slow
def test_a_recipe_trains_and_resumes_to_the_bit(tmp_path):
    from dlcore.train import stages

    one = session.train("classify", preset="speed96", settings=TINY, folder=tmp_path / "one", seed=_speed.SEEDS[0])
    made = run.named("classify", preset="speed96", settings=TINY, folder=tmp_path / "two", seed=_speed.SEEDS[0])
    asked = iter([False, False, True])
    assert not stages.execute(made, lambda: next(asked, False))
    two = session.train("classify", preset="speed96", settings=TINY, folder=tmp_path / "two", seed=_speed.SEEDS[0])
    digests = {json.loads((r.folder / "summary.json").read_text())["state_sha256"] for r in (one, two)}
    assert len(digests) == 1
    jax.tree.map(np.testing.assert_array_equal, one.state["stem"], two.state["stem"])
    assert 0 <= one.metrics["test/accuracy"] <= 1


@pytest.mark.slow
def test_a_recipe_learns_digits(tmp_path):
    settings = ["widths=16,32", "train.batch_size=128", "train.steps=220", "dtype=float32"]
    found = session.train("classify", preset="speed94", settings=settings, folder=tmp_path / "run")
    assert found.metrics["test/accuracy"] > 0.95
