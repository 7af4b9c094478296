"""Classification: which network a configuration names, and what its features are (lecture 1, 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.train import over_views
from experiments.classify import Config, features, make_model

SPEC = DataSpec("squares", (16, 16, 1), 256, 3, ("a", "b", "c"), (8, 0, 8), (0.5,), (0.3,))
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    "config", [Config(widths=(4,), dropout=0.1), Config(widths=(4,), hidden=5), Config("mlp", (6, 5), dropout=0.1)]
)
def test_logits_are_the_last_layer_of_the_features(config):
    params, state = jax.jit(make_model(config, SPEC).init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    values, logits = features(config, SPEC)(params, state, IMAGES)
    # Its bias starts at 0.
    kernel = next(leaf for leaf in jax.tree.leaves(params)[::-1] if leaf.ndim == 2 and leaf.shape[-1] == 3)
    np.testing.assert_allclose(logits, values @ kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "width"), [("lenet", 84), ("vgg11", 512), ("cifar_resnet20", 64)])
def test_features_of_a_published_network(name, width):
    config = Config(name)
    like = jax.eval_shape(make_model(config, SPEC).init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    values, logits = jax.eval_shape(features(config, SPEC), *like, IMAGES)
    assert values.shape == (2, width) and logits.shape == (2, 3)


def test_a_name_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'cn'; did you mean 'cnn'\? There are mlp, cnn, "):
        make_model(Config("cn"), SPEC)
    with pytest.raises(ValueError, match="did you mean 'cifar_resnet20'"):
        make_model(Config("cifar-resnet20"), SPEC)


def test_images_that_are_halved_away_are_refused():
    thin = SPEC._replace(shape=(3, 40, 1))
    with pytest.raises(ValueError, match="halves the sides 2 times, and images are 3×40; use fewer widths"):
        make_model(Config(widths=(4, 4), hidden=8), thin)
    make_model(Config(widths=(4, 4)), thin)
    with pytest.raises(ValueError, match="vgg11 needs images of at least 16 pixels, got 3"):
        make_model(Config("vgg11"), thin)


def test_test_time_augmentation_averages_probabilities_over_ten_views():
    config = Config(widths=(4,), test_flip=True, test_shift=1)
    model = make_model(config, SPEC)
    images = jax.random.normal(jax.random.key(1), (3, 16, 16, 1))
    params, state = jax.jit(model.init)(jax.random.key(0), images)
    predict = jax.jit(over_views(model, shift=1, flip=True))
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    moved = [padded[:, y : y + 16, x : x + 16] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    every = [model.apply(params, state, view)[0] for view in (*moved, *(view[:, :, ::-1] for view in moved))]
    np.testing.assert_allclose(
        np.exp(predict(params, state, images)), np.mean([jax.nn.softmax(logits) for logits in every], 0), rtol=1e-5
    )
    np.testing.assert_allclose(
        predict(params, state, images[:, :, ::-1]), predict(params, state, images), rtol=1e-4, err_msg="mirror images"
    )
    with pytest.raises(ValueError, match="test_shift must not be negative"):
        over_views(model, shift=-1)
