"""Held-out numbers of a GAN whose networks are known: scores, the kernel's distance, and modes that are hit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import collapse
from dlcore.generative import gan, gan_held_out
from dlcore.types import Model

CENTRES = np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)


def system(shift):
    """Samples 0.1 z + shift, judged by the logit 3 x₁."""
    generator = Model(lambda key, z: ({}, {}), lambda p, s, z, **options: (0.1 * z + shift, s))
    discriminator = Model(lambda key, x: ({}, {}), lambda p, s, x, **options: (3 * x[:, 0], s))
    return gan.GAN(generator, discriminator, 2)


def keys(key, rows):
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def measured(shift, modes=None):
    rng = np.random.default_rng(0)
    x = jnp.asarray(CENTRES[rng.integers(0, 2, 40)] + 0.1 * rng.normal(size=(40, 2)), jnp.float32)
    batch = {"point": x, "row": jnp.arange(40), "where": jnp.arange(40) < 30}
    options = {"target": "point", "spread": 1.0, "modes": modes}
    found = gan_held_out.held_out(system(shift), gan.saturating(), keys, **options)
    params = {"generator": {}, "discriminator": {}}
    return found.summarize(found.evaluate(params, params, batch, jax.random.key(7))), x


@pytest.mark.slow
def test_scores_are_probabilities_of_marked_rows_and_the_distance_is_that_of_their_features():
    found, x = measured(np.array([2.0, 0.0], np.float32))
    z = jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys(jax.random.key(7), jnp.arange(40)))
    fake = 0.1 * z + jnp.array([2.0, 0.0])
    for name, values in (("d_fake", fake), ("d_heldout", x)):
        assert found[name] == pytest.approx(float(jax.nn.sigmoid(3 * values[:30, 0]).mean()), rel=1e-5)
    waves = collapse.frequencies(jax.random.key(0), 2, 1.0)
    real, drawn = (np.asarray(collapse.fourier_features(y[:30], waves)).sum(0) for y in (x, fake))
    assert found["mmd"] == pytest.approx(collapse.squared_mmd(real, drawn, 30.0), rel=1e-4)
    assert "modes" not in found


def test_a_generator_of_one_mode_hits_one_of_two():
    found, _ = measured(CENTRES[0], gan_held_out.Modes(CENTRES, 0.6))
    assert found["modes"] == 1.0 and found["inside_modes"] == 1.0
    nowhere, _ = measured(np.array([-2.0, -2.0], np.float32), gan_held_out.Modes(CENTRES, 0.6))
    assert nowhere["modes"] == 0.0 and nowhere["inside_modes"] == 0.0


def test_a_report_takes_the_class_of_the_nearest_training_example():
    known = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    samples = np.array([[0.1, 0.1], [4.0, 5.0], [5.0, 4.0], [0.9, 0.2]])
    report = collapse.examine(samples, known, np.array([0, 0, 1]), known + 0.1, 2, d_fake=0.4)
    np.testing.assert_array_equal(report.histogram, [2, 2])
    np.testing.assert_allclose(report.expected, [2 / 3, 1 / 3])
    assert report.diversity == collapse.diversity(samples, known) and report.d_fake == 0.4 and report.d_real is None
    assert report.duplicates == collapse.duplicates(samples, known + 0.1)
    assert report.copies == collapse.copies(samples, known, known + 0.1)
