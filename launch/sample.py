"""Draw samples from a trained model, from its run folder alone.

python -m launch.sample --workdir=runs/vae-digits-default --num=64 --seed=0 --out=samples.png
python -m launch.sample --workdir=runs/diffusion-digits-default --class=3 --guidance=2 --sampler=ddim --steps=50

--out=FILE.png writes a picture, --out=FILE.npz the array; by default samples/seed<seed>.png in the run folder.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import paths, request, runtime

if TYPE_CHECKING:
    from dlcore.data import DataSpec

flags.DEFINE_integer("num", 64, "How many samples.")
flags.DEFINE_string("class", None, "Class of all samples, by name or number; default all in turn.")
flags.DEFINE_float("temperature", None, "Spread of the noise or of the choices; below 1 nearer to the mode.")
flags.DEFINE_integer("steps", None, "Steps of a diffusion's sampler.")
flags.DEFINE_string("sampler", None, "Sampler of a diffusion: ancestral, ddim or dpm.")
flags.DEFINE_float("eta", None, "Noise of the sampler ddim, 0 to 1.")
flags.DEFINE_float(
    "guidance", None, "Strength of classifier-free guidance: 0 without classes, 1 with, above 1 more so."
)

FLAGS = {
    "label": "class", "temperature": "temperature", "steps": "steps",
    "sampler": "sampler", "eta": "eta", "guidance": "guidance",
}  # fmt: skip
"""The flag of every option that a system's `sample` may take."""


def main() -> None:
    """The same seed gives the same samples. A flag that has no meaning for the system is refused."""
    import numpy as np

    from dlcore.train.progress import say
    from dlcore.train.session import OpenRun

    runtime.start()
    run = OpenRun(request.from_folder(flags.FLAGS.workdir, with_data=False))
    name, seed, num = run.run.names["experiment"], flags.FLAGS.seed or 0, flags.FLAGS.num
    if run.fit.sample is None:
        raise ValueError(f"{name} is not a generative model: there is nothing to sample")
    if num < 1:
        raise ValueError(f"--num must be at least 1, got {num}")
    chosen = options(name, run.fit.sample_options, run.run.spec)
    out = output(run.folder, f"seed{seed}" + "".join(f"-{FLAGS[name]}-{value}" for name, value in chosen.items()))
    say(f"drawing {num} samples")
    samples = np.asarray(run.sample(num, key=seed, **chosen))
    said = ", ".join(f"{FLAGS[name]} {value}" for name, value in chosen.items())
    # Points are kept as numbers, too, and of more than two dimensions as those alone.
    drawn = [out] * (samples.ndim == 4 or samples.shape[1] <= 2 or flags.FLAGS.out is not None)
    kept = [out.with_suffix(".npz")] * (samples.ndim != 4 and flags.FLAGS.out is None)
    for path in drawn + kept:
        save(samples, path, said)
        say(f"wrote {num} samples{f' ({said})' if said else ''} to {path}")


def options(experiment: str, takes: Sequence[str], spec: "DataSpec") -> dict[str, Any]:
    """The options that the flags ask for. Raises `ValueError` for one that the system does not take."""
    given = {name: flags.FLAGS[flag].value for name, flag in FLAGS.items() if flags.FLAGS[flag].value is not None}
    for name in given:
        if name not in takes:
            known = ", ".join(f"--{FLAGS[other]}" for other in takes) or "none of these"
            raise ValueError(f"--{FLAGS[name]} has no meaning for this run of {experiment}, which takes {known}")
    for name in {"temperature", "guidance"} & given.keys():
        if not math.isfinite(given[name]) or given[name] < 0:
            raise ValueError(f"--{name} must be finite and not negative, got {given[name]}")
    return given | ({"label": class_number(given["label"], spec)} if "label" in given else {})


def class_number(text: str, spec: "DataSpec") -> int:
    """The class of that name, or of that number from 0. Raises `ValueError`, with the classes, when there is none."""
    if text in spec.class_names:
        return spec.class_names.index(text)
    if text.isdecimal() and int(text) < (spec.classes or 0):
        return int(text)
    names = ", ".join(spec.class_names[:20]) + (", …" if len(spec.class_names) > 20 else "")
    raise ValueError(
        f"--class={text} is no class of {spec.name}; use 0 to {(spec.classes or 0) - 1}, or one of {names}"
    )


def output(folder: Path, name: str) -> Path:
    """Where samples go: `--out`, or a picture of that name in the run folder."""
    if flags.FLAGS.out is None:
        return folder / "samples" / f"{name}.png"
    out = paths.local("out", flags.FLAGS.out)
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, got {out}")
    return out


def save(samples: Any, path: Path, title: str) -> None:
    """Write images as a grid and points as a picture of the plane, or either as an array."""
    import numpy as np

    from dlcore.report import figures
    from dlcore.report.density import cloud

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, **{"images" if samples.ndim == 4 else "points": samples})
    elif samples.ndim == 4:
        columns = max(8, math.ceil(math.sqrt(len(samples) / 2)))
        figures.save_png(figures.image_grid(samples, columns=columns), path)
    else:
        figures.save(cloud(samples, title), path)


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "data_dir", "seed", "out"))
