"""What a side offers of a workload to the clock."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Workload(NamedTuple):
    """A network with its loss, optimiser and batch. Each function computes so many batches and waits for the end."""

    images: int
    """In a batch."""
    loss: float
    """Of the batch, before any training."""
    parameters: int
    train: Callable[[int], None]
    infer: Callable[[int], None]
    sample: Callable[[int], None] | None = None
    facts: Mapping[str, Any] = {}
    """Measured once: seconds of compiling, floating-point operations, bytes."""

    def does(self) -> dict[str, Callable[[int], None]]:
        """What there is to time, by name."""
        timed = {"train": self.train, "infer": self.infer, "sample": self.sample}
        return {name: function for name, function in timed.items() if function is not None}


LEARNING_RATE = 1e-3
"""Of Adam, on every side."""
SAMPLES = 16
"""Drawn at once."""
EVALUATIONS = 10
"""Of the diffusion's network for a sample, by a plain loop."""
LATENT = {"vae": 20, "iwae": 20, "gan": 64}
"""Sizes of latent codes."""
DRAWS, MANY_DRAWS = 5, 50
"""Of the latent code of each image, for the importance-weighted bound: in training, and in inference."""
CLASSES = {"unet": 4}
"""Where there are not ten."""
