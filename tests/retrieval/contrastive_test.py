"""The contrastive loss against a loop over rows (lecture 20.2)."""

import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.retrieval import contrastive


def loop(z, groups, temperature):
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        scores = {j: z[i] @ z[j] / z.shape[1] / temperature for j in others}
        norm = np.log(sum(np.exp(score) for score in scores.values()))
        own = [scores[j] - norm for j in others if groups[j] == groups[i]]
        losses.append(-np.mean(own) if own else 0.0)
    return losses


def test_every_row_is_told_from_all_others_but_itself():
    z = np.random.default_rng(0).uniform(-1, 1, (7, 4))
    for groups in ([0, 1, 2, 0, 1, 2, 3], [0, 0, 0, 1, 1, 1, 1]):
        found = contrastive(jnp.float32(z), jnp.array(groups), 0.3)
        np.testing.assert_allclose(found, loop(z, groups, 0.3), rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        contrastive(jnp.zeros((2, 3)), jnp.zeros(2, int), 0.0)
    with pytest.raises(ValueError, match=r"2 codes and groups of shape \(3,\)"):
        contrastive(jnp.zeros((2, 3)), jnp.zeros(3, int), 1.0)
