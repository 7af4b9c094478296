"""Shapes that would broadcast, narrow dtypes, plain numbers and traced settings, over all of the statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.stats import _continuous as continuous
from dlcore.stats import _discrete as discrete
from dlcore.stats import _discretized as discretized
from dlcore.stats import _fit as fit
from dlcore.stats import _information as information
from dlcore.stats import _minibatch as minibatch
from dlcore.stats import _moments as moments
from dlcore.stats import _posterior as posterior
from dlcore.stats import consistency, density, independent, kl_normal, monte_carlo_kl, summarize
from dlcore.stats.table import bayes, condition, make_table, marginalize


def scale(shape=(), mean=0.0):
    return {"mean": jnp.full(shape, mean), "log_scale": jnp.zeros(shape)}


def pmfs(*shape):
    return jnp.full((*shape, 4), 0.25)


BERNOULLI = {"logit": jnp.zeros(3)}, {"logit": jnp.zeros((3, 1))}
CATEGORICAL = {"logits": jnp.zeros((3, 4))}, {"logits": jnp.zeros((3, 1, 4))}
BETA = tuple({"log_alpha": jnp.zeros(s), "log_beta": jnp.zeros(s)} for s in ((3,), (3, 1)))
FULL = {"mean": jnp.zeros(3), "log_cholesky": jnp.zeros((3, 3))}
LEVELS = discrete.discretized_logistic(4)

BROADCAST = {
    "kl_normal": lambda: kl_normal(jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)), jnp.zeros((3, 1))),
    "kl_normal, log_std": lambda: kl_normal(jnp.zeros((3, 1)), jnp.zeros(3)),
    "normal": lambda: continuous.normal.kl(scale((3,)), scale((3, 1))),
    "laplace": lambda: continuous.laplace.kl(scale((3,)), scale((3, 1))),
    "beta": lambda: continuous.beta.kl(*BETA),
    "bernoulli": lambda: discrete.bernoulli.kl(*BERNOULLI),
    "categorical": lambda: discrete.categorical.kl(*CATEGORICAL),
    "levels": lambda: LEVELS.kl(scale((3,)), scale((3, 1))),
    "diagonal, x": lambda: continuous.diagonal_normal.log_prob(scale((3,)), jnp.zeros((5, 1))),
    "diagonal, params": lambda: continuous.diagonal_normal.log_prob(scale((1,)), jnp.zeros((5, 3))),
    "diagonal, no axis": lambda: continuous.diagonal_normal.log_prob(scale(), jnp.zeros((5, 3))),
    "diagonal, kl": lambda: continuous.diagonal_normal.kl(scale((3,)), scale((1,))),
    "vectors of coins": lambda: independent(discrete.bernoulli).log_prob(BERNOULLI[0], jnp.zeros((5, 1))),
    "full, x": lambda: continuous.full_normal.log_prob(FULL, jnp.zeros((5, 1))),
    "full, factor": lambda: continuous.full_normal.entropy({**FULL, "log_cholesky": jnp.zeros((1, 1))}),
    "monte_carlo_kl": lambda: monte_carlo_kl(
        jax.random.key(0), continuous.normal, scale((3,)), continuous.laplace, scale((3, 1)), 5
    ),
    "kl": lambda: information.kl(pmfs(3), pmfs(3, 1)),
    "js": lambda: information.js(pmfs(3), pmfs(3, 1)),
    "cross_entropy": lambda: information.cross_entropy(pmfs(3), pmfs(3, 1)),
    "log_kl": lambda: information.log_kl(jnp.log(pmfs(3)), jnp.log(pmfs(3, 1))),
    "logistic_log_mass": lambda: discretized.logistic_log_mass(
        jnp.zeros(3, jnp.int32), jnp.zeros((3, 1)), jnp.zeros((3, 1)), 4
    ),
    "mixture_log_mass": lambda: discretized.mixture_log_mass(
        jnp.zeros(3, jnp.int32), *(jnp.zeros((1, 2)) for _ in range(3)), 4
    ),
    "mixture_mean": lambda: discretized.mixture_mean(jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.zeros((3, 1)), 4),
    "mixture_sample": lambda: discretized.mixture_sample(
        jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros((3, 2)), jnp.zeros((3, 2)), 4
    ),
    "bayes": lambda: bayes(make_table(pmfs(), ("a",)), jnp.ones((4, 1))),
    "pmf_moments": lambda: moments.pmf_moments(jnp.zeros((4, 1)), pmfs()),
    "summarize": lambda: summarize(jnp.zeros((5, 3)), jnp.zeros((5, 1))),
    "fit_linear": lambda: fit.fit_linear(jnp.ones((5, 2)), jnp.ones((1, 5))),
    "batch_moments": lambda: minibatch.batch_moments(jnp.zeros(5), 2),
    "predicted_covariance": lambda: minibatch.predicted_covariance(jnp.zeros(5), 2),
    "likelihood": lambda: posterior.negative_log_likelihood(
        lambda p, data: continuous.normal.log_prob({"mean": data[0] @ p["w"], "log_scale": 0.0}, data[1]),
        {"w": jnp.zeros(2)},
        (jnp.zeros((5, 2)), jnp.zeros((5, 1))),
    ),
    "prior": lambda: posterior.normal_log_prior({"w": jnp.zeros(3)}, jnp.ones(3)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", BROADCAST)
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match=r"shape|elements|axis") as raised:
        BROADCAST[name]()
    assert any(character.isdigit() for character in str(raised.value)) or "no axis" in name


@pytest.mark.slow
def test_what_is_said_to_broadcast_does():
    x = jnp.linspace(-1, 1, 15).reshape(5, 3)
    np.testing.assert_allclose(
        continuous.normal.log_prob(scale((3,), 0.5), x), scipy.stats.norm(0.5).logpdf(x), rtol=1e-5
    )
    assert continuous.normal.kl(scale((3, 1)), scale((1, 4))).shape == (3, 4)
    assert continuous.normal.kl(scale((3, 2)), scale()).shape == (3, 2)
    assert information.kl(pmfs(3, 2), pmfs()).shape == information.kl(pmfs(1, 2), pmfs(3, 2)).shape == (3, 2)
    assert continuous.diagonal_normal.kl(scale((4, 3)), scale((3,))).shape == (4,)
    assert continuous.diagonal_normal.log_prob(scale((3,)), jnp.zeros((5, 3))).shape == (5,)


@pytest.mark.slow
def test_numbers_of_python_are_numbers():
    one = {"mean": 0, "log_scale": 1}
    for family, params, x, expected in (
        (continuous.normal, one, 2, scipy.stats.norm(0, np.e).logpdf(2)),
        (continuous.normal, {"mean": 0.5, "log_scale": -1.0}, 0.25, scipy.stats.norm(0.5, np.exp(-1)).logpdf(0.25)),
        (continuous.laplace, one, 2, scipy.stats.laplace(0, np.e).logpdf(2)),
        (continuous.logistic, one, np.int64(2), scipy.stats.logistic(0, np.e).logpdf(2)),
        (continuous.beta, {"log_alpha": 1, "log_beta": 0}, 0.25, scipy.stats.beta(np.e, 1).logpdf(0.25)),
        (discrete.bernoulli, {"logit": 1}, 1, -np.log1p(np.exp(-1))),
        (discrete.bernoulli, {"logit": 1}, True, -np.log1p(np.exp(-1))),
        (discrete.categorical, {"logits": np.array([0, 1])}, 1, -np.log1p(np.exp(-1))),
        (continuous.diagonal_normal, {"mean": np.array([0, 1]), "log_scale": np.zeros(2)}, np.array([0, 1]), -1.837877),
    ):
        assert float(family.log_prob(params, x)) == pytest.approx(expected, rel=1e-5)
        assert np.isfinite(family.entropy(params)).all()
        assert family.kl is None or float(family.kl(params, params)) == pytest.approx(0, abs=1e-7)
        assert np.isfinite(family.sample(jax.random.key(0), params)).all()
    assert float(kl_normal(0, 0, 1, 0)) == 0.5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_single(dtype):
    params = {"mean": jnp.asarray(0.5, dtype), "log_scale": jnp.asarray(-2, dtype)}
    x = jnp.asarray([0.25, 3.0, -200.0], dtype)
    found = continuous.normal.log_prob(params, x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, scipy.stats.norm(0.5, np.exp(-2)).logpdf(np.asarray(x, float)), rtol=1e-5)
    p = jnp.asarray([2**-12, 1 - 2**-12], dtype)
    p = p.at[1].set(1 - p[0]) if dtype == jnp.bfloat16 else p
    logits = jnp.asarray([20, -20.5, 3], dtype)
    expected = scipy.special.log_softmax(np.asarray(logits, float))
    np.testing.assert_allclose(discrete.categorical.log_prob({"logits": logits}, np.arange(3)), expected, rtol=1e-5)
    exact = np.asarray(jnp.full(1024, 1 / 1024, dtype), float)
    assert float(information.entropy(jnp.full(1024, 1 / 1024, dtype))) == pytest.approx(
        scipy.stats.entropy(exact), rel=1e-6
    )


NARROW = [jnp.bfloat16, jnp.float16, jnp.int8, jnp.uint8, jnp.int16, jnp.uint16, jnp.int32, jnp.uint32, bool]


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", NARROW)
def test_moments_of_data_of_any_dtype(dtype):
    top = 1 if dtype is bool else 100
    raw = np.random.default_rng(0).integers(0, top + 1, (3000, 2))
    data = jnp.asarray(raw).astype(dtype)
    exact = np.asarray(data).astype(float)
    found = moments.sample_moments(data, unbiased=True)
    np.testing.assert_allclose(found, [exact.mean(0), exact.var(0, ddof=1), exact.std(0, ddof=1)], rtol=1e-5)
    normal = fit.fit_normal(data)
    np.testing.assert_allclose([normal["mean"], np.exp(normal["log_scale"])], [exact.mean(0), exact.std(0)], rtol=1e-5)
    if jnp.issubdtype(dtype, jnp.integer):
        ones = fit.fit_bernoulli((data > 70).astype(dtype))
        share = (exact > 70).mean(0)
        np.testing.assert_allclose(jax.nn.sigmoid(ones["logit"]), share, rtol=1e-5)
        classes = fit.fit_categorical(data, 101)
        np.testing.assert_allclose(
            np.exp(classes["logits"])[0], np.bincount(raw[:, 0], minlength=101) / 3000, rtol=1e-5
        )


def test_values_far_from_zero_keep_the_digits_in_which_they_differ():
    alternating = np.tile([1e6, 1e6 + 1], 2048)
    for data in (jnp.asarray(alternating, jnp.float32), jnp.asarray(alternating, jnp.int32) + 1_999_000_000):
        found = moments.sample_moments(data, unbiased=True)
        assert float(found.variance) == pytest.approx(0.250061, rel=1e-5)
        assert float(found.std) == pytest.approx(0.250061**0.5, rel=1e-5)
    unsigned = jnp.asarray(alternating, jnp.uint32) + jnp.uint32(4_200_000_000)
    assert float(moments.sample_moments(unsigned, unbiased=True).variance) == pytest.approx(0.250061, rel=1e-5)
    pair = jnp.asarray([1e6, 1e6 + 1])
    for found in (
        moments.pmf_moments(pair, jnp.asarray([0.5, 0.5])),
        moments.density_moments(pair, density.make_density(jnp.asarray([0.5, 0.5]), (None,), ("x",))),
    ):
        np.testing.assert_allclose(found, [1e6 + 0.5, 0.25, 0.5], rtol=1e-6)
    study = summarize(pair + 7, 1e6)
    np.testing.assert_allclose([study.bias, study.variance, study.mse], [7.5, 0.25, 56.5], rtol=1e-6)
    extremes = jnp.asarray([-(2**31), 2**31 - 1], jnp.int32)
    np.testing.assert_allclose(moments.sample_moments(extremes).variance, (2**31 - 0.5) ** 2, rtol=1e-5)


@pytest.mark.slow
def test_ten_million_entries():
    n = 10**7
    tenth = jnp.full(n, 0.1, jnp.float32)
    exact = float(np.float32(0.1))
    assert float(moments.sample_moments(tenth).mean) == pytest.approx(exact, rel=1e-6)
    assert float(moments.sample_moments(tenth).variance) < 1e-12
    grid = jnp.linspace(0, 1, n)
    one = density.Density(jnp.ones(n), (grid,), ("x",))
    assert float(density.integral(one)) == pytest.approx(1, rel=1e-5)
    coins = jnp.arange(n) % 5 == 0
    assert float(jax.nn.sigmoid(fit.fit_bernoulli(coins.astype(jnp.int8))["logit"])) == pytest.approx(0.2, rel=1e-6)
    signs = 0.1 * (1 - 2 * (jnp.arange(2**20) % 2))[:, None]
    assert float(minibatch.predicted_covariance(signs, 1)[0, 0]) == pytest.approx(0.01, rel=1e-5)


def test_integer_tables_are_distributions():
    certain = make_table(np.array([[0, 1], [0, 0]]), ("a", "b"))
    assert certain.probabilities.dtype == jnp.float32
    np.testing.assert_array_equal(marginalize(certain, "a").probabilities, [0, 1])
    np.testing.assert_array_equal(condition(certain, a=0).probabilities, [0, 1])
    assert float(information.entropy(jnp.asarray([0, 1]))) == 0
    assert float(information.kl(jnp.asarray([0, 1]), jnp.asarray([0.5, 0.5]), "bits")) == 1
    assert float(moments.pmf_moments(np.array([3, 5]), np.array([0, 1])).mean) == 5
    flat = density.make_density(np.array([1, 1, 1]), (np.array([0.0, 0.25, 1.0]),), ("x",))
    assert float(density.integral(flat)) == 1
    whole = density.normalize(np.array([1, 3]), (np.array([0, 2]),), ("x",))
    np.testing.assert_allclose(whole.values, [0.25, 0.75])
    posterior_, evidence = bayes(make_table(jnp.asarray([0.25, 0.75]), ("a",)), np.array([1, 0]))
    assert float(evidence) == 0.25 and float(posterior_.probabilities[0]) == 1
    with pytest.raises(ValueError, match="sum to 1"):
        make_table(np.array([1, 1]), ("a",))


def test_small_likelihoods_do_not_vanish():
    likelihood = jnp.asarray([1e-30, 3e-30])
    table = bayes(make_table(jnp.asarray([1e-9, 1 - 1e-9]), ("a",)), likelihood)
    np.testing.assert_allclose(table.table.probabilities, [1e-9 / 3, 1], rtol=1e-4)
    assert float(table.evidence) == pytest.approx(3e-30, rel=1e-4)
    grid = jnp.linspace(0, 1, 3)
    flat = density.make_density(jnp.ones(3), (grid,), ("x",))
    found = density.bayes(flat, 1e-36 * jnp.asarray([0.1, 1.0, 0.1]))
    np.testing.assert_allclose(found.density.values, np.array([0.1, 1, 0.1]) / 0.55, rtol=1e-4)


def test_the_standard_deviation_of_equal_values_has_slope_zero():
    equal = jnp.full(5, 3.0)
    for f in (
        lambda v: moments.sample_moments(v).std,
        lambda v: moments.pmf_moments(v, jnp.full(5, 0.2)).std,
        lambda v: summarize(v, 3.0).standard_error,
    ):
        value, gradient = jax.value_and_grad(f)(equal)
        assert float(value) == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
    value = jnp.asarray([1.0, 2.0, 4.0])
    expected = (value - value.mean()) / 3 / np.std([1, 2, 4])
    np.testing.assert_allclose(jax.grad(lambda v: moments.sample_moments(v).std)(value), expected, rtol=1e-5)
    by_mass = jax.grad(lambda p: moments.pmf_moments(value, p).mean)(jnp.asarray([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(by_mass, value, rtol=1e-6)


@pytest.mark.slow
def test_settings_may_be_traced():
    params = {"w": jnp.asarray([0.3, -1.2])}
    for prior in (posterior.normal_log_prior, posterior.laplace_log_prior):
        scales = jnp.asarray([0.5, 2.0])
        each = [float(prior(params, float(s))) for s in scales]
        np.testing.assert_allclose(jax.jit(jax.vmap(partial(prior, params)))(scales), each, rtol=1e-6)
        slope = (float(prior(params, 0.501)) - float(prior(params, 0.499))) / 0.002
        assert float(jax.grad(prior, 1)(params, 0.5)) == pytest.approx(slope, rel=1e-2)
        for bad in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="positive"):
                prior(params, bad)
    data = jnp.asarray([1.0, 2.0, 4.5])

    def shrunk(std):
        found = posterior.maximize_posterior(
            lambda p, x: continuous.normal.log_prob({"mean": p["m"], "log_scale": 0.0}, x),
            partial(posterior.normal_log_prior, std=std),
            {"m": jnp.zeros(())},
            data,
            steps=20,
        )
        return found.params["m"]

    stds = jnp.asarray([0.5, 2.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(shrunk))(stds), 7.5 / (3 + 1 / stds**2), rtol=1e-4)
    table = make_table(jnp.asarray([[0.1, 0.2], [0.3, 0.4]]), ("a", "b"))
    rows = jax.vmap(lambda i: condition(table, a=i).probabilities)(jnp.arange(2))
    np.testing.assert_allclose(rows, [[1 / 3, 2 / 3], [3 / 7, 4 / 7]], rtol=1e-6)
    grid = jnp.linspace(0, 1, 5)
    joint = density.normalize(jnp.outer(jnp.ones(5), 1 + grid), (grid, grid), ("x", "y"))
    places = jnp.asarray([0.0, 0.3, 1.0])
    found = jax.jit(jax.vmap(lambda y: density.condition(joint, y=y).values))(places)
    np.testing.assert_allclose(found, 1, rtol=1e-5)
    tails = jax.vmap(
        lambda e: consistency(
            jax.random.key(0), lambda key, m: jax.random.normal(key, (m,)), jnp.mean, 0.0, (4,), e, 50
        )
    )(jnp.asarray([0.0, 100.0]))
    np.testing.assert_array_equal(tails[:, 0], [1, 0])


@pytest.mark.slow
def test_several_targets_of_linear_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    both = fit.fit_linear(x, y)
    assert both["kernel"].shape == (3, 2) and both["log_scale"].shape == (2,)
    for i in range(2):
        one = fit.fit_linear(x, y[:, i])
        np.testing.assert_allclose(both["kernel"][:, i], one["kernel"], rtol=1e-4, atol=1e-6)
        assert float(both["log_scale"][i]) == pytest.approx(float(one["log_scale"]), rel=1e-4)
    repeated = jnp.asarray(np.concatenate([np.eye(3), np.eye(3)]), jnp.float32)
    gradient = jax.grad(lambda a: fit.fit_linear(a, jnp.arange(6.0))["kernel"].sum())(repeated)
    assert np.isfinite(gradient).all()
