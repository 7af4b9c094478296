"""Checkpoints: state and data position together, written in the background, atomically, and verified.

The only file that knows Orbax.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from dlcore.train._state import checksums, named_leaves
from dlcore.types import TrainState


class Checkpoints:
    """The checkpoints of one run folder: the newest `keep` and the best one.

    A checkpoint is the training state, a checksum of every leaf, and a JSON-able `progress` (data
    position, early-stopping counters). Writing happens in the background and ends in a rename, so that a
    kill at any moment leaves only whole checkpoints behind.
    """

    def __init__(self, folder: Path, *, keep: int = 2, read_only: bool = False):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.best: int | None = None
        self._read_only = read_only
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(keep, lambda: self.best),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=not read_only,
        )
        self._checksums = jax.jit(checksums)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def steps(self) -> list[int]:
        """The steps at which a whole checkpoint exists, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, progress: Mapping[str, Any], *, step: int, best: int | None = None) -> None:
        """Start writing; returns once the state is copied, so that its buffers may be donated."""
        if step in self.steps():
            return
        self.best = best
        items = {"state": state, "checksums": self._checksums(state)}
        self._manager.save(
            step, args=ocp.args.Composite(items=ocp.args.StandardSave(items), progress=ocp.args.JsonSave(progress))
        )

    def restore(self, like: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """The checkpoint of `step`, laid out like the shapes and shardings of `like`.

        Raises `ValueError` when it cannot be read, does not fit `like`, or fails its checksums.
        """
        count = len(jax.tree.leaves(like))
        sums = jax.ShapeDtypeStruct((count,), jnp.uint32, sharding=getattr(like.step, "sharding", None))
        args = ocp.args.Composite(
            items=ocp.args.StandardRestore({"state": like, "checksums": sums}), progress=ocp.args.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:  # Orbax and its storage layer raise many kinds for a damaged file
            raise ValueError(f"checkpoint {step} cannot be read: {_first_line(error)}") from error
        state = found["items"]["state"]
        wrong = np.asarray(self._checksums(state)) != np.asarray(found["items"]["checksums"])
        if wrong.any():
            path = named_leaves(state)[int(np.argmax(wrong))][0]
            raise ValueError(f"checkpoint {step} is damaged: {path} fails its checksum")
        return state, found["progress"]

    def restore_newest(
        self, like: TrainState, say: Callable[[str], None]
    ) -> tuple[TrainState, dict[str, Any], int] | None:
        """The newest checkpoint that can be read, with its step; None if there is none at all.

        A damaged one is reported through `say`, deleted, and the one before is tried. Raises
        `ValueError` when there are checkpoints but none can be read; nothing is deleted then.
        """
        steps = self.steps()[::-1]
        damaged: list[int] = []
        for step in steps:
            try:
                state, progress = self.restore(like, step)
            except ValueError as error:
                say(f"{error}; trying the one before")
                damaged.append(step)
                continue
            for bad in [] if self._read_only else damaged:
                self._manager.delete(bad)
            self.best = progress.get("best_step")
            return state, progress, step
        if steps:
            raise ValueError(
                f"none of the checkpoints {sorted(steps)} can be read; choose another --workdir to start afresh"
            )
        return None

    def wait(self) -> None:
        """Return once everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the folder."""
        self._manager.close()


class _NewestAndBest(PreservationPolicy):
    def __init__(self, keep: int, best: Callable[[], int | None]):
        self._keep, self._best = keep, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = {c.step for c in sorted(checkpoints, key=lambda c: c.step)[-self._keep :]}
        return [c.step in newest or c.step == self._best() for c in checkpoints]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
