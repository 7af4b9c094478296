"""One table of distributions through every claim: scipy's densities and entropies, draws, divergences, extremes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from dlcore.stats import Distribution, independent, monte_carlo, monte_carlo_kl
from dlcore.stats import _continuous as continuous
from dlcore.stats import _discrete as discrete

LEVELS, DRAWS = 17, 20_000
MEAN = np.array([0.3, -0.5, 1.0])
ROOT = np.array([[1.0, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.2, 0.4]])
LOGITS = np.array([0.3, -1.0, 2.0, 0.0])


def level_masses(weights, means, scales):
    edges = (2 * np.arange(LEVELS - 1) + 1) / (LEVELS - 1) - 1
    cdf = scipy.stats.logistic(np.array(means)[:, None], np.array(scales)[:, None]).cdf(edges)
    full = np.concatenate([np.zeros((len(means), 1)), cdf, np.ones((len(means), 1))], 1)
    return scipy.stats.rv_discrete(values=(np.arange(LEVELS), np.asarray(weights) @ np.diff(full, axis=1)))


def categorical_of(logits):
    return scipy.stats.rv_discrete(values=(np.arange(len(logits)), scipy.special.softmax(logits)))


def mixture_params(logits, means, scales):
    return {"logits": logits, "mean": means, "log_scale": np.log(scales)}


def scale_params(mean, scale):
    return {"mean": mean, "log_scale": np.log(scale)}


def beta_params(a, b):
    return {"log_alpha": math.log(a), "log_beta": math.log(b)}


def full_params(mean, root):
    return continuous.full_normal_params(jnp.asarray(mean), jnp.asarray(root @ root.T))


LINE, WHOLE = np.linspace(-4, 5, 19), np.arange(LEVELS)
POINTS = np.random.default_rng(0).normal(size=(7, 3))
SHARES = scipy.special.softmax([0.5, -0.5])

# Family, parameters, scipy's, other parameters, where to compare.
TABLE = {
    "normal": (continuous.normal, scale_params(0.5, 1.7), scipy.stats.norm(0.5, 1.7), scale_params(-0.3, 1.1), LINE),
    "diagonal_normal": (
        continuous.diagonal_normal,
        scale_params(MEAN, [1.0, 0.5, 2.0]),
        scipy.stats.multivariate_normal(MEAN, np.diag([1.0, 0.25, 4.0])),
        scale_params(MEAN + 0.3, [1.2, 0.6, 1.5]),
        POINTS,
    ),
    "full_normal": (
        continuous.full_normal,
        lambda: full_params(MEAN, ROOT),
        scipy.stats.multivariate_normal(MEAN, ROOT @ ROOT.T),
        lambda: full_params(MEAN - 0.2, ROOT.T + np.eye(3)),
        POINTS,
    ),
    "laplace": (
        continuous.laplace,
        scale_params(0.5, 1.7),
        scipy.stats.laplace(0.5, 1.7),
        scale_params(0.0, 1.1),
        LINE,
    ),
    "logistic": (
        continuous.logistic,
        scale_params(0.5, 0.7),
        scipy.stats.logistic(0.5, 0.7),
        scale_params(0.0, 1.1),
        LINE,
    ),
    "bernoulli": (
        discrete.bernoulli,
        {"logit": 0.8},
        scipy.stats.bernoulli(scipy.special.expit(0.8)),
        {"logit": -0.4},
        np.arange(-1, 4),
    ),
    "beta": (
        continuous.beta,
        beta_params(2.5, 1.3),
        scipy.stats.beta(2.5, 1.3),
        beta_params(1.5, 2.0),
        np.linspace(-0.2, 1.2, 15),
    ),
    "categorical": (
        discrete.categorical,
        {"logits": LOGITS},
        categorical_of(LOGITS),
        {"logits": LOGITS[::-1].copy()},
        np.arange(-1, 6),
    ),
    "discretized_logistic": (
        discrete.discretized_logistic(LEVELS),
        scale_params(0.2, 0.3),
        level_masses([1.0], [0.2], [0.3]),
        scale_params(-0.1, 0.4),
        np.arange(-1, LEVELS + 2),
    ),
    "discretized_logistic_mixture": (
        discrete.discretized_logistic_mixture(LEVELS),
        mixture_params([0.5, -0.5], [0.6, -0.5], [0.1, 0.3]),
        level_masses(SHARES, [0.6, -0.5], [0.1, 0.3]),
        mixture_params([0.0, 0.0], [0.4, -0.3], [0.3, 0.3]),
        np.arange(-1, LEVELS + 2),
    ),
}
EVERY = pytest.mark.parametrize("name", TABLE)


def arrays(params, dtype=None):
    params = params() if callable(params) else params
    return {name: jnp.asarray(value, dtype or float) for name, value in params.items()}


@functools.cache
def measured(name):
    """Everything about a family in float64 by one compiled function, so that each compiles once."""
    family, params, _, others, places = TABLE[name]

    def everything(p, q, places):
        x = family.sample(jax.random.key(0), p, (DRAWS,))
        found = {"x": x, "at": family.log_prob(p, places), "p": family.log_prob(p, x), "q": family.log_prob(q, x)}
        found["entropy"] = family.entropy(p)
        if family.kl is not None:
            found |= {"kl": family.kl(p, q), "reverse": family.kl(q, p), "self": family.kl(p, p)}
        return found

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(everything)(arrays(params), arrays(others), jnp.asarray(places)))


@pytest.mark.slow
@EVERY
def test_log_prob_and_entropy_against_scipy(name):
    _, _, other, _, places = TABLE[name]
    with np.errstate(divide="ignore"):
        expected = (getattr(other, "logpdf", None) or other.logpmf)(places)
    found = measured(name)
    np.testing.assert_allclose(found["at"], expected, rtol=1e-9, atol=1e-12)
    assert found["at"].shape == np.shape(expected)
    assert float(found["entropy"]) == pytest.approx(float(other.entropy()), rel=1e-9)


@pytest.mark.sampled
@EVERY
def test_draws_have_its_moments_and_entropy(name):
    other, found = TABLE[name][2], measured(name)
    mean = np.asarray(other.mean() if callable(other.mean) else other.mean)
    x = found["x"].astype(float)
    assert x.shape == (DRAWS, *mean.shape)
    second = other.cov if hasattr(other, "cov") else np.asarray(other.var())
    centred = x - mean
    squares = np.einsum("ni,nj->nij", centred, centred) if mean.ndim else centred**2
    for statistic, expected in ((x, mean), (squares, second), (-found["p"], found["entropy"])):
        error = statistic.std(0) / math.sqrt(DRAWS)
        assert (np.abs(statistic.mean(0) - expected) < 4 * error + 1e-12).all()


@pytest.mark.sampled
@EVERY
def test_divergence_against_monte_carlo(name):
    found = measured(name)
    estimate = monte_carlo(jnp.asarray(found["p"] - found["q"], jnp.float32))
    assert 0 < float(estimate.standard_error) < 0.1
    if "kl" in found:
        exact = found["kl"]
        assert abs(found["self"]) < 1e-12 and exact > 0 and found["reverse"] > 0
    else:
        p, q = scipy.stats.logistic(0.5, 0.7), scipy.stats.logistic(0, 1.1)
        exact = scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -30, 30)[0]
    assert abs(float(estimate.mean) - exact) < 4 * float(estimate.standard_error)


@pytest.mark.slow
@EVERY
def test_parameters_of_ten_thousand_give_no_nan(name):
    family, params, _, others, places = TABLE[name]
    start, other, places = arrays(params, jnp.float32), arrays(others, jnp.float32), jnp.asarray(places)
    if name == "full_normal":
        start["log_cholesky"] = jnp.diagonal(start["log_cholesky"])
    extreme = jax.tree.map(lambda v: 1e4 * (1.0 - 2 * (jnp.arange(v.size) % 2)).reshape(v.shape), start)

    def functions(p):
        if name == "full_normal":
            p = {**p, "log_cholesky": jnp.diag(p["log_cholesky"])}
        values = (
            [family.entropy(p)] if family.kl is None else [family.entropy(p), family.kl(p, other), family.kl(other, p)]
        )
        return jnp.concatenate([family.log_prob(p, places), jnp.stack(values)])

    both = jax.tree.map(lambda v: jnp.stack([v, -v]), extreme)
    values, pull = jax.vjp(jax.vmap(functions), both)
    gradients = jax.jit(jax.vmap(lambda c: pull(jnp.broadcast_to(c, values.shape))[0]))(jnp.eye(values.shape[1]))
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves((values, gradients)))
    if name in ("bernoulli", "categorical"):
        assert np.isfinite(values[:, 1:-3]).sum() >= 4 and np.isfinite(values[:, -3:]).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_infinite_logits_are_certainty():
    sure, fair = {"logit": jnp.float32(jnp.inf)}, {"logit": jnp.float32(0)}
    np.testing.assert_array_equal(discrete.bernoulli.log_prob(sure, jnp.arange(2)), [-np.inf, 0])
    assert float(discrete.bernoulli.entropy(sure)) == 0
    assert float(discrete.bernoulli.kl(sure, fair)) == pytest.approx(math.log(2))
    assert float(discrete.bernoulli.kl(fair, sure)) == np.inf
    assert int(discrete.bernoulli.sample(jax.random.key(0), sure, (5,)).sum()) == 5


def test_a_draw_that_is_impossible_makes_the_divergence_infinite():
    half = {"logits": jnp.asarray([0.0, 0.0, -jnp.inf])}
    other = {"logits": jnp.asarray([0.0, -jnp.inf, 0.0])}
    estimate = monte_carlo_kl(jax.random.key(0), discrete.categorical, half, discrete.categorical, other, 50)
    assert float(estimate.mean) == float(estimate.standard_error) == np.inf
    found = monte_carlo(jnp.asarray([[1.0, jnp.inf], [3.0, 0.0]]))
    np.testing.assert_allclose(found.mean, [2.0, np.inf])
    np.testing.assert_allclose(found.standard_error, [1.0, np.inf])


def test_divergence_between_families():
    p, q = scale_params(0.0, 1.0), scale_params(0.0, 1.0)
    estimate = monte_carlo_kl(jax.random.key(0), continuous.normal, arrays(p), continuous.laplace, arrays(q), DRAWS)
    # E|x| = √(2/π) under N(0, 1).
    exact = math.log(2) + math.sqrt(2 / math.pi) - (0.5 + 0.5 * math.log(2 * math.pi))
    assert abs(float(estimate.mean) - exact) < 4 * float(estimate.standard_error)


def test_laplace_divergence_keeps_small_values():
    near = {"mean": jnp.float32(0), "log_scale": jnp.float32(1e-3)}
    assert float(continuous.laplace.kl(near, arrays(scale_params(0.0, 1.0)))) == pytest.approx(0.5e-6, rel=1e-2)


@pytest.mark.slow
def test_parameters_broadcast_and_draws_take_a_shape():
    params = {"mean": jnp.zeros((3, 1)), "log_scale": jnp.zeros(4)}
    for family in (continuous.normal, continuous.laplace, continuous.logistic):
        assert family.sample(jax.random.key(0), params, (5,)).shape == (5, 3, 4)
        assert family.entropy(params).shape == family.log_prob(params, jnp.float32(0)).shape == (3, 4)
    assert independent(continuous.normal).log_prob(params, jnp.zeros(4)).shape == (3,)
    logits = {"logits": jnp.zeros((3, 6))}
    assert discrete.categorical.sample(jax.random.key(0), logits, (2,)).shape == (2, 3)
    assert discrete.categorical.log_prob(logits, jnp.zeros((5, 1), jnp.int32)).shape == (5, 3)


def test_beta_at_the_ends_of_its_support():
    ends = jnp.asarray([0.0, 1.0])
    for a, b in ((1.0, 1.0), (2.0, 0.5), (0.5, 1.0)):
        found = continuous.beta.log_prob(arrays(beta_params(a, b)), ends)
        np.testing.assert_allclose(found, scipy.stats.beta(a, b).logpdf(ends), atol=1e-6)


def test_bad_parameters_are_refused():
    mean = jnp.zeros(2)
    cases = [
        (lambda: continuous.full_normal_params(mean, jnp.ones((2, 2))), "singular"),
        (lambda: continuous.full_normal_params(mean, jnp.asarray([[1.0, 2.0], [2.0, 1.0]])), "singular or not"),
        (lambda: continuous.full_normal_params(mean, jnp.asarray([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: continuous.full_normal_params(mean, jnp.full((2, 2), jnp.nan)), "symmetric"),
        (lambda: continuous.full_normal_params(mean, jnp.eye(3)), r"shapes \(2,\), \(3, 3\)"),
        (lambda: continuous.full_normal.kl(full_params(mean, np.eye(2)), full_params(MEAN, ROOT)), "means of shapes"),
        (lambda: discrete.categorical.kl({"logits": mean}, {"logits": jnp.zeros(3)}), "same outcomes"),
        (lambda: discrete.discretized_logistic(1), "2 levels"),
        (lambda: monte_carlo(jnp.zeros(1)), "at least 2"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_every_family_keeps_the_contract():
    for family, *_ in TABLE.values():
        assert isinstance(family, Distribution) and callable(family.log_prob) and callable(family.sample)
    assert continuous.logistic.kl is None
