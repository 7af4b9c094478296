"""Classify images of one's own with a trained model, from its run folder alone.

python -m launch.predict --workdir=runs/classify-digits-default --images=DIR --out=predictions

Writes OUT.csv, a line for each image: file, class, its probability, and those of all classes; and OUT.png, a look at
the first of them; by default OUT is `predictions` in the run folder.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from launch import paths, request, runtime

flags.DEFINE_string("images", None, "Folder with images, also in folders within.")

SHOWN = 30
"""Images in the picture."""


def main() -> None:
    """Predict every image of the folder, and write what was found."""
    from dlcore.data import image_files, read_like
    from dlcore.report import figures, images
    from dlcore.train.progress import attempt, say
    from dlcore.train.session import OpenRun

    runtime.start()
    if flags.FLAGS.images is None:
        raise ValueError("pass --images, a folder with images")
    files = image_files(paths.local("images", flags.FLAGS.images))
    run = OpenRun(request.from_folder(flags.FLAGS.workdir, with_data=False))
    out = run.folder / "predictions" if flags.FLAGS.out is None else paths.local("out", flags.FLAGS.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    names, spec = run.run.spec.class_names, run.run.spec
    found = run.predict(read_like(files, spec))
    write_csv(out.with_name(f"{out.name}.csv"), files, found, names)
    best = found.argmax(-1)
    said = [f"{names[k]} {p[k]:.0%}" for k, p in zip(best[:SHOWN], found, strict=False)]

    def draw() -> bool:
        picture = images.named(read_like(files[:SHOWN], spec) / (spec.levels - 1), said)
        figures.save(picture, out.with_name(f"{out.name}.png"))
        return True

    drawn = attempt("the picture", draw, {})
    for k, name in enumerate(names):
        if (best == k).any():
            say(f"{(best == k).sum():6,}  {name}")
    say(f"wrote {out}.csv{f' and {out}.png' if drawn else ''}: {len(files):,} images")


def write_csv(path: Path, files: Sequence[Path], found: Any, names: Sequence[str]) -> None:
    """A line for each image: its probabilities [n, classes] `found`, the greatest first."""
    # Names of files and classes may hold bytes that are no text.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "probability", *(f"p({name})" for name in names)])
        for name, row in zip(files, found, strict=True):
            writer.writerow([name, names[row.argmax()], f"{row.max():.6f}", *(f"{p:.6f}" for p in row)])


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "out"))
