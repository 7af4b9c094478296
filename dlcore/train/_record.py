"""What a run tells while it trains: JSON lines, TensorBoard and other writers, and a line for the reader."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dlcore.train._writers import MakeWriter, TensorBoard

BAR = "{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""The progress line; what is left is in our own words, as compiling does not count."""


class Recorder:
    """Writes `metrics.jsonl` and TensorBoard events in `folder`, hands all to other `writers`, and prints.

    On a terminal one progress line is kept up to date; in a log each report is a plain line; `quiet` prints
    nothing. Opening it at `step` drops whatever a killed run had written beyond that step. With
    `folder=None` (processes that do not write) every method does nothing.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        total: int,
        step: int = 0,
        quiet: bool = False,
        writers: Sequence[MakeWriter] = (),
    ):
        self._quiet = quiet
        self._folder, self._total = folder, total
        if folder is None:
            return
        _keep_until(folder / "metrics.jsonl", step)
        self._lines = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._writers = [make(folder, step) for make in (TensorBoard, *writers)]
        self._bar = (
            tqdm(total=total, initial=step, unit="step", dynamic_ncols=True, bar_format=BAR)
            if sys.stderr.isatty() and not quiet
            else None
        )

    def say(self, text: str) -> None:
        """Print one message."""
        if self._folder is None or self._quiet:
            return
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Record metrics as `split/name` at `step`."""
        if self._folder is None:
            return
        row = {f"{split}/{name}": value for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        self._lines.flush()
        for name, value in row.items():
            for writer in self._writers:
                writer.scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Record a picture uint8 [h, w, c] at `step`, for the writers that show pictures."""
        for writer in self._writers if self._folder is not None else ():
            writer.image(name, image, step)

    def progress(self, step: int, metrics: Mapping[str, float], images_per_second: float, seconds_left: float) -> None:
        """Show how far training is, and how long the rest will take."""
        if self._folder is None or self._quiet:
            return
        shown = {name: f"{metrics[name]:.4g}" for name in ("loss", "accuracy") if name in metrics}
        if "learning_rate" in metrics:
            shown["rate"] = f"{metrics['learning_rate']:.2e}"
        shown["images/s"] = f"{images_per_second:,.0f}"
        if self._bar is not None:
            self._bar.set_postfix(shown | {"ETA": clock(seconds_left)}, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        fields = "  ".join(f"{name} {value}" for name, value in shown.items())
        print(f"step {step}/{self._total}  {fields}  ETA {clock(seconds_left)}", flush=True)

    def close(self) -> None:
        """Flush and close the files."""
        if self._folder is None:
            return
        if self._bar is not None:
            self._bar.close()
        self._lines.close()
        for writer in self._writers:
            writer.close()


def record_test(folder: Path, step: int, metrics: Mapping[str, float], writers: Sequence[MakeWriter] = ()) -> None:
    """Hand the metrics of the test split to the writers of a finished fit."""
    for make in (TensorBoard, *writers):
        writer = make(folder, step)
        for name, value in metrics.items():
            writer.scalar(f"test/{name}", value, step)
        writer.close()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.jsonl`; a line that a kill cut short ends them."""
    rows: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _keep_until(path: Path, step: int) -> None:
    rows = [row for row in read_rows(path) if row["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    temporary.replace(path)
