"""A trace of a few steps, for TensorBoard's profiler or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import jax

SKIPPED = 3
"""Dispatches before the trace begins: the first ones are not like the others."""


class Trace:
    """Traces so many steps of a training into a folder."""

    def __init__(self, folder: Path, steps: int):
        self._folder, self._left, self._seen, self._running = folder, steps, 0, False

    def before(self, steps: int, wait: Callable[[], None]) -> None:
        """A dispatch of so many steps comes; `wait()` returns when those before it are done."""
        self._seen += 1
        if self._running and self._left <= 0:
            wait()
            self.stop()
        elif self._seen > SKIPPED and self._left > 0 and not self._running:
            wait()
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        if self._running:
            self._left -= steps

    def stop(self) -> None:
        """End the trace, if it is under way."""
        if self._running:
            jax.profiler.stop_trace()
            self._running, self._left = False, 0
