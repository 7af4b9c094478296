"""What a process of `--suite=gpu` is told."""

import json
import time
from typing import NamedTuple


class Task(NamedTuple):
    """One row, or a part of one."""

    program: str
    """"roof", "train", "deterministic", or "torch" for the other side."""
    workload: str = ""
    dtype: str = ""
    tiny: bool = False
    seconds: float = 2.0
    """Length of a timing."""
    images: int = 0
    """Batch; 0 for the best that is found."""
    weights: str = ""
    """The file by which PyTorch starts."""
    until: float = 0.0
    """When the process will be ended, by `time.time`."""

    def left(self) -> float:
        """Seconds until then."""
        return self.until - time.time()

    def text(self) -> str:
        """As an argument of a process."""
        return json.dumps(self._asdict())


def read(text: str) -> Task:
    """The task of such an argument."""
    return Task(**json.loads(text))
