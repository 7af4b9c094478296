"""The loop: exact resume, cadence, early stopping, damage, and what a run writes."""

import dataclasses
import functools
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.data import choose, in_memory
from dlcore.losses import squared_error, supervised
from dlcore.nn import Activation, BatchNorm, Dense, Dropout, serial
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import replicate
from dlcore.train import (
    Checkpoints,
    Fit,
    LoopConfig,
    Progress,
    Recorder,
    _loop,
    cadence,
    fit,
    gradient_update,
    make_engine,
    sha256,
    with_average,
)
from dlcore.train._record import read_rows
from dlcore.types import Mean

SPLIT = in_memory(
    {
        "image": np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32),
        "label": np.random.default_rng(1).normal(size=(50, 1)).astype(np.float32),
    }
)
CONFIG = LoopConfig(batch_size=8, steps=37, log_every=6, steps_per_dispatch=3, eval_every=1.0)


def stage(rate=1e-2):
    model = serial(Dense(8), BatchNorm(), Activation("tanh"), Dropout(0.2), Dense(1))
    objective, tx = supervised(model, squared_error), optax.adam(rate)

    def evaluate(params, state, batch, key):
        error = squared_error(model.apply(params, state, batch["image"])[0], batch["label"])
        return {"mse": Mean.of(error[:, 0], batch["where"])}

    return Fit(
        loop=CONFIG,
        init=lambda key, batch: model.init(key, batch["image"]),
        update=with_average(gradient_update(objective, tx), 0.9),
        preprocess=lambda batch, *, key, train: dict(batch),
        evaluate=evaluate,
        summarize=lambda sums: {"mse": float(sums["mse"].value())},
        monitor=("mse", "min"),
        learning_rates={"learning_rate": lambda step: rate},
    )


@functools.cache
def compiled(config, kind, rate):
    """A stage and its engine; a run that is started over finds everything but its programs in its folder."""
    mesh, one = make_mesh(1), stage(rate)
    feed = choose(SPLIT, seed=0, batch_size=config.batch_size, kind=kind)
    start = {"rows": SPLIT.read(np.arange(8)), "key": jax.random.key(0)}
    return one, make_engine(one, feed, config, **start, mesh=mesh, rule=replicate)


def run(folder, *, config=CONFIG, kind="resident", stops=(), validate=None, rate=1e-2):
    """Fit in `folder`, stopping after as many dispatches as `stops` says and starting over, until it is finished."""
    for stop_after in (*stops, None):
        one, engine = compiled(config, kind, rate)
        feed = choose(SPLIT, seed=0, batch_size=config.batch_size, kind=kind)
        checkpoints = Checkpoints(folder / "checkpoints", keep=config.keep)
        calls = iter(range(10**6))
        fitted = fit(
            one,
            feed,
            config,
            engine,
            cadence(config, SPLIT.size, engine.dispatch),
            mesh=make_mesh(1),
            checkpoints=checkpoints,
            open_recorder=lambda step: Recorder(folder, total=config.steps, step=step),
            validate=validate,
            stop=lambda: stop_after is not None and next(calls) + 1 >= stop_after,  # noqa: B023
        )
        checkpoints.close()
    return fitted


def rows(folder):
    return [dict(row.items()) for row in read_rows(folder / "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resident", "grain"])
def test_interrupted_anywhere_ends_in_the_same_bits_and_log(tmp_path, kind):
    whole = run(tmp_path / "whole", kind=kind)
    cut = run(tmp_path / "cut", kind=kind, stops=(1, 3, 2, 4))
    assert whole.finished and cut.finished and whole.step == cut.step == 37
    assert sha256(whole.state) == sha256(cut.state)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


@pytest.mark.slow
def test_pipelines_and_dispatches_agree(tmp_path):
    one = run(tmp_path / "a", config=dataclasses.replace(CONFIG, steps_per_dispatch=1))
    many = run(tmp_path / "b", config=dataclasses.replace(CONFIG, steps_per_dispatch=5), kind="grain")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one.state.params, many.state.params
    )


def test_logged_means_cover_every_step_once(tmp_path):
    run(tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [6, 12, 18, 24, 30, 36, 37]
    assert all(row["train/learning_rate"] == 1e-2 and row["train/gradient_norm"] > 0 for row in rows(tmp_path))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(tmp_path)
    log = rows(tmp_path)
    again = run(tmp_path)
    assert sha256(first.state) == sha256(again.state) and rows(tmp_path) == log


@pytest.mark.slow
def test_early_stopping_restores_the_best_and_its_counters_survive(tmp_path):
    config = dataclasses.replace(CONFIG, patience=2, steps=120)
    script = {6: 3.0, 12: 1.0, 18: 2.0, 24: 1.5}
    states = {}

    def validate(state):
        states[int(state.step)] = sha256(state)
        return {"mse": script.get(int(state.step), 9.0)}

    whole = run(tmp_path / "whole", config=config, validate=validate)
    assert whole.progress.stopped_early and whole.progress.best_step == 12 and whole.step == 24
    assert sha256(whole.state) == states[12]
    cut = run(tmp_path / "cut", config=config, validate=validate, stops=(7, 1))
    assert sha256(cut.state) == states[12] and cut.step == 24


def test_newest_and_best_are_kept(tmp_path):
    script = {6: 3.0, 12: 1.0}
    run(tmp_path, config=CONFIG, validate=lambda state: {"mse": script.get(int(state.step), 2.0)}, stops=(7, 1, 1, 1))
    steps = sorted(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir() if folder.name.isdigit())
    assert 12 in steps and 37 in steps and len(steps) == 3


@pytest.mark.slow
def test_damaged_newest_falls_back_and_says_so(tmp_path, capsys):
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", stops=(4, 3), config=dataclasses.replace(CONFIG, keep=3))
    newest = max((tmp_path / "cut" / "checkpoints").glob("[0-9]*"), key=lambda folder: int(folder.name))
    for file in newest.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-7] + b"damaged")
    again = run(tmp_path / "cut", config=dataclasses.replace(CONFIG, keep=3))
    assert f"checkpoint {newest.name}" in capsys.readouterr().out
    assert sha256(again.state) == sha256(whole.state)


def test_all_damaged_is_an_error_and_deletes_nothing(tmp_path):
    run(tmp_path)
    folders = [folder for folder in (tmp_path / "checkpoints").iterdir() if folder.name.isdigit()]
    for folder in folders:
        shutil.rmtree(folder / "items")
    with pytest.raises(ValueError, match="none of the checkpoints"):
        run(tmp_path)
    assert all(folder.exists() for folder in folders)


def test_swapped_bits_fail_the_checksum(tmp_path):
    fitted = run(tmp_path)
    checkpoints = Checkpoints(tmp_path / "other", keep=1)
    checkpoints._checksums = lambda state: jnp.zeros(len(jax.tree.leaves(state)), jnp.uint32)
    checkpoints.save(fitted.state, {}, step=1)
    checkpoints.close()
    with pytest.raises(ValueError, match="checksum"):
        Checkpoints(tmp_path / "other").restore(fitted.state, 1)


def test_divergence_is_an_error(tmp_path):
    with pytest.raises(FloatingPointError, match="learning rate"):
        run(tmp_path, rate=1e30)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 51}, "50 examples"),
        ({"batch_size": 0}, "50 examples"),
        ({"log_every": 0}, "log_every"),
        ({"patience": -1}, "patience"),
        ({"steps": 0, "epochs": 0.0}, "no step"),
    ],
)
def test_bad_settings(change, text):
    with pytest.raises(ValueError, match=text):
        cadence(dataclasses.replace(CONFIG, **change), SPLIT.size, 1)


def test_batch_that_devices_cannot_share():
    feed = choose(SPLIT, seed=0, batch_size=12)
    with pytest.raises(ValueError, match="batch_size 12 is not divisible by 8 devices; use 8 or 16"):
        make_engine(
            stage(),
            feed,
            dataclasses.replace(CONFIG, batch_size=12),
            rows=SPLIT.read(np.arange(12)),
            key=jax.random.key(0),
            mesh=make_mesh(8),
            rule=replicate,
        )


def test_judge_counts_from_the_best():
    progress = Progress({}, {})
    for step, value in enumerate([3.0, 2.0, 2.0, 2.5, 1.0]):
        progress.judge(value, step, "min", patience=3)
    assert (progress.best_step, progress.bad_evaluations, progress.stopped_early) == (4, 0, False)
    up = Progress({}, {})
    for step, value in enumerate([0.1, 0.3, 0.2]):
        up.judge(value, step, "max", patience=1)
    assert up.best_step == 1 and up.stopped_early


def test_a_tie_is_not_better():
    progress = Progress({}, {})
    for step in range(3):
        progress.judge(1.0, step, "min", patience=2)
    assert (progress.best_step, progress.bad_evaluations, progress.stopped_early) == (0, 2, True)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_the_best(mode):
    nan = float("nan")
    progress = Progress({}, {})
    for step, value in enumerate([nan, 0.5, nan, 0.4 if mode == "min" else 0.6, nan]):
        progress.judge(value, step, mode, patience=9)
    assert progress.best_step == 3 and progress.bad_evaluations == 1
    old = Progress({}, {}, best_value=nan, best_step=7)
    old.judge(1e9 if mode == "min" else -1e9, 8, mode, patience=1)
    assert old.best_step == 8 and not old.stopped_early
    never = Progress({}, {})
    for step in range(3):
        never.judge(nan, step, mode, patience=3)
    assert never.best_step is None and never.stopped_early
    with pytest.raises(ValueError, match="mode"):
        never.judge(1.0, 4, "least", patience=1)


@pytest.mark.slow
def test_the_time_left_does_not_count_compiling(tmp_path, monkeypatch):
    """A clock that moves only while the program is compiled: nothing is left to be waited for."""
    left, now, compiled = [], [0.0], _loop._Loop.compile
    monkeypatch.setattr(_loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Recorder, "progress", lambda self, step, metrics, rate, seconds: left.append(seconds))

    def slow(self, count, args):
        program = self.engine.program

        class Slow:
            def lower(self, *args):
                now[0] += 1000.0
                return program.lower(*args)

        self.engine = self.engine._replace(program=Slow())
        return compiled(self, count, args)

    monkeypatch.setattr(_loop._Loop, "compile", slow)
    run(tmp_path)
    assert left and max(left) == 0.0 and now[0] >= 1000.0
