"""Gradient estimators against closed forms and quadrature, and their variances in order (lecture 24.1)."""

import math

import jax
import jax.numpy as jnp
import linear_gaussian as known
import numpy as np
import pytest

from dlcore.generative import vae
from dlcore.generative.vae import posterior as posteriors
from dlcore.generative.vae import prior as priors
from dlcore.generative.vae.categorical import categorical, concrete
from dlcore.generative.vae.estimators import check_gradient, doubly_weighted, leave_one_out, score_surrogate
from dlcore.types import Model

DRAWS = 4000


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def trainable(count=3):
    """The linear-Gaussian model whose encoder's μ and log σ are params, the same for every image."""
    x = known.images(count)

    def encode(params, state, x, *, train=False, key=None):
        mean, log_std = params["mean"], params["log_std"]
        return tuple(jnp.broadcast_to(row, (len(x), 2)) for row in (mean, log_std)), state

    network = Model(lambda key, x: ({}, {}), encode)
    system = known.system(posteriors.normal(), priors.standard_normal())._replace(encoder=network)
    code = {"mean": jnp.asarray([0.4, -0.3]), "log_std": jnp.asarray([-0.7, -0.2])}
    return system, {"encoder": code, "decoder": {}}, x


def exact_negative_elbo(params, x):
    """E_q ‖x − Wz − b‖²/2σ² + const + KL, in closed form."""
    mean, log_std = params["encoder"]["mean"], params["encoder"]["log_std"]
    W, variance = known.W, jnp.exp(2 * log_std)
    residual = jnp.square(x - known.B - W @ mean).sum(-1) + (np.square(W) * variance).sum()
    nll = residual / (2 * known.STD**2) + known.D * (0.5 * math.log(2 * math.pi) + math.log(known.STD))
    kl = (0.5 * (variance + mean**2 - 1) - log_std).sum()
    return (nll + kl).mean()


def gradients(objective, params, x, draws=DRAWS):
    """[draws, 4]: the encoder's gradient from each key."""

    def one(key):
        found = jax.grad(lambda p: objective(p, known.EMPTY, {"image": x}, key=key, train=True)[0])(params)
        return jnp.concatenate([found["encoder"]["mean"], found["encoder"]["log_std"]])

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), draws)))


def unbiased(values, expected, errors=4.5):
    return (np.abs(values.mean(0) - expected) < errors * values.std(0) / math.sqrt(len(values)) + 1e-12).all()


@pytest.mark.slow
def test_estimators_of_the_elbo_are_unbiased_and_their_variances_in_order():
    system, params, x = trainable()
    exact = jax.grad(exact_negative_elbo)(params, x)["encoder"]
    expected = np.concatenate([exact["mean"], exact["log_std"]])
    variance = {}
    for name in ("pathwise", "stl", "score", "rloo"):
        objective = vae.negative_elbo(system, gradient=name, samples=4, analytic_kl=False)
        values = gradients(objective, params, x)
        assert unbiased(values, expected), name
        assert np.abs(expected).min() > 0.05
        variance[name] = values.var(0).sum()
    assert variance["pathwise"] < 0.3 * variance["rloo"] and variance["rloo"] < 0.8 * variance["score"]


@pytest.mark.slow
def test_all_estimators_report_the_same_bound():
    system, params, x = trainable()
    found = []
    for name in ("pathwise", "stl", "score", "rloo"):
        objective = vae.negative_elbo(system, gradient=name, samples=3, analytic_kl=False, beta=0.7)
        loss, aux = objective(params, known.EMPTY, {"image": x}, key=jax.random.key(3), train=True)
        found.append((float(loss), float(aux.metrics["elbo_nats"].value())))
    np.testing.assert_allclose(found, np.broadcast_to(found[0], (4, 2)), rtol=1e-12)


@pytest.mark.slow
def test_sticking_the_landing_has_no_variance_at_the_true_posterior():
    x = known.images(2)
    mean, log_std = known.posterior_of(np.asarray(x))

    def spread(name):
        def loss(mean, key):
            encoder = known.model(lambda x: (mean, jnp.broadcast_to(log_std, mean.shape)))
            system = known.system(posteriors.normal(), priors.standard_normal())._replace(encoder=encoder)
            objective = vae.negative_elbo(system, gradient=name, analytic_kl=False)
            return objective(known.EMPTY, known.EMPTY, {"image": x}, key=key, train=True)[0]

        keys = jax.random.split(jax.random.key(0), 50)
        return float(np.asarray(jax.vmap(lambda k: jax.grad(loss)(jnp.asarray(mean), k))(keys)).std(0).max())

    assert spread("stl") < 1e-10 and spread("pathwise") > 0.1


def quadrature(params, x, k, order=20):
    """The k-sample bound's gradient in one latent dimension, by Gauss–Hermite quadrature over all k draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    grid = np.stack(np.meshgrid(*[nodes] * k, indexing="ij"), -1).reshape(-1, k)
    weight = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * k, indexing="ij"), -1).reshape(-1, k), -1)

    def bound(params):
        z = params[0] + jnp.exp(params[1]) * grid
        log_q = -0.5 * grid**2 - params[1]
        log_w = -0.5 * z**2 - 0.5 * jnp.square((x - 1.5 * z) / 0.8) - log_q
        return weight @ (jax.nn.logsumexp(log_w, axis=1) - math.log(k))

    return jax.grad(bound)(params)


def iwae_gradients(name, params, x, k, draws):
    """[draws, 2] of the same bound by an estimator."""

    def loss(params, key):
        eps = jax.random.normal(key, (k, 1, 1))
        z, log_q = posteriors.normal().place({}, (params[0][None, None], params[1][None, None]), eps)
        if name == "dreg":
            fixed = jax.lax.stop_gradient((params[0][None, None], params[1][None, None]))
            z, tag = doubly_weighted(z)
            log_q = posteriors.normal().log_prob({}, fixed, z) - tag
        log_w = (-0.5 * z**2 - 0.5 * jnp.square((x - 1.5 * z) / 0.8)).sum(-1) - log_q
        return vae.iwae_bound(log_w).sum()

    keys = jax.random.split(jax.random.key(1), draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: jax.grad(loss)(params, key)))(keys))


@pytest.mark.slow
def test_doubly_reparametrised_gradients_are_unbiased_and_do_not_fade():
    params, x = jnp.asarray([0.3, -0.2]), 1.0
    for name in ("pathwise", "dreg"):
        assert unbiased(iwae_gradients(name, params, x, 3, 20_000), np.asarray(quadrature(params, x, 3))), name

    def signal_to_noise(name, k):
        values = iwae_gradients(name, params, x, k, 3000)
        return float(np.abs(values.mean(0) / values.std(0))[0])

    few, many = ({name: signal_to_noise(name, k) for name in ("pathwise", "dreg")} for k in (2, 128))
    assert many["pathwise"] < 0.6 * few["pathwise"] and many["dreg"] > 2 * few["dreg"]


@pytest.mark.slow
def test_the_objective_takes_the_doubly_reparametrised_gradient():
    system, params, x = trainable()
    found = {g: gradients(vae.negative_iwae(system, samples=5, gradient=g), params, x) for g in ("pathwise", "dreg")}
    error = np.sqrt((found["pathwise"].var(0) + found["dreg"].var(0)) / DRAWS)
    assert (np.abs(found["pathwise"].mean(0) - found["dreg"].mean(0)) < 4.5 * error).all()
    assert (found["dreg"].var(0) < found["pathwise"].var(0)).all()


def test_a_factor_before_the_loss_does_not_change_the_weights():
    log_w = lambda z: -jnp.square(z).sum(-1)  # noqa: E731

    def gradient(factor):
        def loss(z):
            z, tag = doubly_weighted(z)
            return factor * vae.iwae_bound(log_w(z) + tag).sum()

        return jax.grad(loss)(jnp.arange(6.0).reshape(3, 2, 1) / 3)

    np.testing.assert_allclose(gradient(-5.0), -5 * gradient(1.0), rtol=1e-12)
    assert not gradient(0.0).any()


def test_a_score_of_discrete_codes_by_enumeration():
    """RLOO of a categorical posterior against the gradient of the exact expectation over all codes."""
    logits, table = jnp.asarray([0.2, -0.4, 0.9]), jnp.asarray([1.0, 3.0, -2.0])
    exact = jax.grad(lambda a: jax.nn.softmax(a) @ table)(logits)
    family = categorical(3)

    def one(key, baseline):
        def loss(logits):
            outputs = (logits[None],)
            z, _ = family.place({}, outputs, family.noise(key, (2, 1, 3)))
            values = z @ table
            base = leave_one_out(values) if baseline else 0.0
            return score_surrogate(values, family.log_prob({}, outputs, z), base).mean()

        return jax.grad(loss)(logits)

    for baseline in (False, True):
        keys = jax.random.split(jax.random.key(0), 20_000)
        assert unbiased(np.asarray(jax.jit(jax.vmap(lambda k, b=baseline: one(k, b)))(keys)), np.asarray(exact))


REFUSED = {
    "dreg of the elbo": (
        lambda: vae.negative_elbo(trainable()[0], gradient="dreg"),
        "one of pathwise, stl, score, rloo",
    ),
    "score of iwae": (lambda: vae.negative_iwae(trainable()[0], samples=2, gradient="score"), "one of pathwise, dreg"),
    "rloo of one": (lambda: vae.negative_elbo(trainable()[0], gradient="rloo"), "samples=1; raise samples"),
    "discrete": (
        lambda: check_gradient("elbo", "pathwise", categorical(3), 1),
        "are not; use gradient='rloo'",
    ),
    "relaxed": (
        lambda: check_gradient("elbo", "rloo", concrete(3, lambda step: 0.5).training(None), 2),
        "density of the codes, which posterior 'concrete'",
    ),
    "analytic": (lambda: vae.negative_elbo(trainable()[0], gradient="stl", analytic_kl=True), "no closed form for"),
    "one draw": (lambda: leave_one_out(jnp.ones((1, 3))), "at least 2 draws"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_combinations_that_there_are_not(name):
    call, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        call()
