"""Class-conditional densities on spaces so small that everything can be summed or integrated (lecture 22)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative import class_density, decoder, vae
from dlcore.generative.class_density import of_flow, of_pixelcnn, of_vae, told, with_prior
from dlcore.generative.flow import AffineCoupling, Flatten, Logit, chain
from dlcore.networks import MLP, Beside, ConvConditioner, GatedPixelCNN
from dlcore.nn import Reshape, serial

SHAPE, CLASSES = (2, 2, 1), 2


def moved(tree, size=0.5):
    leaves, form = jax.tree.flatten(tree)
    noise = [size * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    return form.unflatten([leaf + n for leaf, n in zip(leaves, noise, strict=True)])


def started(density, levels, rows=4, size=0.5):
    x = jax.random.randint(jax.random.key(0), (rows, *SHAPE), 0, levels)
    batch = {"image": x, "label": jnp.arange(rows) % CLASSES}

    @jax.jit
    def start(batch):
        params, state = density.init(jax.random.key(1), batch)
        return moved(params, size), state

    return *start(batch), batch


def small_vae(levels=3, samples=4, latent=1):
    head = decoder.categorical(levels)
    encoder = Beside(MLP((5,), 2 * latent, activation="tanh"))
    outputs = Beside(serial(MLP((5,), 4 * levels, activation="tanh"), Reshape((2, 2, levels))))
    system = vae.VAE(encoder, outputs, head)
    return system, of_vae(system, latent, CLASSES, levels, samples=samples, chunk=min(samples, 500))


def small_flow(levels=4):
    network = ConvConditioner(3, 2, blocks=0, conditional=True)
    couplings = [AffineCoupling(network, mask="checkerboard", flip=f, conditional=True) for f in (False, True)]
    return of_flow(chain(Logit(0.05), *couplings, flatten=Flatten(SHAPE)), SHAPE, CLASSES, levels)


def small_pixelcnn(levels=2):
    head = decoder.categorical(levels)
    network = GatedPixelCNN(head.channels, features=4, windows=(3,), classes=CLASSES)
    return of_pixelcnn(network, network.model, head, SHAPE, levels)


def keys(count):
    return jax.random.split(jax.random.key(7), count)


def by_quadrature(system, params, state, x, label, observed):
    """log ∫ N(z) Π_observed p(x_i|z, y) dz on a fine grid."""
    z = jnp.linspace(-8, 8, 4001)[:, None]
    one_hot = jax.nn.one_hot(jnp.full(len(z), label), CLASSES)
    outputs, _ = system.decoder.apply(params["decoder"], state["decoder"], z, one_hot)
    nll = system.likelihood.nll(outputs, jnp.broadcast_to(x / 2, (len(z), *SHAPE)))
    log = -(nll * observed).sum((1, 2, 3)) - 0.5 * (z[:, 0] ** 2 + np.log(2 * np.pi))
    return jax.nn.logsumexp(log) + np.log(16 / 4000)


@pytest.mark.slow
def test_the_bound_of_a_conditional_vae_reaches_the_integral_with_pixels_missing():
    system, density = small_vae(samples=3000)
    params, state, batch = started(density, 3, size=0.3)
    observed = jnp.asarray(np.random.default_rng(0).random((4, *SHAPE)) < 0.6).at[0].set(True).at[1].set(False)
    run = jax.jit(density.log_prob)
    found = run(params, state, batch["image"], batch["label"], keys(4), observed)
    integral = jax.jit(lambda *args: by_quadrature(system, params, state, *args))
    for i in range(4):
        expected = float(integral(batch["image"][i], batch["label"][i], observed[i]))
        assert float(found[i]) == pytest.approx(expected, abs=0.03)
    assert float(found[1]) == pytest.approx(0, abs=0.03)  # Of no pixel at all.
    complete = run(params, state, batch["image"], batch["label"], keys(4), jnp.ones((4, *SHAPE), bool))
    np.testing.assert_allclose(run(params, state, batch["image"], batch["label"], keys(4)), complete, rtol=1e-5)


@pytest.mark.slow
def test_every_row_of_a_vae_is_told_its_own_class():
    system, density = small_vae()
    params, state, batch = started(density, 3)
    one_hot = jax.nn.one_hot(batch["label"], CLASSES)
    noise = jax.random.normal(jax.random.key(3), (5, 4, 1))
    pixels = batch["image"] / 2
    weights = jax.jit(lambda c, x, noise: vae.log_weights(told(system, c), params, state, x, noise))
    together = weights(one_hot, pixels, noise)
    for i in range(4):
        row = slice(i, i + 1)
        alone = weights(one_hot[row], pixels[row], noise[:, row])
        np.testing.assert_allclose(together[:, row], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_probabilities_of_all_images_of_a_class_add_up_to_1_and_bayes_is_the_table():
    density = with_prior(small_pixelcnn(), CLASSES)
    params, state, _ = started(density, 2)
    images = jnp.asarray(list(itertools.product(range(2), repeat=4))).reshape(16, *SHAPE)
    state = {**state, "log_prior": jnp.log(jnp.asarray([0.3, 0.7]))}
    run = jax.jit(lambda x, keys: class_density.predict(density, params, state, x, keys, state["log_prior"]))
    posterior, given = run(images, keys(16))
    table = np.exp(given)
    np.testing.assert_allclose(table.sum(0), 1, rtol=1e-5)
    joint = table * [0.3, 0.7]
    np.testing.assert_allclose(np.exp(posterior.log_evidence), joint.sum(1), rtol=1e-4)
    np.testing.assert_allclose(np.exp(posterior.log_posterior), joint / joint.sum(1, keepdims=True), rtol=1e-4)
    # Samples of the mixture have these probabilities.
    draw = jax.jit(lambda key, label=None: class_density.sample(key, density, params, state, 4000, label))
    drawn = draw(jax.random.key(0))
    index = np.asarray(drawn).reshape(-1, 4).round().astype(int) @ [8, 4, 2, 1]
    np.testing.assert_allclose(np.bincount(index, minlength=16) / 4000, joint.sum(1), atol=0.03)
    of_one = draw(jax.random.key(0), 1)
    index = np.asarray(of_one).reshape(-1, 4).round().astype(int) @ [8, 4, 2, 1]
    np.testing.assert_allclose(np.bincount(index, minlength=16) / 4000, table[:, 1], atol=0.03)


@pytest.mark.slow
def test_a_flow_is_a_bound_on_a_distribution_over_grey_levels():
    density = small_flow(levels=2)
    params, state, _ = started(density, 2, size=0.2)
    images = jnp.asarray(list(itertools.product(range(2), repeat=4))).reshape(16, *SHAPE)
    many = jnp.repeat(images, 500, axis=0)
    log_p = jax.jit(density.log_prob)(params, state, many, jnp.ones(len(many), jnp.int32), keys(len(many)))
    log_p = np.asarray(log_p, np.float64).reshape(16, 500)
    # The mean of p over the noise is P(x), but for what lies outside [0, 1) (α = .05 lets 20 % through).
    total = np.exp(log_p).mean(1).sum()
    assert 0.4 < total < 1.05 and np.exp(log_p.mean(1)).sum() < total


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: small_vae()[1], small_flow, small_pixelcnn])
def test_training_keeps_the_prior_and_draws_are_grey_levels(make):
    density = with_prior(make(), CLASSES)
    levels = {"exact": 2}.get(density.kind, 3)
    params, state, batch = started(density, levels)
    state = {**state, "log_prior": jnp.asarray([-2.0, -0.1])}
    (loss, aux), grads = jax.jit(jax.value_and_grad(lambda p: density.objective(
        p, state, batch, key=jax.random.key(0), train=True
    ), has_aux=True))(params)  # fmt: skip
    assert np.isfinite(float(loss)) and all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    np.testing.assert_array_equal(aux.state["log_prior"], state["log_prior"])
    assert jax.tree.structure(aux.state) == jax.tree.structure(state)
    images = jax.jit(density.draw)(jax.random.key(0), params, state, batch["label"])
    assert images.shape == (4, *SHAPE) and float(images.min()) >= 0 and float(images.max()) <= 1


@pytest.mark.slow
def test_sums_are_those_of_the_posterior():
    density = with_prior(small_pixelcnn(), CLASSES)
    params, state, batch = started(density, 2, rows=6)
    where = jnp.asarray([1, 1, 1, 0, 1, 1], bool)
    evaluate = jax.jit(lambda *args: class_density.evaluate(density, *args))
    sums = evaluate(params, state, {**batch, "where": where}, keys(6))
    found = class_density.summarize(jax.device_get(sums), 4)
    predict = jax.jit(lambda *args: class_density.predict(density, *args))
    posterior, given = predict(params, state, batch["image"], keys(6), state["log_prior"])
    kept, labels = np.flatnonzero(where), np.asarray(batch["label"])
    own = np.asarray(posterior.log_posterior)[kept, labels[kept]]
    assert found["nll_nats"] == pytest.approx(-own.mean(), rel=1e-5)
    assert found["bits_per_dim"] == pytest.approx(-np.asarray(posterior.log_evidence)[kept].mean() / 4 / np.log(2))
    given_label = -np.asarray(given)[kept, labels[kept]].mean() / 4 / np.log(2)
    assert found["bits_per_dim_given_label"] == pytest.approx(given_label, rel=1e-5)


@pytest.mark.slow
def test_refusals():
    density = with_prior(small_pixelcnn(), CLASSES)
    params, state, batch = started(density, 2)
    with pytest.raises(ValueError, match="cannot leave pixels out"):
        args = density, params, state, batch["image"], keys(4), state["log_prior"]
        class_density.predict(*args, jnp.ones((4, *SHAPE), bool))
    with pytest.raises(ValueError, match="grey levels"):
        of_vae(small_vae()[0]._replace(likelihood=decoder.gaussian(0.1)), 1, 2, 3, samples=1)
    with pytest.raises(ValueError, match="must be conditional"):
        of_flow(Flatten(SHAPE), SHAPE, 2, 4)
