"""Which run is meant: from the flags, or from the run folder alone."""

import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
from absl import flags
from jax.sharding import Mesh

import experiments
from dlcore.data.fingerprint import with_splits
from dlcore.data.pipeline import train_rows
from dlcore.data.source import Data, load
from dlcore.lookup import check_name
from dlcore.parallel import processes
from dlcore.parallel.sharding import named_rule
from dlcore.train.checkpoint import Checkpoints
from dlcore.train.config import from_json, override, to_json
from dlcore.train.experiment import Experiment
from dlcore.train.loop import state_like
from dlcore.train.run_folder import check_data, read_json
from dlcore.types import TrainState
from launch import paths

flags.DEFINE_string("experiment", None, "Name of the system, e.g. classify.")
flags.DEFINE_string("preset", None, "smoke (under a minute), default, full, or one of the experiment's own.")
flags.DEFINE_string("data", None, "digits, fashion_mnist, idx:DIR, folder:DIR, npz:FILE, tfds:NAME or a synthetic set.")
flags.DEFINE_string("data_dir", None, "Folder that holds data sets.")
flags.DEFINE_integer(
    "image_size", None, "Make the images of folder: and tfds: square: the shorter side resized to this, the middle cut."
)
flags.DEFINE_string("workdir", None, "Run folder; default runs/<experiment>-<data>-<preset>.")
flags.DEFINE_integer("seed", None, "Seed of params, order of the data and all randomness.")
flags.DEFINE_multi_string("set", [], "Override one setting: --set=train.epochs=20; may be repeated.")

NAMES = ("experiment", "preset", "data", "seed", "image_size")


class Request(NamedTuple):
    """A run, fully resolved."""

    workdir: Path
    experiment: str
    preset: str
    data: str
    seed: int
    config: Any
    source: Data
    data_dir: str | None
    image_size: int | None = None

    def identity(self) -> dict[str, Any]:
        """What makes the run what it is."""
        names, spec = {name: getattr(self, name) for name in NAMES}, self.source.spec
        return {
            **names,
            "config": to_json(self.config),
            "fingerprint": with_splits(spec.fingerprint, spec.sizes),
        }

    def notes(self) -> dict[str, Any]:
        """What may change between two starts of the same run."""
        return {"data_dir": self.data_dir, "data_notes": list(self.source.spec.notes)}

    def start(self) -> dict[str, Any]:
        """What the training state is made from: the key, and the raw rows of the first batch."""
        batch, size = self.config.train.batch_size, self.source.train.size
        rows = train_rows(0, seed=self.seed, size=size, batch_size=min(batch, size))
        return {"key": jax.random.key(self.seed), "rows": {**self.source.train.read(rows), "row": rows}}

    def build(self) -> Experiment:
        """The experiment."""
        return experiment_module(self.experiment).build(self.config, self.source.spec)


def experiment_names() -> list[str]:
    """The experiments there are: the modules of `experiments/`."""
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def experiment_module(name: str) -> ModuleType:
    """The module of an experiment; raises `ValueError`, naming the nearest, for an unknown one."""
    check_name("experiment", name, experiment_names())
    return importlib.import_module(f"experiments.{name}")


def file_name(data: str) -> str:
    """The name of a data set as part of a file name."""
    return data.replace("/", "_").replace(":", "-")


def data_for(module: ModuleType, name: str, data_dir: str | None, image_size: int | None = None) -> Data:
    """The data set, with as many validation examples as the experiment's `VALIDATION` asks for, if it does."""
    validation = getattr(module, "VALIDATION", {}).get(name)
    return load(name, data_dir=data_dir, validation=validation, image_size=image_size)


def from_flags() -> Request:
    """The run that the flags ask for; what they leave out comes from the run folder, if it exists."""
    return _announced(_from_flags())


def _announced(request: Request) -> Request:
    """Print what was left out of the data, changed or chosen, on the main process."""
    if processes.is_main():
        for note in request.source.spec.notes:
            print(f"data: {note}", flush=True)
    return request


def _from_flags() -> Request:
    values = flags.FLAGS
    if values.workdir is None and values.experiment is None:
        raise ValueError(
            f"pass --experiment (one of {', '.join(experiment_names())}), or --workdir of a run to go on with"
        )
    folder = None if values.workdir is None else paths.local("workdir", values.workdir)
    if folder is not None and (folder / "config.json").exists():
        return _continued(folder)
    if values.experiment is None:
        raise ValueError(f"{folder} is not a run folder: it has no config.json; pass --experiment to start a run there")
    module = experiment_module(values.experiment)
    preset, data, seed = values.preset or "default", values.data or "digits", values.seed or 0
    check_name("preset", preset, module.PRESETS)
    source = data_for(module, data, values.data_dir, values.image_size)
    config = module.preset(preset, source.spec)
    workdir = folder or Path("runs") / f"{values.experiment}-{file_name(data)}-{preset}"
    return Request(
        workdir, values.experiment, preset, data, seed, _overridden(config), source, values.data_dir, values.image_size
    )


def from_folder(workdir: str | None) -> Request:
    """The run that a folder holds; raises `DataError` when its data changed since it began."""
    if workdir is None:
        raise ValueError("pass --workdir, the folder of a run")
    request = _read(paths.local("workdir", workdir))
    check_data(request.workdir, request.identity()["fingerprint"])
    return _announced(request)


def _continued(folder: Path) -> Request:
    """The run in the folder, with what the flags say put over it, so that a difference is noticed."""
    values, old = flags.FLAGS, read_json(folder / "config.json")
    given = {name: getattr(values, name) for name in NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    request = _read(folder)
    if not given and not values.set:
        return request
    names = {name: given.get(name, getattr(request, name)) for name in NAMES}
    module = experiment_module(names["experiment"])
    check_name("preset", names["preset"], module.PRESETS)
    same = all(names[name] == getattr(request, name) for name in ("data", "experiment", "image_size"))
    source = request.source if same else data_for(module, names["data"], values.data_dir, names["image_size"])
    # A full command line is compared as a whole; a partial one only where it speaks.
    whole = {"experiment", "data"} <= given.keys()
    start = (
        module.preset(names["preset"], source.spec)
        if whole or names["experiment"] != old["experiment"]
        else request.config
    )
    return Request(folder, **names, config=_overridden(start), source=source, data_dir=request.data_dir)


def _read(folder: Path) -> Request:
    old = read_json(folder / "config.json")
    try:
        names = {name: old[name] for name in ("experiment", "preset", "data", "seed")}
        names["image_size"] = old.get("image_size")
        module = experiment_module(names["experiment"])
        data_dir = flags.FLAGS.data_dir or old.get("data_dir")
        config = from_json(module.Config, old["config"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a run ({error}); choose another --workdir"
        ) from None
    source = data_for(module, names["data"], data_dir, names["image_size"])
    if "fingerprint" not in old:
        note = "this run has no fingerprint of its data, so whether that changed since it began cannot be told"
        source = source._replace(spec=source.spec._replace(notes=(*source.spec.notes, note)))
    return Request(folder, **names, config=config, source=source, data_dir=data_dir)


def _overridden(config: Any) -> Any:
    for assignment in flags.FLAGS.set:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set={assignment} has no value; write --set=name=value")
        config = override(config, path, text)
    return config


def restore(run: Request, experiment: Experiment, mesh: Mesh) -> TrainState:
    """The state that the run ended with, or its newest checkpoint while it is not finished."""
    like, _ = state_like(experiment, **run.start(), mesh=mesh, rule=named_rule(run.config.train.sharding))
    folder = run.workdir / "checkpoints"
    if not folder.is_dir():
        raise ValueError(f"{run.workdir} has no checkpoints; train it first")
    checkpoints = Checkpoints(folder, keep=run.config.train.keep, read_only=True)
    try:
        summary = run.workdir / "summary.json"
        if summary.exists():
            return checkpoints.restore(like, read_json(summary)["evaluated_step"])[0]
        found = checkpoints.restore_newest(like, lambda note: print(note, file=sys.stderr))
    finally:
        checkpoints.close()
    if found is None:
        raise ValueError(f"{run.workdir} has no checkpoint yet; train it first")
    return found[0]
