"""Masks of rows, tokens and pixels in the objective, against loops over what counts (lecture 3.9–3.11)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import correct
from dlcore.losses import softmax_cross_entropy, squared_error, supervised
from dlcore.nn import Dense

RNG = np.random.default_rng(0)
SHAPES = {"tokens": (3, 4), "pixels": (2, 3, 4), "voxels": (2, 2, 3, 2)}
MODEL = Dense(3)


def mask_of(shape):
    mask = RNG.random(shape) < 0.6
    mask[0] = False
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_classes_of_tokens_and_pixels(shape):
    x, labels, mask = RNG.normal(size=(*shape, 5)), RNG.integers(0, 3, shape), mask_of(shape)
    params = jax.tree.map(
        lambda p: np.asarray(RNG.normal(size=p.shape), np.float32), MODEL.init(jax.random.key(0), jnp.asarray(x))[0]
    )
    nats, hits = [], []
    slope = np.zeros_like(params["kernel"], float)
    for index in np.ndindex(shape):
        if not mask[index]:
            continue
        logits = x[index] @ params["kernel"] + params["bias"]
        log_p = logits - np.log(np.exp(logits).sum())
        nats.append(-log_p[labels[index]])
        hits.append(float(logits.argmax() == labels[index]))
        slope += np.outer(x[index], np.exp(log_p) - np.eye(3)[labels[index]])
    spoilt = np.where(mask[..., None], x, np.nan)
    batch = {
        "image": jnp.asarray(spoilt, jnp.float32),
        "label": jnp.asarray(np.where(mask, labels, 255)),
        "where": mask,
    }
    batch = jax.tree.map(jnp.asarray, batch)
    objective = supervised(MODEL, softmax_cross_entropy, {"accuracy": correct})
    loss = lambda p: objective(p, {}, batch, key=None, train=True)  # noqa: E731
    (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(value, np.mean(nats), rtol=1e-5)
    np.testing.assert_allclose(gradient["kernel"], slope / len(nats), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(aux.metrics["accuracy"].value(), np.mean(hits), rtol=1e-6)
    assert int(aux.metrics["loss"].count) == len(nats) == int(aux.weight)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_prefix_of_the_loss_is_a_mask(axes):
    x, y = RNG.normal(size=(2, 3, 4, 2)), RNG.normal(size=(2, 3, 4, 2))
    mask = mask_of(x.shape[:axes])
    mask.flat[-1] = True
    identity = Dense(2)
    params = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    each = lambda outputs, targets: jnp.square(outputs - targets).sum(-1)  # noqa: E731
    expected = [((x[i] - y[i]) ** 2).sum() for i in np.ndindex(x.shape[:3]) if mask[i[:axes]]]
    batch = {name: jnp.asarray(array) for name, array in {"image": x, "label": y, "where": mask}.items()}
    value, _ = supervised(identity, each)(params, {}, batch, key=None, train=True)
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)


def test_a_mask_that_is_no_prefix_is_refused():
    batch = {"image": jnp.ones((2, 3)), "label": jnp.ones((2, 3)), "where": jnp.ones((3,), bool)}
    with pytest.raises(ValueError, match="supervised"):
        supervised(Dense(3), squared_error)(
            {"kernel": jnp.eye(3), "bias": jnp.zeros(3)}, {}, batch, key=None, train=True
        )
