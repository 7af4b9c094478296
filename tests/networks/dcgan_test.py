"""DCGAN: sizes, no useless biases, examples by themselves, labels (lecture 27.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import DCDiscriminator, DCGenerator, conditioned, critic
from dlcore.nn import Flatten, summarize


def paths(params):
    return [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree_util.tree_leaves_with_path(params)]


@pytest.mark.parametrize(
    ("shape", "widths", "inner"),
    [((8, 8, 1), (8, 4), "1×2×2×8"), ((28, 28, 1), (8, 4), "1×7×7×8"), ((32, 32, 3), (8, 6, 4), "1×4×4×8")],
)
def test_sizes_and_where_biases_are(shape, widths, inner):
    generator, discriminator = DCGenerator(shape, widths), DCDiscriminator(widths[::-1])
    z = jax.ShapeDtypeStruct((1, 16), jnp.float32)
    rows = {row.path: row.shape for row in summarize(generator, z)}
    assert rows[""] == "1×" + "×".join(map(str, shape)) and rows["start"] == inner
    params, _ = jax.eval_shape(generator.init, jax.random.key(0), z)
    biases = [path for path in paths(params) if path.endswith("bias")]
    assert all("batch_norm" in path or path == "image/conv_transpose_0/bias" for path in biases)
    x = jax.ShapeDtypeStruct((3, *shape), jnp.float32)
    params, state = jax.eval_shape(discriminator.init, jax.random.key(0), x)
    assert jax.eval_shape(discriminator.apply, params, state, x)[0].shape == (3,) and not state
    assert "logit/bias" not in paths(params)


@pytest.mark.slow
def test_images_lie_between_minus_one_and_one():
    net = DCGenerator((8, 8, 1), (8, 4))
    z = jax.random.normal(jax.random.key(0), (64, 5))
    params, state = net.init(jax.random.key(1), z)
    images, _ = net.apply(jax.tree.map(lambda p: 3 * p, params), state, z, train=True)
    assert images.shape == (64, 8, 8, 1) and float(jnp.abs(images).max()) <= 1 and float(images.std()) > 0.1
    assert float(jnp.abs(images[0] - images[1]).max()) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 3])
def test_discriminator_takes_every_example_by_itself(classes):
    net, x = DCDiscriminator((4, 6), classes=classes), jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    given = (jnp.arange(5) % 3,) if classes else ()
    params, state = net.init(jax.random.key(1), x, *given)
    whole, _ = net.apply(params, state, x, *given, train=True)
    one, _ = net.apply(params, state, x[3:4], *(y[3:4] for y in given), train=True)
    np.testing.assert_allclose(one, whole[3:4], rtol=1e-5)


def test_projection_is_the_inner_product_with_the_label_s_vector():
    net, x, label = critic(Flatten(), classes=4), jax.random.normal(jax.random.key(0), (6, 3)), jnp.arange(6) % 4
    params, state = net.init(jax.random.key(1), x, label)
    w, table = params["logit"]["kernel"][:, 0], params["label"]["kernel"].T
    np.testing.assert_allclose(net.apply(params, state, x, label)[0], (x * (w + table[label])).sum(1), rtol=1e-4)
    assert jnp.isnan(net.apply(params, state, x, label.at[2].set(4))[0]).tolist() == [i == 2 for i in range(6)]


def test_a_label_is_a_one_hot_part_of_the_input():
    net, z, label = conditioned(Flatten(), 3), jnp.ones((2, 2)), jnp.array([2, 0])
    out, _ = net.apply(*net.init(jax.random.key(0), z, label), z, label)
    np.testing.assert_array_equal(out, [[1, 1, 0, 0, 1], [1, 1, 1, 0, 0]])


def test_sizes_that_cannot_be_halved_are_refused():
    for widths in ((8, 8, 8), ()):
        with pytest.raises(ValueError, match="doublings do not end at 28×28"):
            DCGenerator((28, 28, 1), widths)
