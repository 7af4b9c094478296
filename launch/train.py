"""Train an experiment: flags in, a run folder out; the same command again goes on where it stopped.

python -m launch.train --experiment=classify --data=digits --preset=default
python -m launch.train --workdir=runs/classify-digits-default

A run that SIGTERM or Ctrl-C stopped has saved, and exits with --stopped_exit_code.
"""

from collections.abc import Callable
from contextlib import ExitStack

import jax
from absl import flags

from dlcore.data.pipeline import choose
from dlcore.parallel import processes
from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.parallel.sharding import named_rule
from dlcore.train.checkpoint import Checkpoints
from dlcore.train.evaluate import make_evaluate
from dlcore.train.loop import Fitted, cadence, fit, make_engine
from dlcore.train.record import Recorder
from dlcore.train.run_folder import check_identity, claim, locked, read_json, write_json
from dlcore.types import TrainState
from launch import environment, request, results, runtime
from launch.progress import announced, say
from launch.results import attempt, show

flags.DEFINE_integer(
    "stopped_exit_code",
    0,
    "Exit code of a run that was stopped before its end; 75 tells a scheduler to start it again.",
    lower_bound=0,
    upper_bound=255,
)


def main() -> None:
    """Resolve the run, train it, evaluate it on the test split, write summary and report."""
    runtime.start()
    stop = runtime.StopRequest(flags.FLAGS.stopped_exit_code)
    run = request.from_flags()
    check_identity(run.workdir, run.identity())
    if (run.workdir / "summary.json").exists():
        say(f"{run.workdir} holds a finished run: {show(read_json(run.workdir / 'summary.json')['metrics'])}")
        if not (run.workdir / "report.html").exists() and jax.process_count() == 1:
            attempt("completing the run", lambda: finish(run), {})
        return
    try:
        fitted = train(run, stop)
    except jax.errors.JaxRuntimeError:
        if stop() and jax.process_count() > 1:
            stop.await_end()  # another process has left already
        raise
    if not fitted.finished:
        say(f"stopped and saved at step {fitted.step}; run the same command to go on")
        stop.leave()


def train(run: request.Request, stop: Callable[[], bool] = lambda: False) -> Fitted:
    """Everything is checked before the folder is made; then fit, and conclude if it finished."""
    experiment, config, data = run.build(), run.config.train, run.source
    mesh, rule = make_mesh(), named_rule(config.sharding)
    process = (jax.process_index(), jax.process_count())
    feed = choose(data.train, kind=config.pipeline, seed=run.seed, batch_size=config.batch_size, process=process)
    engine = make_engine(experiment, feed, config, **run.start(), mesh=mesh, rule=rule)
    when = cadence(config, data.train.size, engine.dispatch)
    model = experiment.describe()
    evaluate = make_evaluate(experiment, mesh, config.eval_batch_size)
    # Without a protocol of its own the test is the same program, compiled once.
    own = experiment.evaluate_test is not None
    test = make_evaluate(experiment, mesh, config.eval_batch_size, full=True) if own else evaluate
    eval_key = jax.random.fold_in(jax.random.key(run.seed), 1)
    writes = run.workdir if processes.is_main() else None
    with ExitStack() as stack:
        if writes:
            stack.enter_context(locked(run.workdir))
            claim(run.workdir, run.identity(), run.notes())
            write_json(run.workdir / "environment.json", environment.describe())
        say(model)
        say(config.describe(data.train.size))

        def validate(state: TrainState) -> dict[str, float]:
            whole = to_host(mesh, state)
            attempt("a grid of samples", lambda: results.draw_grids(run, experiment, whole), {})
            return evaluate(state, announced(data.validation, "validation"), eval_key)

        checkpoints = Checkpoints(run.workdir / "checkpoints", keep=config.keep)
        stack.callback(checkpoints.close)
        fitted = fit(
            experiment,
            feed,
            config,
            engine,
            when,
            mesh=mesh,
            checkpoints=checkpoints,
            open_recorder=lambda step: Recorder(writes, total=when.total, step=step),
            validate=validate if data.validation.size else None,
            stop=stop,
        )
        if fitted.finished:
            measured = test(fitted.state, announced(data.test, "test"), eval_key)
            results.conclude(run, experiment, fitted, to_host(mesh, fitted.state), measured, train)
        return fitted


def finish(run: request.Request) -> None:
    """What a finished run lacks beside its summary: it was stopped while it drew, or drawing failed."""
    say("its report is missing and is made now")
    with locked(run.workdir):
        experiment, mesh = run.build(), make_mesh()
        results.complete(run, experiment, to_host(mesh, request.restore(run, experiment, mesh)), train)


if __name__ == "__main__":
    runtime.run(main)
