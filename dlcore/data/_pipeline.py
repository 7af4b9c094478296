"""Batches: the same ones for the same seed, on any number of processes, from any restart, by either pipeline.

Row numbers are a pure function of seed and step. Small sets stay on the device and only row numbers travel; large
ones stream through Grain.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from dlcore.data._source import Rows, Split

RESIDENT_BYTES = 2**30
"""Sets up to this size are placed on the device."""


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch: a random permutation of 0 … size − 1, int32."""
    return np.random.Generator(np.random.Philox([seed, epoch])).permutation(size).astype(np.int32)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return epoch_order(seed, epoch, size)


def train_rows(step: int, *, seed: int, size: int, batch_size: int) -> np.ndarray:
    """The rows [batch_size] of the global batch at `step`; what is left of an epoch after full batches is dropped."""
    epoch, i = divmod(step, size // batch_size)
    return epoch_order(seed, epoch, size)[i * batch_size : (i + 1) * batch_size]


@runtime_checkable
class Pipeline(Protocol):
    """Training batches; each process yields its share of the rows of every global batch, with their numbers `row`."""

    resident: Mapping[str, np.ndarray]
    """Arrays to place on the device once."""

    def fetch(self, resident: Any, feed: Any) -> Any:
        """The batch of one step, inside jit."""

    def next(self, count: int) -> Any:
        """What `fetch` needs for the next `count` steps, stacked: leaves [count, rows of this process, ...]."""

    def example(self) -> Any:
        """Shapes of what `fetch` needs for one global batch."""

    def position(self) -> dict[str, Any]:
        """Where the pipeline is, as JSON values."""

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from a position."""


def share(batch_size: int, process: tuple[int, int]) -> slice:
    """The slice of a global batch that process (index, count) holds."""
    index, count = process
    if batch_size % count:
        raise ValueError(f"batch {batch_size} is not divisible by {count} processes; use a multiple of {count}")
    return slice(index * batch_size // count, (index + 1) * batch_size // count)


class Resident:
    """The whole split lives on the device as it is stored; batches are gathered there."""

    def __init__(self, split: Split, *, seed: int, batch_size: int, process: tuple[int, int] = (0, 1)):
        if split.arrays is None:
            raise ValueError("this split is not held in memory; use the grain pipeline")
        _check_batch(batch_size, split.size)
        self.resident = split.arrays
        self._seed, self._size, self._batch, self._share = seed, split.size, batch_size, share(batch_size, process)
        self._step, self._epoch, self._order = 0, -1, np.empty(0, np.int32)

    def fetch(self, resident: Any, feed: Any) -> Any:
        """Gather the rows of the batch."""
        return {**{name: values[feed] for name, values in resident.items()}, "row": feed}

    def next(self, count: int) -> np.ndarray:
        """Row numbers [count, rows]."""
        rows = np.stack([self._rows(step)[self._share] for step in range(self._step, self._step + count)])
        self._step += count
        return rows

    def _rows(self, step: int) -> np.ndarray:
        epoch, i = divmod(step, self._size // self._batch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self._seed, epoch, self._size)
        return self._order[i * self._batch : (i + 1) * self._batch]

    def example(self) -> jax.ShapeDtypeStruct:
        """Row numbers of one global batch."""
        return jax.ShapeDtypeStruct((self._batch,), np.int32)

    def position(self) -> dict[str, Any]:
        """The next step."""
        return {"step": self._step}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on at a step."""
        self._step = position["step"]


class Streamed:
    """Rows are read ahead by Grain's threads, or by `workers` processes, and travel batch by batch."""

    resident: Mapping[str, np.ndarray] = {}

    def __init__(
        self, split: Split, *, seed: int, batch_size: int, process: tuple[int, int] = (0, 1), workers: int = 0
    ):
        import grain

        _check_batch(batch_size, split.size)
        own, size = share(batch_size, process), split.size
        self._batch, self._split = batch_size, split

        def read(step: int) -> Rows:
            epoch, i = divmod(step, size // batch_size)
            rows = _order(seed, epoch, size)[i * batch_size : (i + 1) * batch_size][own]
            return {**split.read(rows), "row": rows}

        steps = grain.MapDataset.range(2**31 - 1).map(read)
        dataset = steps.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8))
        if workers:
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
        self._iterator = iter(dataset)

    def fetch(self, resident: Any, feed: Any) -> Any:
        """The batch is what was fed."""
        return feed

    def next(self, count: int) -> Rows:
        """The rows themselves, leaves [count, rows, ...]."""
        batches = [next(self._iterator) for _ in range(count)]
        return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The rows of one global batch."""
        row = {**self._split.read(np.arange(1)), "row": np.zeros(1, np.int32)}
        return {name: jax.ShapeDtypeStruct((self._batch, *v.shape[1:]), v.dtype) for name, v in row.items()}

    def position(self) -> dict[str, Any]:
        """Grain's own state."""
        return {"grain": json.loads(json.dumps(self._iterator.get_state()))}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from Grain's state."""
        self._iterator.set_state(position["grain"])


def choose(
    split: Split, *, seed: int, batch_size: int, process: tuple[int, int] = (0, 1), kind: str = "auto", workers: int = 0
) -> Pipeline:
    """The pipeline of that kind: "resident", "grain", or "auto" for resident up to `RESIDENT_BYTES`."""
    if kind not in ("auto", "resident", "grain"):
        raise ValueError(f"pipeline must be auto, resident or grain, got {kind!r}")
    size = sum(array.nbytes for array in (split.arrays or {}).values())
    if kind == "grain" or (kind == "auto" and (split.arrays is None or size > RESIDENT_BYTES)):
        return Streamed(split, seed=seed, batch_size=batch_size, process=process, workers=workers)
    return Resident(split, seed=seed, batch_size=batch_size, process=process)


def evaluation_batches(split: Split, *, batch_size: int, process: tuple[int, int] = (0, 1)) -> Iterator[Rows]:
    """Every row once, in order, with its number as `row`; `where` (bool) leaves out what pads the last batch."""
    if batch_size < 1:
        raise ValueError(f"evaluation batch must be at least 1, got {batch_size}")
    own = share(batch_size, process)
    for start in range(0, split.size, batch_size):
        rows = np.arange(start, start + batch_size)[own]
        where = rows < split.size
        rows = np.where(where, rows, 0).astype(np.int32)
        yield {**split.read(rows), "row": rows, "where": where}


def _check_batch(batch_size: int, size: int) -> None:
    if not 1 <= batch_size <= size:
        raise ValueError(f"batch {batch_size} does not fit a training split of {size} examples; use 1 to {size}")
