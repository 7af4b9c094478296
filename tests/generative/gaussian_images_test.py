"""Gaussian models of images: dequantised, chosen on held-out images, measured (lecture 22)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.generative import gaussian_images, gaussian_study

SHAPE, LEVELS, CLASSES = (2, 2, 1), 5, 2


def rows(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    middle = np.where(labels[:, None], [3.0, 1.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0])
    images = np.clip(np.round(middle + rng.normal(size=(count, 4)) * [1, 1, 1, 0]), 0, LEVELS - 1)
    return {"image": images.reshape(count, *SHAPE).astype(np.uint8), "label": labels.astype(np.int32)}


@pytest.mark.slow
@pytest.mark.parametrize("name", gaussian_images.MODELS)
def test_the_density_is_that_of_dequantised_pixels_and_no_pixel_is_constant(name):
    train = rows(60, 0)
    model = gaussian_images.fit(name, jnp.asarray(train["image"]), jnp.asarray(train["label"]), CLASSES, LEVELS)
    wide = model.variance[0, 3] if name == "naive_bayes" else model.covariance[0, 3, 3]
    assert float(wide) == pytest.approx(1 / (12 * LEVELS**2), rel=1e-4)  # The last pixel is 0 in every image.
    keys = jax.random.split(jax.random.key(3), 8)
    images = train["image"][:8]
    noise = np.stack([np.asarray(jax.random.uniform(key, SHAPE)) for key in keys])
    y = ((images + noise) / LEVELS).reshape(8, 4)
    found = gaussian_images.log_likelihoods(model, jnp.asarray(images), keys, LEVELS)
    observed = jnp.asarray([True, False, True, True]).reshape(SHAPE)
    part = gaussian_images.log_likelihoods(model, jnp.asarray(images), keys, LEVELS, observed)
    for c in range(CLASSES):
        full = np.diag(model.variance[c]) if name == "naive_bayes" else model.covariance[c % len(model.covariance)]
        exact = scipy.stats.multivariate_normal.logpdf(y, model.mean[c], full) - 4 * np.log(LEVELS)
        np.testing.assert_allclose(found[:, c], exact, rtol=1e-3, atol=1e-3)
        o = np.asarray(observed).ravel()
        marginal = scipy.stats.multivariate_normal.logpdf(y[:, o], model.mean[c][o], np.asarray(full)[np.ix_(o, o)])
        np.testing.assert_allclose(part[:, c], marginal - 3 * np.log(LEVELS), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_shrinkage_is_the_one_that_held_out_images_prefer_and_rows_that_do_not_count_do_not():
    train, held, shrinkages = rows(24, 1), rows(40, 2), (0.001, 0.1, 0.9)
    where = np.arange(24) < 12
    models, chosen = gaussian_images.choose(train, held, CLASSES, LEVELS, shrinkages, where=where)
    part = {name: jnp.asarray(array[:12]) for name, array in train.items()}
    for name in ("lda", "qda"):
        nats = []
        for s in shrinkages:
            model = gaussian_images.fit(name, part["image"], part["label"], CLASSES, LEVELS, shrinkage=s)
            posterior = np.asarray(gaussian_images.posterior_of(model, jnp.asarray(held["image"]), LEVELS))
            nats.append(-posterior[np.arange(40), held["label"]].mean())
            if s == chosen[name]:
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), models[name], model)
        assert chosen[name] == shrinkages[int(np.argmin(nats))]


@pytest.mark.slow
def test_a_study_measures_on_the_test_rows_whatever_the_block():
    train, held, test = rows(60, 0), rows(30, 2), rows(50, 3)
    found = gaussian_study.study(train, held, test, CLASSES, LEVELS, (0.01, 0.3))
    blocks = gaussian_study.study(train, held, test, CLASSES, LEVELS, (0.01, 0.3), block=17)
    named = gaussian_study.named_metrics(found)
    for name, value in gaussian_study.named_metrics(blocks).items():
        assert named[name] == pytest.approx(value, rel=1e-4), name
    assert named["accuracy_lda"] > 0.75 and 0 < named["bits_per_dim_qda"] < np.log2(LEVELS) + 0.5
    assert named["shrinkage_qda"] in (0.01, 0.3)
    kept = gaussian_images.restored(found["models"]["naive_bayes"])
    assert type(kept).__name__ == "NaiveBayes"
    assert type(gaussian_images.restored(found["models"]["lda"])).__name__ == "Gaussians"


@pytest.mark.slow
def test_draws_are_grey_levels_of_their_class():
    train = rows(200, 0)
    models, _ = gaussian_images.choose(train, rows(30, 2), CLASSES, LEVELS, (0.01,))
    labels = jnp.arange(400) % 2
    for model in models.values():
        drawn = np.asarray(gaussian_images.draw(jax.random.key(0), model, labels, SHAPE, LEVELS)) * (LEVELS - 1)
        np.testing.assert_allclose(drawn, drawn.round(), atol=1e-5)
        for c in range(2):
            own = train["image"][train["label"] == c].mean(0)
            np.testing.assert_allclose(drawn[np.asarray(labels) == c].mean(0), own, atol=0.3)


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="naive_bayes, lda, qda"):
        gaussian_images.fit("qdaa", jnp.zeros((4, *SHAPE), jnp.uint8), jnp.asarray([0, 1, 0, 1]), 2, 5)
