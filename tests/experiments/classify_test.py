"""Classification: which network a configuration names, and what its features are (lecture 1, 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec, random_resized_crop
from dlcore.train import over_views, session
from experiments.classify import Config, build, features, make_model, make_preprocess

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


@pytest.mark.slow
def test_points_of_the_plane_are_classified_and_their_regions_drawn(tmp_path):
    settings = ["train.steps=150", "train.eval_every=0"]
    run = session.train("classify", data="two_moons", preset="smoke", settings=settings, folder=tmp_path / "run")
    assert run.metrics["test/accuracy"] > 0.95
    drawn = {path.stem for path in (tmp_path / "run/errors/figures").glob("*.png")}
    assert drawn == {"regions", "confusion", "calibration"}
    page = (tmp_path / "run/report.html").read_text()
    assert page.index('alt="regions"') < page.index('alt="curves"' if 'alt="curves"' in page else "<h2>Curves")
    points = run.run.data.test.all()["point"]
    at = (points - np.array(run.run.spec.mean)) / np.array(run.run.spec.std)
    predicted = run.functions["predict"](run.params, run.state, at.astype(np.float32)).argmax(-1)
    assert (predicted == run.run.data.test.all()["label"]).mean() == pytest.approx(run.metrics["test/accuracy"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"model": "cnn"}, "model=cnn needs images"),
        ({"shift": 1}, "augmentations are for images"),
        ({"crop": 0.5}, "are for"),
    ],
)
def test_what_points_have_no_meaning_for_is_refused(setting, message):
    spec = SPEC._replace(name="plane", shape=(2,), levels=None, mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(ValueError, match=message):
        build(Config(**{"model": "mlp", **setting}), spec)


def test_random_parts_are_cut_in_training_only():
    preprocess = make_preprocess(Config("mlp", crop=0.3), SPEC)
    batch = {"image": jnp.asarray(IMAGES), "label": jnp.array([0, 1])}
    plain = make_preprocess(Config("mlp"), SPEC)(batch, key=None, train=False)["image"]
    np.testing.assert_array_equal(preprocess(batch, key=None, train=False)["image"], plain)
    key = jax.random.key(3)
    found = preprocess(batch, key=key, train=True)["image"]
    expected = random_resized_crop(jax.random.fold_in(key, 6), plain, (0.3, 1.0))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.asarray(found) != np.asarray(plain)).any()
