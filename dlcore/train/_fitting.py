"""A fit of a system: trained in a folder of its own, resumed, evaluated on the test split, restored."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dlcore.addresses import local
from dlcore.data import Data, Rows, choose, train_rows
from dlcore.parallel import processes
from dlcore.parallel.mesh import check_batch, make_mesh, to_host
from dlcore.parallel.sharding import named_rule
from dlcore.train._checkpoint import Checkpoints
from dlcore.train._compiling import ahead
from dlcore.train._engine import make_engine, state_like
from dlcore.train._evaluate import make_evaluate
from dlcore.train._loop import Fitted, cadence, fit
from dlcore.train._pretrained import pretrained, starting_from
from dlcore.train._profile import Trace
from dlcore.train._record import Recorder, record_test
from dlcore.train._run_folder import read_json, write_json
from dlcore.train._samples import draw_grids
from dlcore.train._state import count_params, sha256, view_of
from dlcore.train._system import Fit, Result, Results
from dlcore.train.progress import announced, attempt, say
from dlcore.train.run import Run
from dlcore.types import TrainState, View

Stop = Callable[[], bool]


def data_of(run: Run, stage: Fit, results: Results) -> Data:
    """The data that a fit trains and is evaluated on."""
    return run.whole() if stage.data is None else stage.data(run.whole(), results)


def check_loop(run: Run, name: str, stage: Fit) -> None:
    """Raise `ValueError` for settings of the loop that cannot be, on these devices and this data."""
    check_batch(stage.loop.batch_size, make_mesh(), "train.batch_size")
    # How many examples a fit on data of its own has is not known yet.
    cadence(stage.loop, run.whole().train.size if stage.data is None else max(stage.loop.batch_size, 1), 1)
    named_rule(stage.loop.sharding)
    if stage.loop.init_fresh and not stage.loop.init_from:
        raise ValueError("train.init_fresh says what does not come from train.init_from; set that as well")
    if stage.loop.init_from and begins(run, name):
        check_start(run, name, stage)


def check_start(run: Run, name: str, stage: Fit) -> None:
    """Raise `ValueError` for weights to start from that cannot be read, or that do not fit, where that is known yet."""
    tree, fresh = pretrained(local("train.init_from", stage.loop.init_from)), stage.loop.init_fresh
    if stage.data is None and stage.start is None:
        state_like(
            starting_from(stage, tree, fresh),
            first_rows(run, stage, run.whole()),
            key=run.key(name),
            mesh=make_mesh(),
            rule=named_rule(stage.loop.sharding),
        )


def first_rows(run: Run, stage: Fit, data: Data) -> Rows:
    """The raw rows of the first batch."""
    size = data.train.size
    rows = train_rows(0, seed=run.seed, size=size, batch_size=min(stage.loop.batch_size, size))
    return {**data.train.read(rows), "row": rows}


def started(stage: Fit, results: Results) -> Fit:
    """The fit, whose `init` goes through its `start`."""
    if stage.start is None:
        return stage
    return stage._replace(init=lambda key, batch: stage.start(*stage.init(key, batch), results))


def beginning(run: Run, name: str, stage: Fit, results: Results) -> Fit:
    """The fit, whose `init` gives what it starts from: its `start`, or the weights that `train.init_from` names."""
    stage = started(stage, results)
    if not (stage.loop.init_from and begins(run, name)):
        return stage
    say(f"starting from the weights in {stage.loop.init_from}")
    return starting_from(stage, pretrained(stage.loop.init_from), stage.loop.init_fresh)


def begins(run: Run, name: str) -> bool:
    """Whether a fit has no checkpoint yet, so that how it starts counts."""
    return not any((run.folder / name / "checkpoints").glob("[0-9]*"))


def evaluation_key(run: Run) -> jax.Array:
    """The key of what evaluations draw."""
    return jax.random.fold_in(jax.random.key(run.seed), 1)


def run_fit(run: Run, name: str, stage: Fit, results: Results, stop: Stop) -> Fitted:
    """Train a stage to its end, or until `stop()`; a finished one leaves `result.json` in its folder."""
    data, config = data_of(run, stage, results), stage.loop
    stage, rows = beginning(run, name, stage, results), first_rows(run, stage, data)
    mesh, rule = make_mesh(), named_rule(config.sharding)
    process = (jax.process_index(), jax.process_count())
    how = {"kind": config.pipeline, "workers": config.workers}
    feed = choose(data.train, seed=run.seed, batch_size=config.batch_size, process=process, **how)
    start = {"rows": rows, "key": run.key(name), "epoch": config.steps_per_epoch(data.train.size)}
    engine = make_engine(stage, feed, config, **start, mesh=mesh, rule=rule)
    when = cadence(config, data.train.size, engine.dispatch)
    engine, programs = ahead(engine, feed, min(when.dispatch, when.total), begins=begins(run, name))
    folder, writes = run.folder / name, processes.is_main()
    say(stage.describe())
    say(config.describe(data.train.size))
    if writes:
        folder.mkdir(exist_ok=True)
        write_json(folder / "rows.json", {k: [list(v.shape), str(v.dtype)] for k, v in rows.items()})
    evaluate = make_evaluate(stage, mesh, config.eval_batch_size)

    def validate(state: TrainState) -> dict[str, float]:
        whole = to_host(mesh, state)
        grids = attempt("a grid of samples", lambda: draw_grids(folder, stage, whole), {}) or {}
        for title, grid in grids.items():
            recorder.image(int(whole.step), title, grid)
        return evaluate(state, announced(data.validation, "validation"), evaluation_key(run))

    def open_recorder(step: int) -> Recorder:
        nonlocal recorder
        recorder = Recorder(folder if writes else None, total=when.total, step=step, writers=run.writers)
        return recorder

    recorder = None
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.keep)
    try:
        fitted = fit(
            stage,
            feed,
            config,
            engine,
            when,
            mesh=mesh,
            checkpoints=checkpoints,
            open_recorder=open_recorder,
            trace=Trace(folder / "profile", run.profile) if writes and run.profile else None,
            programs=programs,
            validate=validate if data.validation.size else None,
            stop=stop,
        )
    finally:
        checkpoints.close()
    if fitted.finished:
        # Without a protocol of its own the test is the same program, compiled once.
        own = stage.evaluate_test is not None
        test = make_evaluate(stage, mesh, config.eval_batch_size, full=True) if own else evaluate
        say(f"evaluating {data.test.size:,} test examples{', by the full protocol' if own else ''}")
        measured = test(fitted.state, announced(data.test, "test"), evaluation_key(run))
        host = to_host(mesh, fitted.state)
        if writes:
            write_json(folder / "result.json", outcome(stage, fitted, host, measured))
            attempt("writing test metrics", lambda: record_test(folder, fitted.step, measured, run.writers), {})
    return fitted


def outcome(stage: Fit, fitted: Fitted, state: Any, measured: dict[str, float]) -> dict[str, Any]:
    """What `result.json` says of a finished fit, whose state is on the host."""
    seconds = fitted.progress.train_seconds
    return {
        "kind": "fit",
        "steps": fitted.step,
        "evaluated_step": int(state.step),
        "parameters": count_params(state.params),
        "train_seconds": seconds,
        "compile_seconds": fitted.progress.compile_seconds,
        "images_per_second": fitted.step * stage.loop.batch_size / max(seconds, 1e-9),
        "sha256": sha256(state),
        "metrics": {**measured, **stage.ruler},
    }


def like_of(run: Run, name: str, stage: Fit, rows: Mapping[str, Any], mesh: Mesh) -> TrainState:
    """Shapes and shardings of a fit's training state, from the shapes and dtypes of raw rows that it left."""
    row = {k: np.zeros((1, *shape[1:]), dtype) for k, (shape, dtype) in rows.items()}
    return state_like(stage, row, key=run.key(name), mesh=mesh, rule=named_rule(stage.loop.sharding))[0]


def step_of(run: Run, name: str, stage: Fit) -> int:
    """The step of the checkpoint that counts."""
    path = run.folder / name / "result.json"
    return read_json(path)["evaluated_step"] if path.exists() else int(restore(run, name, stage, make_mesh()).step)


def restore(run: Run, name: str, stage: Fit, mesh: Mesh) -> TrainState:
    """The state that a fit ended with, or its newest checkpoint while it is not finished. Needs no data."""
    folder = run.folder / name
    if not (folder / "checkpoints").is_dir():
        raise ValueError(f"{run.folder} has no checkpoints of {name!r}; train it first")
    like = like_of(run, name, stage, read_json(folder / "rows.json"), mesh)
    checkpoints = Checkpoints(folder / "checkpoints", keep=stage.loop.keep, read_only=True)
    try:
        if (folder / "result.json").exists():
            return checkpoints.restore(like, read_json(folder / "result.json")["evaluated_step"])[0]
        found = checkpoints.restore_newest(like, say)
    finally:
        checkpoints.close()
    if found is None:
        raise ValueError(f"{run.folder} has no checkpoint of {name!r} yet; train it first")
    return found[0]


def restored_view(run: Run, name: str, stage: Fit) -> View:
    """What evaluation and samples see of the restored state, on one device of this process."""
    mesh = make_mesh()
    return jax.device_put(view_of(stage.update, to_host(mesh, restore(run, name, stage, mesh))))


def fit_result(run: Run, name: str, stage: Fit) -> Result:
    """The result of a finished fit, opened."""
    view = restored_view(run, name, stage)
    return Result(read_json(run.folder / name / "result.json")["metrics"], view.params, view.state)
