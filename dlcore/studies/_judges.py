"""Several classifiers on the same images: how right, how sure, how dear (lecture 22)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from dlcore.evaluation import calibration, correct

Judge = Callable[[Array, Array], Float[Array, "b c"]]
"""`(x [b, h, w, c] grey levels, observed [h, w, c]) -> log p(y|x)`; what is not observed holds a fill-in."""

BLOCK = 100
"""Images judged at once."""


def scores(log_posterior: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]) -> tuple[float, float]:
    """(accuracy, as `dlcore.evaluation.correct` counts, and the mean of −log p(y|x) in nats).

    Raises `ValueError` unless there is one label per row, of a class.
    """
    right = np.asarray(correct(jnp.asarray(log_posterior), jnp.asarray(labels)))
    own = np.take_along_axis(np.asarray(log_posterior, np.float64), labels[:, None].astype(int), axis=-1)[:, 0]
    return float(right.mean()), float(-own.mean())


def calibrations(
    judges: Mapping[str, Judge], x: Integer[np.ndarray, "n h w c"], labels: Integer[np.ndarray, " n"]
) -> tuple[dict[str, tuple[np.ndarray, ...]], dict[str, float]]:
    """Of every judge the sums per bin of confidence (`dlcore.evaluation.calibration`), and the seconds of an image."""
    found = {name: verdicts(judge, x) for name, judge in judges.items()}
    calibrated = jax.jit(lambda log_p: calibration(jnp.exp(log_p), jnp.asarray(labels)))
    bins = {name: tuple(map(np.asarray, calibrated(log_p))) for name, (log_p, _) in found.items()}
    return bins, {name: seconds for name, (_, seconds) in found.items()}


def in_microseconds(seconds: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of the seconds of an image, by model.

    >>> in_microseconds({"lda": 2e-6})
    {'microseconds_per_image_lda': 2.0}
    """
    return {f"microseconds_per_image_{name}": 1e6 * float(value) for name, value in seconds.items()}


def in_blocks(run: Callable[[np.ndarray], Array], x: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """`run` over all rows in blocks of one size, so that it compiles once; the last is filled up and cut."""
    starts = range(0, len(x), block)
    found = [np.asarray(run(x[np.arange(start, start + block) % len(x)])) for start in starts]
    return np.concatenate(found)[: len(x)]


def whole(x: Array) -> Bool[Array, "h w c"]:
    """What is observed of complete images."""
    return jnp.ones(x.shape[1:], bool)


def verdicts(
    judge: Judge, x: Integer[np.ndarray, "n h w c"], repeats: int = 3
) -> tuple[Float[np.ndarray, "n classes"], float]:
    """log p(y|x) of all images, and the seconds that one costs: the best of some runs of a block, compiled before."""
    run = jax.jit(lambda x: judge(x, whole(x)))
    found, block, times = in_blocks(run, x), x[np.arange(BLOCK) % len(x)], []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run(block))
        times.append(time.perf_counter() - began)
    return found, min(times) / BLOCK
