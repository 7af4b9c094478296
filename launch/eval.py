"""Evaluate a finished run on its test split again, from its folder alone.

python -m launch.eval --workdir=runs/classify-digits-default
"""

import jax
from absl import flags

from dlcore.parallel import processes
from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.train.evaluate import make_evaluate
from dlcore.train.run_folder import write_json
from dlcore.train.state import view_of
from launch import quality, request, runtime
from launch.progress import announced, say
from launch.results import attempt, show
from launch.train import train

flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which examples to evaluate on.")


def main() -> None:
    """Restore the parameters that the run ended with and print their metrics."""
    runtime.start()
    run = request.from_folder(flags.FLAGS.workdir)
    experiment, mesh, split = run.build(), make_mesh(), flags.FLAGS.split
    state = request.restore(run, experiment, mesh)
    evaluate = make_evaluate(experiment, mesh, run.config.train.eval_batch_size, full=split == "test")
    key = jax.random.fold_in(jax.random.key(run.seed), 1)
    found = evaluate(state, announced(getattr(run.source, split), split), key) | experiment.ruler()
    if split == "test":
        host = view_of(experiment.update, to_host(mesh, state))
        found |= attempt("quality", lambda: quality.measure(run, experiment, host, train), {}) or {}
    metrics = {f"{split}/{name}": value for name, value in found.items()}
    if processes.is_main():
        write_json(run.workdir / f"eval_{split}.json", {"step": int(state.step), "metrics": metrics})
    say(show(metrics))


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "data_dir"))
