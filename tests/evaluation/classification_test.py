"""Sums of a classifier by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore import evaluation


@pytest.mark.slow
def test_sums_add_up_over_batches_to_the_metrics():
    p = np.asarray([[0.7, 0.3], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    labels, where = jnp.asarray([0, 0, 0, 1]), jnp.asarray([True, True, True, False])
    log_p = jnp.log(jnp.asarray(p))
    whole = evaluation.classification_summary(jax.device_get(evaluation.classification_sums(log_p, labels, where)))
    parts = [evaluation.classification_sums(log_p[i : i + 2], labels[i : i + 2], where[i : i + 2]) for i in (0, 2)]
    added = evaluation.classification_summary(jax.device_get(jax.tree.map(jnp.add, *parts)))
    assert whole == pytest.approx(added)
    assert whole["accuracy"] == pytest.approx(2 / 3)
    assert whole["nll_nats"] == pytest.approx(-np.log([0.7, 0.2, 0.9]).mean())
    assert whole["ece"] == pytest.approx((0.3 + 0.8 + 0.1) / 3, rel=1e-5)
