"""Samples of a fit while it trains, and from a restored one."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlcore.parallel import processes
from dlcore.report import figures
from dlcore.train._state import view_of
from dlcore.train._system import Fit
from dlcore.types import TrainState

GRID = 64
"""Samples in a grid."""


def draw_grids(folder: Path, stage: Fit, state: TrainState) -> None:
    """Samples of the moment, always from the same key: of the params and of what the view has in their place."""
    if stage.sample is None or not processes.is_main():
        return
    state = jax.device_put(state)
    view = view_of(stage.update, state)
    sources: dict[str, Any] = {"": state} | ({"-ema": view} if view.params is not state.params else {})
    for name, source in sources.items():
        images = np.asarray(stage.sample(source.params, source.state, jax.random.key(0), GRID))
        if images.ndim == 4:
            path = folder / "samples" / f"step-{int(state.step):06d}{name}.png"
            figures.save_png(figures.image_grid(images), path)
