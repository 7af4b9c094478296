"""Evaluation adds up exactly over thousands of batches (lecture 1.1–1.3)."""

import jax
import numpy as np

from dlcore.data import in_memory
from dlcore.parallel.mesh import make_mesh
from dlcore.train import Fit, LoopConfig, create, make_evaluate
from dlcore.types import Mean, Update

NOTHING = Update(lambda params, state: {}, lambda carry, batch, *, key, step: (carry, {}))


def test_sums_over_thousands_of_batches_keep_their_digits():
    values = np.full(6001, 0.1, np.float32)
    stage = Fit(
        loop=LoopConfig(),
        init=lambda key, batch: ({}, {}),
        update=NOTHING,
        preprocess=lambda batch, *, key, train: dict(batch),
        evaluate=lambda params, state, batch, key: {
            "mean": Mean.of(batch["x"], batch["where"]),
            "big": Mean(batch["where"].sum() * 2.0**22 + 1, batch["where"].sum() * 2**24 + 1),
        },
        summarize=lambda sums: {"value": float(sums["mean"].value()), **sums},
        monitor=("value", "min"),
    )
    state = create(jax.random.key(0), lambda key: ({}, {}), NOTHING)
    found = make_evaluate(stage, make_mesh(1), 2)(state, in_memory({"x": values}), jax.random.key(0))
    np.testing.assert_allclose(found["value"], float(np.float32(0.1)), rtol=1e-7)
    assert int(found["mean"].count) == 6001
    assert (float(found["big"].total), int(found["big"].count)) == (6001 * 2.0**22 + 3001, 6001 * 2**24 + 3001)
