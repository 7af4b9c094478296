"""The objective of codes, and what can be said of them without labels (lecture 20.2)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dlcore.lookup import check_name
from dlcore.operands import equal_shapes, has_shape
from dlcore.retrieval import _codes as codes
from dlcore.retrieval._contrastive import contrastive
from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State

Bottleneck = Callable[[Array, Key | None], Array]
"""`(logits, key) -> codes in [−1, 1]`."""


def bottleneck(name: str, std: float) -> Bottleneck:
    """ "straight_through", or "noise" of that standard deviation before a sigmoid; raises `ValueError` for others."""
    check_name("bottleneck", name, ("straight_through", "noise"))
    if name == "noise":
        return lambda logits, key: codes.noisy_sigmoid(logits, std, key=key)
    return lambda logits, key: codes.straight_through(logits)


def contrastive_codes(model: Model, squash: Bottleneck, temperature: float) -> Objective:
    """Mean of `dlcore.retrieval.contrastive` over `batch["views"]` [b, v, ...] of groups `batch["group"]`.

    The model maps inputs to logits. Every view of a batch is contrasted with every other,
    so that the loss of parts of a batch is not that of the whole. The metric is the loss, in nats.
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        views = batch["views"].shape[1]
        logits, state = model.apply(params, state, batch["views"].reshape(-1, *batch["views"].shape[2:]), train=train)
        nats = contrastive(squash(logits, key), jnp.repeat(batch["group"], views), temperature)
        return nats.mean(), Aux(state, {"loss": Mean.of(nats)})

    return objective


def code_sums(plain: Float[Array, "n b"], moved: Float[Array, "n b"], where: Bool[Array, " n"]) -> dict[str, Mean]:
    """Sums over a batch, from logits a and a' of two views of its images: how far the codes move, and the mean bits.

    Bits are taken as (1 + tanh a)/2, so that rounding turns none: half of |tanh a − tanh a'| is 1 for one that turns.
    Raises `ValueError` for views of different shapes, and unless there is one mark per row.
    """
    equal_shapes("code_sums", plain=plain, moved=moved)
    has_shape("code_sums", "where", where, plain.shape[:1], f"one mark per row of {plain.shape}")
    plain, moved = jnp.tanh(plain), jnp.tanh(moved)
    ones = jnp.where(where[:, None], (1 + plain) / 2, 0).sum(0)
    return {
        "changed": Mean.of(jnp.abs(plain - moved).mean(-1) / 2, where),
        "ones": Mean(ones, where.sum(dtype=jnp.int32)),
    }


def code_summary(sums: Mapping[str, Any]) -> dict[str, float]:
    """`bits_changed`, the fraction of bits that a change of view turns, and `bit_entropy`, the mean entropy of a bit in
    bits: 1 where it is 1 for half of the images."""
    p = np.asarray(sums["ones"].total, np.float64) / max(int(sums["ones"].count), 1)
    terms = [np.where(q > 0, -q * np.log2(np.where(q > 0, q, 1)), 0) for q in (p, 1 - p)]
    return {"bits_changed": float(sums["changed"].value()), "bit_entropy": float(sum(terms).mean())}
