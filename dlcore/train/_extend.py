"""A finished run for more epochs: a new run, which starts from the weights of the old one."""

from collections.abc import Sequence
from pathlib import Path

from dlcore.train import export
from dlcore.train._run_folder import check_data
from dlcore.train._system import main_fit
from dlcore.train.run import Run, of_folder, overridden, rebuilt


def extended(old: Run, epochs: float, *, folder: Path | None = None, settings: Sequence[str] = ()) -> Run:
    """The run `old` for `epochs` epochs more, in a folder of its own (by default OLD-extendN), or what stands there.

    It starts from the params and state that evaluation of the old run uses, which are exported beside it as
    `model.safetensors`; optimiser, schedule and order of the data start anew, with the settings of the old run and
    `settings` over them. Raises `ValueError` for a run that is not finished, or that has no setting `train.epochs`, and
    `DataError` if its data has changed.
    """
    if not epochs > 0:
        raise ValueError(f"a run is extended by a number of epochs above 0, got {epochs:g}")
    where = folder or old.folder.with_name(f"{old.folder.name}-extend{epochs:g}")
    if (where / "config.json").exists():
        return of_folder(where, data_dir=old.data_dir)
    name, _ = main_fit(old.system)
    if not (old.folder / name / "result.json").exists():
        raise ValueError(
            f"{old.folder} is not finished; finish it before it is extended: the same command goes on with it"
        )
    check_data(old.folder, old.identity()["fingerprint"])
    weights = old.folder / f"model{export.SUFFIX}"
    if not weights.exists():
        export.write_weights(old, weights)
    start = [f"train.epochs={epochs}", "train.steps=0", f"train.init_from={weights}"]
    config = overridden(old.config, [*start, *settings])
    return rebuilt(old, {**old.names, "seed": old.seed}, config, old.whole())._replace(folder=where)
