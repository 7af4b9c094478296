"""What a held-out split says of a GAN: scores of the discriminator, distance by a kernel, modes that are hit (27.2)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.evaluation import collapse
from dlcore.generative.gan import GAN, Loss, discriminate, generate
from dlcore.precision import matmul
from dlcore.types import Batch, Key, Mean, Params, State

Sums = dict[str, Any]


class HeldOut(NamedTuple):
    """What a fit takes to measure: sums over a batch, and what becomes of them."""

    evaluate: Callable[[Params, State, Batch, Key], Sums]
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]


class Modes(NamedTuple):
    """Centres [k, d] of a mixture that is known, and how near counts as inside."""

    centres: Float[np.ndarray, "k d"]
    radius: float


def held_out(
    gan: GAN,
    loss: Loss,
    row_keys: Callable[[Key, Array], Key],
    *,
    target: str,
    spread: float,
    modes: Modes | None = None,
) -> HeldOut:
    """A sample for each held-out example `batch[target]` [b, ...], compared with all of them.

    `d_heldout` and `d_fake` are means of the scores, `mmd` the squared maximum mean discrepancy with random Fourier
    features of a kernel as wide as `spread`, the standard deviation of the data. With `modes`: how many have their
    share of the samples, `modes`, and which part of the samples lies in one, `inside_modes`. `row_keys(key, rows)`
    gives every row a key of its own.
    """

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Sums:
        x, where, label = batch[target], batch["where"], batch["label"] if gan.conditional else None
        z = jax.vmap(lambda k: jax.random.normal(k, (gan.latent,)))(row_keys(key, batch["row"]))
        fake, _ = generate(gan, params, state, z, label)
        kinds = {"d_heldout": x, "d_fake": fake}
        logits = {name: discriminate(gan, params, state, y, label)[0] for name, y in kinds.items()}
        found: Sums = {name: Mean.of(loss.score(a), where) for name, a in logits.items()}
        weight, waves = where.astype(jnp.float32), collapse.frequencies(jax.random.key(0), x[0].size, spread)
        found |= {f"sum_{name}": matmul(weight, collapse.fourier_features(y, waves)) for name, y in kinds.items()}
        if modes is not None:
            found["modes"] = matmul(weight, collapse.mode_hits(fake, jnp.asarray(modes.centres), modes.radius))
        return found

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        count = float(sums["d_fake"].count)
        found = {name: float(sums[name].value()) for name in ("d_fake", "d_heldout")}
        features = [np.asarray(sums[f"sum_{name}"]) for name in ("d_heldout", "d_fake")]
        found["mmd"] = collapse.squared_mmd(*features, count)
        if modes is not None:
            hits = np.asarray(sums["modes"])
            found["modes"] = float(((hits / count) >= collapse.FRACTION / len(hits)).sum())
            found["inside_modes"] = float(hits.sum() / count)
        return found

    return HeldOut(evaluate, summarize)
