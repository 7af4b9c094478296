"""A clock of training alone."""

import time


class Stopwatch:
    """Seconds that run and pause."""

    def __init__(self, seconds: float = 0.0):
        self._seconds, self._since = seconds, None

    def run(self) -> None:
        """Go on, if paused."""
        if self._since is None:
            self._since = time.monotonic()

    def pause(self) -> None:
        """Stop, if running."""
        self._seconds, self._since = self.seconds(), None

    def seconds(self) -> float:
        """The total so far."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)
