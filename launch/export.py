"""Export a trained model, from its run folder alone.

python -m launch.export --workdir=runs/classify-digits-default --out=classifier.safetensors

By default it is `model.safetensors` in the run folder.
`session.open_run("classifier.safetensors")` opens the model, `--set=train.init_from=classifier.safetensors` starts from
its weights. Beside it, `classifier.predict.stablehlo` is the prediction as portable StableHLO, a program of (params,
state, inputs [n, ...]) for any n; so are the other functions of a system, and `sample` of a generative model, which
takes keys uint32 [n, 2].
"""

from absl import flags

from launch import paths, request, runtime


def main() -> None:
    """Write params and state as evaluation uses them, with the run's configuration, and the program."""
    from dlcore.train import export
    from dlcore.train.progress import say

    runtime.start()
    run = request.from_folder(flags.FLAGS.workdir, with_data=False)
    out = run.folder / "model.safetensors" if flags.FLAGS.out is None else paths.local("out", flags.FLAGS.out)
    for path in export.write(run, out):
        say(f"wrote {path}")


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "out"))
