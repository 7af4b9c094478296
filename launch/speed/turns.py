"""The sides of a workload take turns, each in a process of its own; medians with their spread, and what they say."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.speed.clock import ANSWER

ROOT = Path(__file__).parents[2]
AGREE = 1e-3
"""Relative difference up to which two first losses are the same."""

Row = dict[str, Any]

WITHOUT = "without"
"""dlcore again, without oneDNN's convolutions."""


class Side:
    """A process that has opened a workload and waits for its turn."""

    def __init__(self, side: str, name: str, weights: Path, images: int, cache: Path) -> None:
        # Each side has its own way to wait for threads; without this OpenMP's keep a core busy while another side runs.
        settings = {"OMP_WAIT_POLICY": "PASSIVE", "JAX_COMPILATION_CACHE_DIR": str(cache)}
        settings |= {
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        settings |= {"DLCORE_CONV": "-onednn"} if side == WITHOUT else {}
        program = "dlcore" if side == WITHOUT else side
        command = [sys.executable, "-m", "launch.speed.side", program, name, str(weights), str(images)]
        began = time.monotonic()
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | settings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.name = side
        self.facts = self._answer()
        self.facts["ready_seconds"] = time.monotonic() - began

    def time(self, what: str, seconds: float) -> Row:
        """Seconds of one batch, on the clock and of processor time."""
        self._process.stdin.write(f"{what} {seconds}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> Row:
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise ValueError(f"{self.name} ended with exit code {self._process.wait()}; its error stands above")


def compare(name: str, peers: Sequence[str], *, seconds: float, turns: int, images: int = 0) -> Iterator[Row]:
    """Rows of a workload: one for each thing there is to time, with each side's seconds and the ratios to dlcore.

    `images` 0 is the batch as listed. Raises `ValueError` for a peer whose network or first loss is another.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        weights, cache = place / "weights.npz", place / "cache"
        cold = Side("dlcore", name, weights, images, cache)
        cold.close()
        sides = [Side(side, name, weights, images, cache) for side in ("dlcore", *peers)]
        ours, *others = sides
        check(name, ours, others)
        for what in ours.facts["does"]:
            able = [side for side in sides if what in side.facts["does"]]
            taken = [{side.name: side.time(what, seconds) for side in able} for _ in range(turns + 1)][1:]
            yield row(name, what, ours.facts, cold.facts, taken) | {
                "starts": {side.name: side.facts["ready_seconds"] for side in sides},
                "peak_bytes": {side.name: side.facts["peak_bytes"] for side in sides},
            }
        for side in sides:
            side.close()


def check(name: str, ours: Side, others: Sequence[Side]) -> None:
    """The peers have as many parameters and the same first loss."""
    for side in others:
        for fact in ("parameters", "loss"):
            here, there = ours.facts[fact], side.facts[fact]
            if abs(here - there) > (AGREE * abs(here) if fact == "loss" else 0):
                raise ValueError(f"{name} is another network in {side.name}: {fact} {there}, and {here} in dlcore")


def row(name: str, what: str, facts: Row, cold: Row, taken: Sequence[Mapping[str, Row]]) -> Row:
    """Medians over the turns, and the ratio of each turn: above 1 where dlcore is the faster."""
    sides = taken[0]
    seconds = {side: statistics.median(turn[side]["seconds"] for turn in taken) for side in sides}
    ratios = {
        side: {kind: [turn[side][kind] / turn["dlcore"][kind] for turn in taken] for kind in ("seconds", "cpu_seconds")}
        for side in sides
        if side != "dlcore"
    }
    return {
        "workload": name,
        "what": what,
        "images": facts["images"],
        "parameters": facts["parameters"],
        "seconds": seconds,
        "ratios": ratios,
        "flops": facts["flops"],
        "product_flops": facts["product_flops"],
        "compile_seconds": {"cold": cold["compile_seconds"], "warm": facts["compile_seconds"]},
        "ready_seconds": {"cold": cold["ready_seconds"], "warm": facts["ready_seconds"]},
    }


def lines(found: Row, roof: float) -> Iterator[str]:
    """A row in words; `roof` is the machine's rate of matrix products."""
    ours = found["seconds"]["dlcore"]
    head = f"{found['workload']:<12} {found['what']:<7} {found['images'] / ours:10,.0f} images/s"
    if found["what"] == "train":
        warm, cold = found["compile_seconds"]["warm"], found["compile_seconds"]["cold"]
        head += f"  {found['product_flops'] / ours / roof:4.0%} of the product, compile {cold:.1f} / {warm:.1f} s"
        head += f", first step {found['ready_seconds']['warm']:.1f} s after start"
        head += f", {found['peak_bytes']['dlcore'] / 2**20:,.0f} MiB"
    yield head
    for side, kinds in found["ratios"].items():
        wall, computed = kinds["seconds"], statistics.median(kinds["cpu_seconds"])
        yield (
            f"{'':<20} {statistics.median(wall):.2f} × {side} ({min(wall):.2f} to {max(wall):.2f}), "
            f"by processor time {computed:.2f}"
        )
