"""Learning codes by contrast: what belongs together is to be near, everything else far (lecture 20.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.precision import matmul


def contrastive(codes: Float[Array, "n b"], groups: Int[Array, "..."], temperature: float) -> Float[Array, " n"]:
    """−log p(a member of its own group | code i) in nats, averaged over the other members P(i) of the group:

    ℓ_i = −1/|P(i)| Σ_{p ∈ P(i)} log softmax_{j ≠ i}(z_i · z_j / (b τ))_p

    for codes in [−1, 1]^b, whose z_i · z_j / b is 1 − 2/b times the Hamming distance where they are binary. Groups are
    the views of one image for codes without labels (Chen et al. 2020), or the classes (Khosla et al. 2020). 0 for a row
    that is alone in its group. Raises `ValueError` unless τ > 0 and there is one group per code.

    >>> z = jnp.array([[1.0, 1], [1, 1], [-1, -1]])
    >>> contrastive(z, jnp.array([0, 0, 1]), temperature=1.0).round(3).tolist()[2]
    0.0
    """
    if not temperature > 0:
        raise ValueError(f"contrastive: temperature must be above 0, got {temperature}")
    if groups.shape != codes.shape[:1]:
        raise ValueError(f"contrastive: {codes.shape[0]} codes and groups of shape {groups.shape}; give each code one")
    other = ~jnp.eye(len(codes), dtype=bool)
    similarity = matmul(codes, codes.T) / (codes.shape[1] * temperature)
    log_p = similarity - jax.nn.logsumexp(similarity, axis=1, where=other, keepdims=True)
    together = (groups[:, None] == groups) & other
    return jnp.where(together, -log_p, 0).sum(1) / jnp.maximum(together.sum(1), 1)
