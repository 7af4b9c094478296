"""Which run is meant: from the flags, or from the run folder alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import paths

if TYPE_CHECKING:
    from dlcore.train.run import Run

flags.DEFINE_string("experiment", None, "Name of the system, e.g. classify; python -m launch.list shows all.")
flags.DEFINE_string("preset", None, "smoke (under a minute), default, full, or one of the experiment's own.")
flags.DEFINE_string(
    "data", None, "digits, fashion_mnist, idx:DIR, folder:DIR, segments:DIR, npz:FILE, tfds:NAME or a set in 2-D."
)
flags.DEFINE_string("data_dir", None, "Folder that holds data sets.")
flags.DEFINE_integer(
    "image_size", None, "Make the images of folder: and tfds: square: the shorter side resized to this, the middle cut."
)
flags.DEFINE_string(
    "workdir",
    None,
    "Run folder; default runs/<experiment>-<data>-<preset>, with seed and settings where there are any.",
)
flags.DEFINE_integer("seed", None, "Seed of params, order of the data and all randomness.")
flags.DEFINE_list(
    "seeds", [], "Train one run after the other, with these seeds: --seeds=0,1,2, or --seeds=registered of a preset."
)
flags.DEFINE_float(
    "extend",
    None,
    "Train the finished run in --workdir so many epochs more, as a new run that starts from its weights.",
)
flags.DEFINE_multi_string(
    "set", [], "Override one setting: --set=train.epochs=20; may be repeated; python -m launch.list shows them."
)

FLAGS = ("experiment", "preset", "data", "data_dir", "image_size", "workdir", "seed", "seeds", "extend", "set")
"""The flags that say which run is meant."""


def runs_from_flags() -> "Iterator[Run]":
    """The runs that the flags ask for, each built when it is its turn: one, or one for each of `--seeds`.

    With `--workdir` those of several seeds are its folders seed0, seed1, and so on.
    """
    values = flags.FLAGS
    if not values.seeds:
        yield from_flags()
        return
    if values.seed is not None:
        raise ValueError("pass --seed for one run or --seeds for several, not both")
    if values.experiment is None:
        raise ValueError("--seeds starts new runs: pass --experiment")
    seeds = registered() if values.seeds == ["registered"] else values.seeds
    wrong = [seed for seed in seeds if not seed.isdecimal()]
    if wrong or len(set(map(int, seeds))) < len(seeds):
        raise ValueError(f"--seeds takes different whole numbers such as 0,1,2, got {','.join(values.seeds)}")
    if values.extend:
        raise ValueError("--extend goes on from one run: pass its --workdir, not --seeds")
    above = None if values.workdir is None else paths.local("workdir", values.workdir)
    for seed in map(int, seeds):
        yield announced(_new(None if above is None else above / f"seed{seed}", seed))


def registered() -> list[str]:
    """The seeds that an experiment registered for a preset before anything was run; raises `ValueError` for none."""
    from dlcore.train import run

    experiment, preset = flags.FLAGS.experiment, flags.FLAGS.preset or "default"
    seeds = getattr(run.experiment_module(experiment), "SEEDS", {})
    if preset not in seeds:
        there = f"{', '.join(seeds)} of {experiment} have some" if seeds else f"{experiment} has no such preset"
        raise ValueError(f"--seeds=registered: preset {preset!r} has no registered seeds; {there}")
    return [str(seed) for seed in seeds[preset]]


def from_flags() -> "Run":
    """The run that the flags ask for; what they leave out comes from the run folder, if it exists."""
    from dlcore.train import run

    values = flags.FLAGS
    if values.extend is not None:
        return announced(_extended(None if values.workdir is None else paths.local("workdir", values.workdir)))
    if values.workdir is None and values.experiment is None:
        names = ", ".join(run.experiment_names())
        raise ValueError(f"pass --experiment (one of {names}), or --workdir of a run to go on with")
    folder = None if values.workdir is None else paths.local("workdir", values.workdir)
    if folder is not None and (folder / "config.json").exists():
        return announced(_continued(folder))
    if values.experiment is None:
        raise ValueError(f"{folder} is not a run folder: it has no config.json; pass --experiment to start a run there")
    return announced(_new(folder, values.seed or 0))


def from_folder(workdir: str | None, *, with_data: bool = True) -> "Run":
    """The run that a folder holds; raises `DataError` when its data changed since it began."""
    from dlcore.train import check_data, run

    if workdir is None:
        raise ValueError("pass --workdir, the folder of a run")
    found = run.of_folder(paths.local("workdir", workdir), data_dir=flags.FLAGS.data_dir, with_data=with_data)
    if found.data is not None:
        check_data(found.folder, found.identity()["fingerprint"])
    return announced(found)


def announced(made: "Run") -> "Run":
    """Print what was left out of the data, changed or chosen, on the main process."""
    from dlcore.parallel import processes

    if processes.is_main() and made.data is not None:
        for note in made.spec.notes:
            print(f"data: {note}", flush=True)
    return made


def _new(folder: Path | None, seed: int) -> "Run":
    from dlcore.train import run

    values = flags.FLAGS
    return run.named(
        values.experiment,
        data=values.data or "digits",
        preset=values.preset or "default",
        seed=seed,
        image_size=values.image_size,
        settings=values.set,
        folder=folder,
        data_dir=values.data_dir,
    )


def _extended(folder: Path | None) -> "Run":
    """The run in the folder for more epochs, as a run of its own."""
    from dlcore.train import extended, run

    given = [name for name in ("experiment", "preset", "data", "seed") if flags.FLAGS[name].value is not None]
    if folder is None or given:
        raise ValueError("--extend=EPOCHS goes on from a finished run: pass its --workdir, and --set for what changes")
    return extended(run.of_folder(folder, data_dir=flags.FLAGS.data_dir), flags.FLAGS.extend, settings=flags.FLAGS.set)


def _continued(folder: Path) -> "Run":
    """The run in the folder, with what the flags say put over it, so that a difference is noticed."""
    from dlcore.train import run

    values, held = flags.FLAGS, run.of_folder(folder, data_dir=flags.FLAGS.data_dir)
    given = {name: getattr(values, name) for name in run.NAMES if getattr(values, name) is not None}
    if not given and not values.set:
        return held
    old = {**held.names, "seed": held.seed}
    names = {**old, **given}
    same = all(names[name] == old.get(name) for name in ("data", "experiment", "image_size"))
    source = held.data if same else None
    # A full command line is compared as a whole; a partial one only where it speaks.
    if {"experiment", "data"} <= given.keys() or names["experiment"] != old["experiment"]:
        return run.named(settings=values.set, folder=folder, source=source, data_dir=held.data_dir, **names)
    config = run.overridden(held.config, values.set)
    return run.rebuilt(held, names, config, source)
