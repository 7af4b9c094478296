"""Draw samples from a trained model, from its run folder alone.

python -m launch.sample --workdir=runs/vae-digits-default --num=64 --seed=0 --out=samples.png
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.report import figures
from dlcore.train.evaluate import evaluated
from launch import request, runtime
from launch.train import say

flags.DEFINE_integer("num", 64, "How many samples.")
flags.DEFINE_string(
    "out", None, "FILE.png for a grid or FILE.npz for the array; default samples/seed<seed>.png in the run folder."
)


def main() -> None:
    """The same seed gives the same samples."""
    runtime.start()
    run = request.from_folder(flags.FLAGS.workdir)
    experiment, seed, num = run.build(), flags.FLAGS.seed or 0, flags.FLAGS.num
    if experiment.sample is None:
        raise ValueError(f"{run.experiment} is not a generative model: there is nothing to sample")
    if num < 1:
        raise ValueError(f"--num must be at least 1, got {num}")
    out = Path(flags.FLAGS.out or run.workdir / "samples" / f"seed{seed}.png")
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, got {out}")
    mesh = make_mesh()
    params, state = evaluated(to_host(mesh, request.restore(run, experiment, mesh)))
    images = np.asarray(experiment.sample(params, state, jax.random.key(seed), num))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez_compressed(out, images=images)
    else:
        figures.save_png(figures.image_grid(images), out)
    say(f"wrote {num} samples to {out}")


if __name__ == "__main__":
    runtime.run(main)
