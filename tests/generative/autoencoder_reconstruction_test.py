"""Autoencoders by hand, against PCA, and what noise, ties and penalties do to them (lecture 19, 21)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.generative import autoencoder
from dlcore.generative.autoencoder import Autoencoder, reconstruction
from dlcore.generative.code_penalty import kl_sparsity, units
from dlcore.generative.decoder import bernoulli
from dlcore.losses import absolute_error, activity_l1, l2, sigmoid_cross_entropy, squared_error
from dlcore.networks import MLPDecoder, MLPEncoder, mirrored_ties
from dlcore.nn import Activation, Dense, corruption, identity, serial
from dlcore.train import count_params, gradient_update
from dlcore.types import Carry

KEY = jax.random.key(0)
IDENTITY = Autoencoder(identity(), identity())
EMPTY = {"encoder": {}, "decoder": {}}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def trained(ae, x, objective, steps, rate=1e-2, seed=0):
    """Params after so many steps of Adam on the whole of x, its rate falling to 0."""
    params, state = autoencoder.init(jax.random.key(seed), ae, x)
    params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)
    update = gradient_update(objective, optax.adam(optax.cosine_decay_schedule(rate, steps)))

    def step(carry, i):
        return update.apply(carry, {"image": x}, key=jax.random.fold_in(KEY, i), step=i)[0], None

    @jax.jit
    def run(params):
        return jax.lax.scan(step, Carry(params, state, update.init(params, state)), jnp.arange(steps))[0].params

    return run(params), state


def test_the_target_is_the_clean_input_whatever_the_encoder_saw():
    half = lambda key, x: x * jnp.asarray([1.0, 0.0, 1.0, 0.0])  # noqa: E731
    batch = {"image": jnp.ones((1, 4))}
    objective = reconstruction(IDENTITY, squared_error, corrupt=half)
    loss, aux = objective(EMPTY, EMPTY, batch, key=KEY, train=True)
    assert float(loss) / 4 == 0.5 and float(aux.metrics["loss"].value()) == 2
    assert float(objective(EMPTY, EMPTY, batch, key=None, train=False)[0]) == 0
    noisy = reconstruction(IDENTITY, squared_error, corrupt=corruption("gaussian", 0.5))
    many = {"image": jnp.ones((1000, 40))}
    assert float(noisy(EMPTY, EMPTY, many, key=KEY, train=True)[0]) / 40 == pytest.approx(0.25, rel=0.03)
    with pytest.raises(ValueError, match="corruption needs a key"):
        noisy(EMPTY, EMPTY, many, key=None, train=True)


def test_losses_are_summed_over_pixels_and_averaged_over_marked_rows():
    x = jnp.asarray([[1.0, 0.0], [0.5, 0.25], [jnp.nan, 1.0]])
    batch = {"image": x, "where": jnp.asarray([True, True, False])}
    shift = serial(Activation(lambda h: h + 0.5))
    ae = Autoencoder(identity(), shift)
    for loss, expected in ((squared_error, 0.5), (absolute_error, 1.0)):
        objective = reconstruction(ae, loss)
        value, aux = objective(EMPTY, EMPTY, batch, key=None, train=True)
        assert float(value) == pytest.approx(expected) and float(aux.weight) == 2
        assert int(aux.metrics["loss"].count) == 2
    logits, p = np.asarray(x[:2]) + 0.5, 1 / (1 + np.exp(-np.asarray(x[:2]) - 0.5))
    nats = -(np.asarray(x[:2]) * np.log(p) + (1 - np.asarray(x[:2])) * np.log(1 - p)).sum() / 2
    for loss in (sigmoid_cross_entropy, bernoulli().nll):
        assert float(reconstruction(ae, loss)(EMPTY, EMPTY, batch, key=None, train=True)[0]) == pytest.approx(
            nats, rel=1e-5
        ), logits
    reduced = reconstruction(ae, lambda outputs, x: jnp.square(outputs - x).mean())
    with pytest.raises(ValueError, match=r"gives shape \(\) for 3 examples; it must not be reduced"):
        reduced(EMPTY, EMPTY, batch, key=None, train=True)
    narrow = Autoencoder(identity(), Dense(1))
    # The shape checker of the suite is asked before the function is.
    with pytest.raises((ValueError, TypeError), match=r"shapes must be equal|checking the parameters"):
        reconstruction(narrow, squared_error)(*autoencoder.init(KEY, narrow, x), batch, key=None, train=True)


def test_tied_linear_by_hand():
    ae = Autoencoder(Dense(1, bias=False), Dense(2, bias=False), {"kernel": "kernel"})
    batch = {"image": jnp.asarray([[1.0, 2.0]])}
    params, state = autoencoder.init(KEY, ae, batch["image"])
    assert count_params(params) == 2
    params = jax.tree.map(jnp.ones_like, params)
    objective = reconstruction(ae, squared_error)
    loss, gradient = jax.value_and_grad(lambda p: objective(p, state, batch, key=None, train=True)[0])(params)
    assert float(loss) == 5
    np.testing.assert_array_equal(gradient["encoder"]["kernel"], [[18], [18]])


@pytest.mark.slow
def test_tied_weights_are_one_leaf_and_stay_transposes_in_training():
    ae = Autoencoder(MLPEncoder((), 3), MLPDecoder((), (6,)), mirrored_ties(1))
    x = jax.random.normal(KEY, (20, 6))
    params, state = trained(ae, x, reconstruction(ae, squared_error), 5)
    assert count_params(params) == 27
    whole = autoencoder.decoder_params(ae, params)
    np.testing.assert_array_equal(whole["dense_0"]["kernel"], params["encoder"]["dense_0"]["kernel"].T)
    deep = Autoencoder(
        MLPEncoder((5,), 3, activation="tanh"), MLPDecoder((5,), (6,), activation="tanh"), mirrored_ties(2)
    )
    params, state = autoencoder.init(KEY, deep, x)
    e = {k: np.asarray(v["kernel"], np.float64) for k, v in params["encoder"].items()}
    code = np.tanh(np.asarray(x) @ e["dense_0"]) @ e["dense_1"]
    expected = np.tanh(code @ e["dense_1"].T) @ e["dense_0"].T
    np.testing.assert_allclose(autoencoder.reconstruct(deep, params, state, x), expected, rtol=1e-4, atol=1e-5)


def test_ties_that_do_not_fit_are_refused():
    x = jnp.ones((1, 6))
    for ties, message in (
        ({"dense_0/kernel": "dense_1/kernel"}, "the encoder has no leaf 'dense_1/kernel'"),
        ({"dense_9/kernel": "dense_0/kernel"}, "the decoder has no leaf 'dense_9/kernel'"),
        ({"dense_0/kernel": "dense_0/bias"}, r"dense_0/kernel \(3, 6\) is not the transpose"),
    ):
        with pytest.raises(ValueError, match=message):
            autoencoder.init(KEY, Autoencoder(MLPEncoder((), 3), MLPDecoder((), (6,)), ties), x)


def correlated(deviations, n=60, seed=0):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(len(deviations),) * 2))[0]
    return (rng.normal(size=(n, len(deviations))) * np.asarray(deviations)) @ axes.T + rng.normal(size=len(deviations))


def linear(d, code):
    return Autoencoder(MLPEncoder((), code), MLPDecoder((), (d,)))


def test_a_linear_autoencoder_spans_the_principal_subspace(float64):
    x = correlated((2.0, 1.5, 1.0, 0.4, 0.3, 0.2))
    ae = linear(6, 3)
    params, state = trained(ae, jnp.asarray(x), reconstruction(ae, squared_error), 2000, rate=0.05)
    centred = x - x.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3].T
    own = np.linalg.qr(np.asarray(params["decoder"]["dense_0"]["kernel"]).T)[0]
    angles = np.arccos(np.clip(np.linalg.svd(axes.T @ own)[1], -1, 1))
    assert angles.max() < 1e-2
    best = np.square(centred - centred @ axes @ axes.T).mean()
    found = np.square(np.asarray(autoencoder.reconstruct(ae, params, state, jnp.asarray(x))) - x).mean()
    assert best <= found < 1.0001 * best


@pytest.mark.slow
def test_an_over_complete_linear_one_is_the_identity_unless_it_is_regularised(float64):
    x = jnp.asarray(correlated((1.2, 1.0, 0.9, 0.8)))
    away = jnp.asarray(np.random.default_rng(5).normal(size=(50, 4)))
    errors = {}
    for weight in (0.0, 0.3):
        ae = linear(4, 6)
        objective = reconstruction(ae, squared_error, penalty=lambda p: weight * l2(p))  # noqa: B023
        params, state = trained(ae, x, objective, 1500, rate=0.05)
        errors[weight] = float(jnp.square(autoencoder.reconstruct(ae, params, state, away) - away).mean())
    assert errors[0.0] < 1e-6 and errors[0.3] > 1e-2


def digits():
    from sklearn.datasets import load_digits

    return jnp.asarray(load_digits().data / 16, jnp.float32)


@pytest.mark.slow
def test_activity_comes_near_the_target_of_the_sparse_penalty():
    x = digits()[:200]
    ae = Autoencoder(MLPEncoder((), 32, code="sigmoid"), MLPDecoder((), (64,)))
    means = {}
    for weight in (0.0, 10.0):
        penalty = lambda h, where: weight * kl_sparsity(h, 0.05, where=where)  # noqa: B023, E731
        params, state = trained(ae, x, reconstruction(ae, squared_error, code_penalty=penalty), 300)
        codes = autoencoder.encode(ae, params, state, x)[0]
        means[weight] = np.asarray(codes.mean(0))
    np.testing.assert_allclose(means[10.0], 0.05, atol=0.02)
    assert means[0.0].mean() > 0.2


@pytest.mark.slow
def test_an_l1_penalty_turns_rectified_units_off():
    x = digits()[:300]
    ae = Autoencoder(MLPEncoder((), 24, code="relu"), MLPDecoder((), (64,)))
    shares = []
    for weight in (0.0, 1.0):
        penalty = lambda h, where: weight * activity_l1(h).mean()  # noqa: B023, E731
        params, state = trained(ae, x, reconstruction(ae, squared_error, code_penalty=penalty), 300)
        sums = units(autoencoder.encode(ae, params, state, x)[0])
        shares.append(float(sums.on.sum() / (sums.count * 24)))
    assert shares[1] < 0.6 * shares[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("masking", 0.3),
        pytest.param("gaussian", 0.3, marks=pytest.mark.slow),
        pytest.param("salt_and_pepper", 0.2, marks=pytest.mark.slow),
    ],
)
def test_a_denoiser_gains_over_its_input(name, level):
    x = digits()
    corrupt = corruption(name, level)
    ae = Autoencoder(MLPEncoder((64,), 32, activation="relu", code="relu"), MLPDecoder((64,), (64,), activation="relu"))
    params, state = trained(ae, x[:1400], reconstruction(ae, squared_error, corrupt=corrupt), 400)
    noisy = corrupt(jax.random.key(9), x[1400:])
    psnr = [
        -10 * np.log10(float(jnp.square(y - x[1400:]).mean()))
        for y in (noisy, autoencoder.reconstruct(ae, params, state, noisy))
    ]
    assert psnr[1] > psnr[0] + 3


@pytest.mark.slow
def test_a_contractive_penalty_makes_codes_insensitive():
    x = digits()[:32]
    ae = Autoencoder(MLPEncoder((), 8, code="sigmoid"), MLPDecoder((), (64,)))
    found = []
    for weight in (0.0, 3.0):
        params, state = trained(ae, x, reconstruction(ae, squared_error, contractive=weight), 60)
        one = lambda x: autoencoder.encode(ae, params, state, x[None])[0][0]  # noqa: B023, E731
        found.append(float(jnp.square(jax.vmap(jax.jacobian(one))(x)).sum() / 32))
    assert found[1] < 0.5 * found[0]
    objective = reconstruction(ae, squared_error, contractive=1.0)
    loss, aux = objective(params, state, {"image": x}, key=None, train=True)
    parts = {name: float(mean.value()) for name, mean in aux.metrics.items()}
    assert parts["contraction"] == pytest.approx(found[1], rel=1e-5)
    assert float(loss) == pytest.approx(parts["loss"] + parts["contraction"], rel=1e-6)
    with pytest.raises(ValueError, match="contractive must not be negative"):
        reconstruction(ae, squared_error, contractive=-1.0)
