"""Evaluate a run on a split again, from its folder alone.

python -m launch.eval --workdir=runs/classify-digits-default
"""

from absl import flags

from launch import request, runtime

flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which examples to evaluate on.")


def main() -> None:
    """Restore the parameters that the run ended with and print their metrics."""
    from dlcore.parallel import processes
    from dlcore.train import write_json
    from dlcore.train.outcome import show
    from dlcore.train.progress import say
    from dlcore.train.session import OpenRun

    runtime.start()
    run, split = OpenRun(request.from_folder(flags.FLAGS.workdir)), flags.FLAGS.split
    metrics = {f"{split}/{name}": value for name, value in run.evaluate(split).items()}
    if processes.is_main():
        write_json(run.folder / f"eval_{split}.json", {"step": run.step, "metrics": metrics})
    say(show(metrics))


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "data_dir"))
