"""Verify that a system keeps its promises on this machine, by training it twice.

python -m launch.verify --experiment=vae
python -m launch.verify --experiment=gan --data=fashion_mnist --preset=smoke --workdir=runs/verified

Trained in parts it ends in the bits of a run in one go; evaluated again from its folder it has the same metrics;
exported and read back it has the same params. Exits with 1 where a promise is broken.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import paths, request, runtime

if TYPE_CHECKING:
    from dlcore.train.run import Run


def main() -> None:
    """Check promise after promise in the folder --workdir, by default one that is removed again."""
    from dlcore.train import run

    values = flags.FLAGS
    if values.experiment is None:
        raise ValueError(f"pass --experiment, one of {', '.join(run.experiment_names())}")
    runtime.start()
    if values.workdir is not None:
        broken = checked(paths.local("workdir", values.workdir))
    else:
        with tempfile.TemporaryDirectory() as folder:
            broken = checked(Path(folder))
    if broken:
        sys.exit(1)


def checked(folder: Path) -> int:
    """Print every check; how many promises are broken."""
    from dlcore.train import run
    from dlcore.train.progress import say
    from dlcore.train.verify import verify

    values, broken = flags.FLAGS, 0

    def make(where: Path) -> "Run":
        return run.named(
            values.experiment,
            data=values.data or "digits",
            preset=values.preset or "smoke",
            seed=values.seed or 0,
            image_size=values.image_size,
            settings=values.set,
            folder=where,
            data_dir=values.data_dir,
        )

    for check in verify(make, folder):
        broken += not check.kept
        say(f"{'kept' if check.kept else 'BROKEN':8}{check.promise} ({check.found})")
    return broken


if __name__ == "__main__":
    runtime.run(main, uses=tuple(name for name in request.FLAGS if name not in ("seeds", "extend")))
