"""Train, open, sample and evaluate runs without flags.

from dlcore.train import session
run = session.train("classify", data="digits", preset="smoke", folder="runs/first")
run.metrics, run.params
run = session.open_run("runs/first")
run.evaluate("validation")
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.addresses import local
from dlcore.data import Data, marked
from dlcore.lookup import check_name
from dlcore.parallel.mesh import make_mesh
from dlcore.train import export, run, stages
from dlcore.train._evaluate import make_evaluate
from dlcore.train._fitting import data_of, evaluation_key, restore, restored_view, step_of
from dlcore.train._run_folder import check_data, check_identity, read_json
from dlcore.train._system import Fit, Result, System, check, compiled, main_fit
from dlcore.train.progress import announced, ticker
from dlcore.train.run import Run
from dlcore.types import Params, State


def train(
    system: str | System,
    *,
    data: str | Data = "digits",
    folder: str | Path | None = None,
    preset: str = "default",
    seed: int = 0,
    settings: Sequence[str] = (),
    **options: Any,
) -> "OpenRun":
    """Train an experiment by name, or a system on `Data` at hand, into a folder; or go on where it stopped.

    `settings` are overrides such as "train.epochs=2"; `options` those of `dlcore.train.run.named`. Raises `ValueError`
    for a folder that holds another run.
    """
    if isinstance(system, str):
        source = {} if isinstance(data, str) else {"source": data}
        name = data if isinstance(data, str) else data.spec.name
        made = run.named(
            system, data=name, preset=preset, seed=seed, settings=settings, folder=folder, **source, **options
        )
    else:
        if isinstance(data, str) or folder is None:
            raise ValueError("train: a system at hand needs data= as Data, and folder=")
        data = marked(data)
        made = Run(local("folder", folder), check(system), data, data.spec, seed, {})
    check_identity(made.folder, made.identity(), made.config)
    if not stages.finished(made):
        stages.execute(made)
    elif stages.lacking(made):
        stages.finish(made)
    return OpenRun(made)


def open_run(
    folder: str | Path,
    *,
    system: System | None = None,
    data: Data | None = None,
    data_dir: str | None = None,
    with_data: bool = True,
) -> "OpenRun":
    """The run of a folder, finished or not; `system` and `data` are those that were at hand when it was trained.

    A file that `launch.export` wrote opens as well, without data. Raises `DataError` if the data of a run has changed
    since it began.
    """
    folder = local("folder", folder)
    if folder.suffix == export.SUFFIX:
        return OpenRun(*export.read(folder))
    made = run.of_folder(folder, data_dir=data_dir, with_data=with_data, system=system, source=data)
    if made.data is not None:
        check_data(made.folder, made.identity()["fingerprint"])
    return OpenRun(made)


AT_ONCE = 256
"""Samples drawn by one call; of more, lines say how far it is."""


class OpenRun:
    """A run to look at: its config, params, state, metrics and functions; or one of which only a file is left."""

    def __init__(self, made: Run, exported: export.Exported | None = None):
        self.run = made
        self._exported = exported

    @property
    def stage(self) -> str:
        """The name of its last fit; raises `ValueError` for a run that has none."""
        return main_fit(self.run.system)[0]

    @property
    def fit(self) -> Fit:
        """Its last fit; raises `ValueError` for a run that has none."""
        return main_fit(self.run.system)[1]

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.run.folder

    @property
    def config(self) -> Any:
        """Its configuration."""
        return self.run.config

    @property
    def step(self) -> int:
        """The step of the checkpoint that counts."""
        if self._exported is not None:
            return self._exported.step
        return step_of(self.run, self.stage, self.fit)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of its summary; empty while it is not finished."""
        if self._exported is not None:
            return dict(self._exported.metrics)
        return read_json(self.folder / "summary.json")["metrics"] if stages.finished(self.run) else {}

    def result(self, stage: str) -> Result:
        """What a finished stage has come to: metrics, and params and state of a fit or arrays of a study."""
        check_name("stage", stage, self.run.system.stages)
        return stages.result(self.run, stage)

    @cached_property
    def _view(self) -> Any:
        held = self._exported
        # Asked for inside a function that is being traced, they are arrays all the same.
        with jax.ensure_compile_time_eval():
            return restored_view(self.run, self.stage, self.fit) if held is None else held.view

    @property
    def params(self) -> Params:
        """The params that evaluation uses, of its last fit."""
        return self._view.params

    @property
    def state(self) -> State:
        """The model state that belongs to them."""
        return self._view.state

    @cached_property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What it is used for, `f(params, state, *inputs)` by name, compiled; inputs may be NumPy arrays."""
        return compiled(self.run.system)

    def sample(self, num: int, *, key: jax.Array | int = 0, **options: Any) -> jax.Array:
        """`num` samples of a generative model; raises `ValueError` for any other, and for options it does not take."""
        if self.fit.sample is None:
            raise ValueError(f"{self.run.names.get('experiment', 'this system')} is not a generative model")
        for name in options:
            if name not in self.fit.sample_options:
                known = ", ".join(self.fit.sample_options) or "no options"
                raise ValueError(f"sample: {name}= has no meaning for this run, which takes {known}")
        key = jax.random.key(key) if isinstance(key, int) else key
        draw = lambda key, count: self.fit.sample(self.params, self.state, key, count, **options)  # noqa: E731
        if num <= AT_ONCE:
            return draw(key, num)
        tell, parts = ticker("samples", num), []
        for start in range(0, num, AT_ONCE):
            tell(start)
            parts.append(jax.block_until_ready(draw(jax.random.fold_in(key, start), AT_ONCE)))
        return jnp.concatenate(parts)[:num]

    def predict(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """Class probabilities [n, classes] of images [n, h, w, c] as they are stored, uint8 levels of the run's data.

        They are preprocessed as those of the test split were. Raises `ValueError` for a run that predicts no classes,
        and for images of another shape.
        """
        if "predict" not in self.functions:
            raise ValueError(f"{self.run.names.get('experiment', 'this system')} predicts no classes")
        if images.shape[1:] != tuple(self.run.spec.shape):
            raise ValueError(f"predict: expected images [n, {self.run.spec.shape}], got shape {images.shape}")

        @jax.jit
        def probabilities(params: Params, state: State, rows: Mapping[str, Any]) -> jax.Array:
            given = self.fit.preprocess(rows, key=None, train=False)
            return jax.nn.softmax(self.run.system.functions["predict"](params, state, given["image"]))

        found = []
        for start in range(0, len(images), batch):
            rows = {"image": images[start : start + batch], "row": np.arange(start, min(start + batch, len(images)))}
            found.append(np.asarray(probabilities(self.params, self.state, rows)))
        return np.concatenate(found)

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """Metrics of a split: "test" by the full protocol, "validation" or "train"."""
        mesh = make_mesh()
        data = data_of(self.run, self.fit, stages.opened(self.run, self.fit.uses))
        state = restore(self.run, self.stage, self.fit, mesh)
        evaluate = make_evaluate(self.fit, mesh, self.fit.loop.eval_batch_size, full=split == "test")
        found = evaluate(state, announced(getattr(data, split), split), evaluation_key(self.run))
        return {**found, **self.fit.ruler}
