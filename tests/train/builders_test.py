"""What fits share: data of their own, and the evaluation of a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.data import Data, DataSpec, Split, in_memory
from dlcore.evaluation import classification_summary
from dlcore.nn import Dense
from dlcore.train import adversarial_update, augmented, classified, even_images, map_data, mistakes, signed_pixels
from dlcore.types import Aux, Carry, Mean

SPEC = DataSpec("rows", (2,), None, 3, ("a", "b", "c"), (5, 0, 2), (0.0,), (1.0,))


def split(size):
    return in_memory({"point": np.arange(2.0 * size, dtype=np.float32).reshape(size, 2), "label": np.arange(size) % 3})


def test_every_split_is_mapped_in_order_and_an_empty_one_stays():
    data = Data(SPEC, split(5), Split(0, lambda rows: {}), split(2))
    found = map_data(lambda rows: {"point": 2 * rows["point"], "row": rows["row"]}, data)
    np.testing.assert_array_equal(found.train.arrays["point"], 2 * data.train.arrays["point"])
    np.testing.assert_array_equal(found.train.read(np.array([3]))["row"], [3])
    assert (found.train.size, found.validation.size, found.test.size) == (5, 0, 2) and found.spec == SPEC


@pytest.mark.slow
def test_a_classifier_is_judged_by_marked_rows():
    model, x = Dense(3), jax.random.normal(jax.random.key(0), (6, 2))
    params, state = model.init(jax.random.key(1), x)
    labels, where = jnp.arange(6) % 3, jnp.arange(6) < 4
    found = classification_summary(
        classified(model)(params, state, {"image": x, "label": labels, "where": where}, jax.random.key(0))
    )
    log_p = np.asarray(jax.nn.log_softmax(x @ params["kernel"]))[:4]
    assert found["accuracy"] == pytest.approx((log_p.argmax(1) == labels[:4]).mean())
    assert found["nll_nats"] == pytest.approx(-log_p[np.arange(4), labels[:4]].mean(), rel=1e-5)


def test_sides_are_filled_with_black_until_they_are_even_and_points_stay():
    x = jnp.arange(1, 16, dtype=jnp.uint8).reshape(1, 3, 5, 1)
    found = np.asarray(even_images(4)({"image": x, "row": np.arange(1)}, key=None, train=False)["image"])
    assert found.shape == (1, 4, 8, 1) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, :3, :5], x)
    assert found.sum() == x.sum(), "what is added is black"
    points = {"point": np.ones((2, 2))}
    assert even_images(4)(points, key=None, train=True) is points


def test_signed_pixels_span_the_interval_from_minus_one_to_one():
    spec = SPEC._replace(shape=(1, 3, 1), levels=5)
    x = jnp.array([0, 2, 4], jnp.uint8).reshape(1, 1, 3, 1)
    found = signed_pixels(spec)({"image": x}, key=None, train=False)["image"]
    np.testing.assert_allclose(np.ravel(found), [-1, 0, 1])
    points = {"point": np.ones((2, 2))}
    assert signed_pixels(SPEC)(points, key=None, train=True) is points


@pytest.mark.slow
def test_augmentation_belongs_to_training_and_mixtures_have_targets():
    spec = SPEC._replace(shape=(4, 4, 1), levels=5, mean=(0.5,), std=(0.25,))
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.integers(0, 5, (6, 4, 4, 1)), jnp.uint8), "label": jnp.arange(6) % 3}
    plain = (np.asarray(batch["image"]) / 4 - 0.5) / 0.25
    mixed = augmented(spec, shift=1, flip=True, mix=1.0)
    np.testing.assert_allclose(mixed(batch, key=None, train=False)["image"], plain, rtol=1e-6)
    np.testing.assert_allclose(augmented(spec)(batch, key=jax.random.key(0), train=True)["image"], plain, rtol=1e-6)
    found = mixed(batch, key=jax.random.key(0), train=True)
    assert found["target"].shape == (6, 3) and (np.asarray(found["image"]) != plain).any()
    np.testing.assert_allclose(found["target"].sum(-1), 1, rtol=1e-6)
    assert "target" not in augmented(spec, flip=True)(batch, key=jax.random.key(0), train=True)


def test_the_most_confident_mistakes_come_first():
    spec = SPEC._replace(shape=(1, 1, 1), levels=5, sizes=(5, 0, 4))
    test = in_memory({"image": np.array([0, 1, 2, 3], np.uint8).reshape(4, 1, 1, 1), "label": np.array([0, 1, 1, 2])})
    table = jnp.array([[9.0, 0, 0], [1.0, 0, 0], [0, 0, 5.0], [0, 0, 1.0]])
    drawn = mistakes(lambda images: table[images.reshape(-1)], Data(spec, split(5), Split(0, lambda rows: {}), test))
    images, labels, predicted, confidence, _ = drawn["mistakes"].arguments
    np.testing.assert_array_equal(np.ravel(images), [0.5, 0.25])
    np.testing.assert_array_equal(labels, [1, 1])
    np.testing.assert_array_equal(predicted, [2, 0])
    assert confidence[0] > confidence[1]
    np.testing.assert_array_equal(drawn["confusion"].arguments[0].sum(1), [1, 2, 1])


def test_an_adversarial_step_moves_each_network_by_its_own_loss():
    def objective(name, sign):
        def loss(params, state, batch, *, key, train, step=None):
            value = sign * params[name]["w"] * params["generator"]["w"]
            report = {"d_real": Mean.of(value[None])} if name == "discriminator" else {}
            return value, Aux(state, {"loss": Mean.of(value[None]), **report})

        return loss

    params = {"discriminator": {"w": jnp.float32(2.0)}, "generator": {"w": jnp.float32(3.0)}}
    objectives = {"discriminator": objective("discriminator", 1.0), "generator": objective("generator", 0.5)}
    update = adversarial_update(objectives, dict.fromkeys(objectives, optax.sgd(0.1)), steps=2)
    carry = Carry(params, {}, update.init(params, {}))
    carry, _ = update.apply(carry, {"x": jnp.ones(1)}, key=jax.random.key(0), step=jnp.int32(0))
    assert float(carry.params["discriminator"]["w"]) == pytest.approx(2.0 - 2 * 0.1 * 3.0), "two steps of the first"
    assert float(carry.params["generator"]["w"]) == pytest.approx(3.0 - 0.1 * 3.0), "one of the second, d(w²/2) = w"
