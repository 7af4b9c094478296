"""Which run is meant: an experiment by name, or a system at hand, with its data, seed and settings, in a folder."""

import hashlib
import importlib
import json
import pkgutil
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

from dlcore.addresses import local
from dlcore.data import SPLITS, Data, DataError, DataSpec, load, marked, with_splits
from dlcore.keys import fold_name
from dlcore.lookup import check_name
from dlcore.train._config import from_json, override, to_json
from dlcore.train._run_folder import LAYOUT, check_layout, read_json
from dlcore.train._system import System, check
from dlcore.train._writers import MakeWriter

NAMES = ("experiment", "preset", "data", "seed", "image_size")


class Run(NamedTuple):
    """A run, fully resolved: what trains, on what, and where it is kept."""

    folder: Path
    system: System
    data: Data | None
    """None when only the folder is at hand: enough to restore, sample, export and report."""
    spec: DataSpec
    seed: int
    names: Mapping[str, Any]
    """Experiment, preset, data and image size, by which the run is built again; empty for a system at hand."""
    config: Any = None
    data_dir: str | None = None
    writers: tuple[MakeWriter, ...] = ()
    """Who is told metrics and pictures, beside TensorBoard."""
    profile: int = 0
    """Steps of each fit of which a trace is written."""

    def identity(self) -> dict[str, Any]:
        """What makes the run what it is."""
        return {
            **self.names,
            "seed": self.seed,
            "config": to_json(self.config) if self.config is not None else {},
            "fingerprint": with_splits(self.spec.fingerprint, self.spec.sizes),
        }

    def notes(self) -> dict[str, Any]:
        """What may change between two starts of the same run, and what saves looking at the data again."""
        spec = {k: v for k, v in self.spec._asdict().items() if k not in ("fingerprint", "notes")}
        held = json.loads(json.dumps(spec, default=float))
        return {"layout": LAYOUT, "data_dir": self.data_dir, "data_notes": list(self.spec.notes), "spec": held}

    def key(self, stage: str) -> jax.Array:
        """The key of a stage."""
        return fold_name(jax.random.key(self.seed), stage)

    def whole(self) -> Data:
        """The data; raises `DataError` where only the folder is at hand."""
        if self.data is None:
            raise DataError(f"the data of {self.folder} is not loaded; open the run with its data")
        return self.data


def experiment_names() -> list[str]:
    """The experiments there are: the modules of the package `experiments` but those that only others use, `_x`."""
    package = importlib.import_module("experiments")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def experiment_module(name: str) -> ModuleType:
    """The module of an experiment, or one of the user's own by its full name, such as `my_package.my_system`.

    Raises `ValueError`, naming the nearest, for an unknown one.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"experiment {name!r} cannot be imported: {error}") from None
    check_name("experiment", name, experiment_names())
    return importlib.import_module(f"experiments.{name}")


def load_for(module: ModuleType, name: str, data_dir: str | None, image_size: int | None = None) -> Data:
    """The data set, with as many validation examples as the experiment's `VALIDATION` asks for, if it does."""
    validation = getattr(module, "VALIDATION", {}).get(name)
    return load(name, data_dir=data_dir, validation=validation, image_size=image_size)


def named(
    experiment: str,
    *,
    data: str = "digits",
    preset: str = "default",
    seed: int = 0,
    settings: Sequence[str] = (),
    folder: str | Path | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    source: Data | None = None,
) -> Run:
    """The run of an experiment by name; `settings` are overrides such as "optimizer.learning_rate=0.01".

    The folder is by default `runs/<experiment>-<data>-<preset>`, with seed and settings where they are not the
    preset's own. Raises `ValueError` for unknown names and a folder of another machine, and `DataError` for data that
    is not there.
    """
    module = experiment_module(experiment)
    check_name("preset", preset, module.PRESETS)
    source = load_for(module, data, data_dir, image_size) if source is None else marked(source)
    config = overridden(module.preset(preset, source.spec), settings)
    names = {"experiment": experiment, "preset": preset, "data": data, "image_size": image_size}
    where = Path("runs") / folder_name(names, seed, settings) if folder is None else local("folder", folder)
    return Run(where, check(module.build(config, source.spec)), source, source.spec, seed, names, config, data_dir)


def rebuilt(held: Run, names: Mapping[str, Any], config: Any, source: Data | None) -> Run:
    """The run `held` with other names (the seed among them), or another config."""
    module = experiment_module(names["experiment"])
    check_name("preset", names["preset"], module.PRESETS)
    source = load_for(module, names["data"], held.data_dir, names["image_size"]) if source is None else source
    built = check(module.build(config, source.spec))
    rest = {name: value for name, value in names.items() if name != "seed"}
    return Run(held.folder, built, source, source.spec, names["seed"], rest, config, held.data_dir)


def overridden(config: Any, settings: Sequence[str]) -> Any:
    """The config with settings "path=value" put into it, in order."""
    for assignment in settings:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set={assignment} has no value; write --set=name=value")
        config = override(config, path, text)
    return config


MOST = 60
"""Characters of settings in the name of a folder; more become a digest."""


def folder_name(names: Mapping[str, Any], seed: int, settings: Sequence[str]) -> str:
    """`vae-digits-default`, and what is not by default: `-32` pixels, `-seed3`, `-optimizer.learning_rate=0.01`."""
    experiment = names["experiment"].rpartition(".")[2]
    parts = [experiment, file_name(names["data"]), names["preset"]]
    parts += [str(names["image_size"])] if names["image_size"] else []
    parts += [f"seed{seed}"] if seed else []
    told = "-".join(settings)
    if len(told) > MOST or re.search(r"[^\w.,=+-]", told):
        told = hashlib.sha256(told.encode()).hexdigest()[:12]
    return "-".join([*parts, told] if told else parts)


def file_name(data: str) -> str:
    """The name of a data set as part of a file name."""
    return data.replace("/", "_").replace(":", "-")


def of_folder(
    folder: Path,
    *,
    data_dir: str | None = None,
    with_data: bool = True,
    system: System | None = None,
    source: Data | None = None,
) -> Run:
    """The run that a folder holds. `system` is needed if it has no name, and `source` if its data has none.

    Without its data a run can be restored, sampled, exported and reported. Raises `ValueError` for a folder that holds
    no run of this layout, `DataError` when the data is gone.
    """
    check_layout(folder)
    held = read_json(folder / "config.json")
    return of_config(folder, held, data_dir=data_dir, with_data=with_data, system=system, source=source)


def of_config(
    place: Path,
    held: Mapping[str, Any],
    *,
    data_dir: str | None = None,
    with_data: bool = False,
    system: System | None = None,
    source: Data | None = None,
) -> Run:
    """The run that the values of a `config.json` describe, which stand at `place`; raises as `of_folder` does."""
    try:
        names = {name: held[name] for name in NAMES if name in held and name != "seed"}
        data_dir, spec = data_dir or held.get("data_dir"), spec_of(held)
        module = experiment_module(names["experiment"]) if "experiment" in names else None
        config = from_json(module.Config, held["config"]) if module else None
        seed = held["seed"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the config of {place} does not describe a run ({error}); choose another") from None
    if module is None and system is None:
        raise ValueError(f"{place} holds a run of a system without a name; pass that system to open it")
    if source is None and with_data and module:
        source = load_for(module, names["data"], data_dir, names["image_size"])
    source = source if source is None else marked(source)
    spec = spec if source is None else source.spec
    built = check(module.build(config, spec) if module else system)
    return Run(place, built, source, spec, seed, names, config, data_dir)


def spec_of(held: Mapping[str, Any]) -> DataSpec:
    """The `DataSpec` that a `config.json` remembers."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in held["spec"].items()}
    fingerprint = {name: part for name, part in held["fingerprint"].items() if name not in SPLITS}
    return DataSpec(**values, notes=tuple(held.get("data_notes", ())), fingerprint=fingerprint)
