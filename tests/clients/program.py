"""What every client's test does: run the steps, stop in the middle, resume, and compare."""

import jax
import numpy as np

from dlcore.train import Checkpoints, sha256


def same(ours, theirs, *, exact=False):
    """Equal structure, and leaves equal to the bit or to 1e-6 of the largest of each leaf."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(1.0, float(np.max(np.abs(b))))
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else 1e-6 * scale)


def resumes_to_the_bit(folder, start, step, batches):
    """The state and losses after all batches; a run from the checkpoint after half of them ends in the same bits."""
    state, losses, half = start, [], len(batches) // 2
    checkpoints = Checkpoints(folder)
    for i, batch in enumerate(batches):
        if i == half:
            checkpoints.save(state, {"batch": i}, step=i)
            checkpoints.wait()
        state, metrics = step(state, batch)
        losses.append(metrics["loss"].value())
    resumed, progress = checkpoints.restore(jax.eval_shape(lambda: start), half)
    checkpoints.close()
    for batch in batches[progress["batch"] :]:
        resumed, _ = step(resumed, batch)
    assert sha256(resumed) == sha256(state)
    return state, losses
