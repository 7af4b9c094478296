"""Where numbers and pictures of a training go beside `metrics.jsonl`: TensorBoard, and Weights & Biases if asked."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np


class Writer(Protocol):
    """Takes what a fit tells."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """A metric, `split/name`."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture uint8 [h, w, c]."""

    def close(self) -> None:
        """Write what waits."""


MakeWriter: TypeAlias = Callable[[Path, int], Writer]
"""`(folder, step) -> Writer` for the fit in that folder, which goes on at that step."""


class TensorBoard:
    """Events in the folder of the fit; those beyond the step at which it is opened no longer count."""

    def __init__(self, folder: Path, step: int):
        # Files are named by the second, and a short training is over, and tested, within one.
        self._events = _summary_writer()(str(folder), purge_step=step + 1, filename_suffix=f".{step}")

    def scalar(self, name: str, value: float, step: int) -> None:
        """A number."""
        self._events.add_scalar(name, value, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture."""
        self._events.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what waits."""
        self._events.close()


def _summary_writer() -> Any:
    """tensorboardX's writer, imported without PyTorch, which it asks for and which takes two seconds to come."""
    absent = sys.modules.setdefault("torch", None) is None
    try:
        from tensorboardX import SummaryWriter
    finally:
        if absent:
            del sys.modules["torch"]
    return SummaryWriter


class WeightsAndBiases:
    """A run of Weights & Biases, called RUN/STAGE, in the project; resuming goes on with it.

    Raises `ValueError` where the package is not installed.
    """

    def __init__(self, project: str, folder: Path, step: int):
        try:
            import wandb
        except ImportError:
            raise ValueError("--wandb needs the package wandb: DLCORE_EXTRAS=wandb, or pip install wandb") from None
        name, self._picture = f"{folder.parent.name}/{folder.name}", wandb.Image
        mark = name.replace("/", "-").replace("=", "-").replace(",", "-")
        self._run = wandb.init(project=project, name=name, id=mark, dir=str(folder.parent), resume="allow")

    def scalar(self, name: str, value: float, step: int) -> None:
        """A number."""
        self._run.log({name: value}, step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture."""
        self._run.log({name: self._picture(image.squeeze(-1) if image.shape[-1] == 1 else image)}, step=step)

    def close(self) -> None:
        """Write what waits."""
        self._run.finish()


def weights_and_biases(project: str) -> MakeWriter:
    """The writer of a project."""
    return lambda folder, step: WeightsAndBiases(project, folder, step)
