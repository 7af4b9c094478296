"""Samples of a fit while it trains, and from a restored one."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlcore import report
from dlcore.parallel import processes
from dlcore.train._state import view_of
from dlcore.train._system import Fit
from dlcore.train.progress import say
from dlcore.types import TrainState

GRID = 64
"""Samples in a grid."""


def draw_grids(folder: Path, stage: Fit, state: TrainState) -> dict[str, np.ndarray]:
    """Samples of the moment, always from the same key: of the params and of what the view has in their place.

    The grids, uint8 [h, w, c] by name, are written into the folder.
    """
    if stage.sample is None or not processes.is_main():
        return {}
    if not (folder / "samples").is_dir():
        say(f"drawing {GRID} samples, for the first time")
    state = jax.device_put(state)
    view = view_of(stage.update, state)
    sources: dict[str, Any] = {"": state} | ({"-ema": view} if view.params is not state.params else {})
    drawn: dict[str, np.ndarray] = {}
    for name, source in sources.items():
        images = np.asarray(stage.sample(source.params, source.state, jax.random.key(0), GRID))
        if images.ndim == 4:
            path = folder / "samples" / f"step-{int(state.step):06d}{name}.png"
            drawn[f"samples{name}"] = report.figures.image_grid(images)
            report.figures.save_png(drawn[f"samples{name}"], path)
    return drawn
