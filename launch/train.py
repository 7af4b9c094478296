"""Train an experiment: flags in, a run folder out; the same command again goes on where it stopped.

python -m launch.train --experiment=classify --data=digits --preset=default
python -m launch.train --workdir=runs/classify-digits-default
python -m launch.train --experiment=classify --seeds=0,1,2
python -m launch.train --workdir=runs/classify-digits-default --extend=5

`python -m launch.list` shows systems, presets, settings and data sets.
A run that SIGTERM or Ctrl-C stopped has saved, and exits with --stopped_exit_code.
"""

from typing import TYPE_CHECKING

from absl import flags

from launch import request, runtime

if TYPE_CHECKING:
    from dlcore.train.run import Run

flags.DEFINE_integer(
    "stopped_exit_code",
    0,
    "Exit code of a run that was stopped before its end; 75 tells a scheduler to start it again.",
    lower_bound=0,
    upper_bound=255,
)


flags.DEFINE_integer(
    "profile", 0, "Write a trace of so many steps into STAGE/profile, for TensorBoard or Perfetto.", lower_bound=0
)
flags.DEFINE_string("wandb", "", "Also write to this project of Weights & Biases (DLCORE_EXTRAS=wandb).")


def main() -> None:
    """Train the run, or one for each of several seeds; then a table says how they differ."""
    from dlcore.parallel import processes
    from dlcore.train import compare, weights_and_biases
    from dlcore.train.progress import say

    runtime.start()
    stop = runtime.StopRequest(flags.FLAGS.stopped_exit_code)
    folders = []
    writers = (weights_and_biases(flags.FLAGS.wandb),) if flags.FLAGS.wandb else ()
    for run in request.runs_from_flags():
        train(run._replace(writers=writers, profile=flags.FLAGS.profile), stop)
        folders.append(run.folder)
    if len(folders) > 1 and processes.is_main():
        runs = [compare.finished(folder) for folder in folders]
        say(compare.table(compare.grouped(runs), compare.shared_metrics(runs)))


def train(run: "Run", stop: runtime.StopRequest) -> None:
    """Train the run, evaluate it on the test split, write summary and report; a stop ends the process."""
    import jax

    from dlcore.train import check_identity, outcome, read_json, stages
    from dlcore.train.progress import attempt, say

    check_identity(run.folder, run.identity(), run.config)
    if stages.finished(run):
        say(f"{run.folder} holds a finished run: {outcome.show(read_json(run.folder / 'summary.json')['metrics'])}")
        if stages.lacking(run):
            attempt("completing the run", lambda: stages.finish(run), {})
        return
    try:
        finished = stages.execute(run, stop)
    except jax.errors.JaxRuntimeError:
        if stop() and jax.process_count() > 1:
            stop.await_end()  # another process has left already
        raise
    if not finished:
        stop.leave()


if __name__ == "__main__":
    runtime.run(main, uses=request.FLAGS)
