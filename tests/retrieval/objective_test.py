"""The objective of codes and their statistics, by hand (lecture 20.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import identity
from dlcore.retrieval import bottleneck, code_summary, code_sums, contrastive, contrastive_codes


@pytest.mark.slow
def test_views_of_an_image_are_one_group():
    views = jax.random.normal(jax.random.key(0), (3, 2, 4))
    objective = contrastive_codes(identity(), bottleneck("straight_through", 0), 0.5)
    batch = {"views": views, "group": jnp.array([7, 5, 9])}
    loss, aux = objective({}, {}, batch, key=None, train=False)
    signs = jnp.where(views >= 0, 1.0, -1.0)
    expected = contrastive(signs.reshape(6, 4), jnp.array([0, 0, 1, 1, 2, 2]), 0.5).mean()
    assert float(loss) == pytest.approx(float(expected)) == pytest.approx(float(aux.metrics["loss"].value()))


def test_noise_is_drawn_by_the_key_and_another_bottleneck_is_refused():
    squash, logits = bottleneck("noise", 2.0), jnp.zeros((1, 3))
    assert (squash(logits, jax.random.key(0)) != 0).all() and (squash(logits, None) == 0).all()
    with pytest.raises(ValueError, match="unknown bottleneck 'sign'"):
        bottleneck("sign", 0.0)


def test_statistics_count_the_rows_that_are_marked():
    plain = jnp.array([[50.0, 50.0], [50, -50], [9, 9]])
    moved = jnp.array([[50.0, -50.0], [50, -50], [-9, -9]])
    found = code_summary(jax.device_get(code_sums(plain, moved, jnp.array([True, True, False]))))
    assert found["bits_changed"] == pytest.approx(0.25)
    # The first bit is always 1, the second for half of the rows.
    assert found["bit_entropy"] == pytest.approx(0.5)
    soft = code_sums(jnp.array([[0.3]]), jnp.array([[-0.2]]), jnp.array([True]))["changed"].value()
    assert float(soft) == pytest.approx((np.tanh(0.3) + np.tanh(0.2)) / 2)
