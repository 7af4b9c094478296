"""Information against scipy, identities, and its behaviour where mass is 0 (lecture 2.13–2.15)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.stats import _information as information
from dlcore.stats import cross_entropy, entropy, js, kl, log_entropy, log_kl

PAIRS = (cross_entropy, kl, js)


def pmf(seed, holes=True, k=5):
    rng = np.random.default_rng(seed)
    p = rng.gamma(0.5, size=k) * (rng.random(k) < 0.7 if holes else 1) + 1e-30
    p[rng.integers(k)] += 0.1
    return np.where(p < 1e-20, 0.0, p) / p.sum()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_scipy_agrees_in_both_units(a, b):
    p, q = pmf(a), pmf(b)
    with jax.enable_x64(True):
        P, Q = jnp.asarray(p), jnp.asarray(q)
        for unit, base in (("nats", None), ("bits", 2)):
            assert float(entropy(P, unit)) == pytest.approx(scipy.stats.entropy(p, base=base), abs=1e-12)
            assert float(kl(P, Q, unit)) == pytest.approx(scipy.stats.entropy(p, q, base=base), abs=1e-12)
            distance = scipy.spatial.distance.jensenshannon(p, q, base=base)
            assert float(js(P, Q, unit)) == pytest.approx(distance**2, abs=1e-12)
        with np.errstate(divide="ignore"):
            logs = jnp.asarray(np.log(p)), jnp.asarray(np.log(q))
        assert float(log_entropy(logs[0])) == pytest.approx(scipy.stats.entropy(p), abs=1e-12)
        assert float(log_kl(*logs)) == pytest.approx(scipy.stats.entropy(p, q), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_cross_entropy_is_entropy_plus_divergence_and_least_at_p(seed):
    p, q = (jnp.asarray(pmf(s, holes=False), jnp.float32) for s in (seed, seed + 1))
    assert float(cross_entropy(p, q)) == pytest.approx(float(entropy(p) + kl(p, q)), rel=1e-5)
    assert float(cross_entropy(p, q)) >= float(entropy(p)) - 1e-6
    assert float(cross_entropy(p, p)) == pytest.approx(float(entropy(p)), rel=1e-5)
    assert abs(float(kl(p, p))) < 1e-6


def test_coins_and_dice():
    assert float(entropy(jnp.asarray([0.5, 0.5]), "bits")) == 1.0
    assert float(entropy(jnp.full(8, 1 / 8), "bits")) == pytest.approx(3)
    assert float(entropy(jnp.asarray([1.0, 0.0]))) == 0.0
    assert float(kl(jnp.asarray([1.0, 0.0]), jnp.asarray([0.5, 0.5]), "bits")) == 1.0


def test_mismatched_supports_are_infinite_and_js_is_one_bit():
    p, q = jnp.asarray([0.5, 0.5, 0.0]), jnp.asarray([0.0, 0.0, 1.0])
    assert float(kl(p, q)) == float(cross_entropy(p, q)) == float(log_kl(jnp.log(p), jnp.log(q))) == np.inf
    assert float(js(p, q, "bits")) == pytest.approx(1)
    # Only the support of p counts.
    assert float(kl(q, jnp.asarray([0.0, 0.5, 0.5]), "bits")) == pytest.approx(1)


@pytest.mark.sampled
@pytest.mark.parametrize("f", [*PAIRS, log_kl])
def test_gradients_are_never_nan_even_through_a_softmax_that_underflows(f):
    logits = [jnp.asarray(x) for x in ([1e4, 0.0, -1e4], [0.0, 1.0, 2.0], [-1e4, 0.0, 1e4], [0.0, -jnp.inf, 0.0])]
    through = jax.nn.log_softmax if f is log_kl else jax.nn.softmax
    gradient = jax.jit(jax.grad(lambda a, b: f(through(a), through(b)), (0, 1)))
    single = jax.jit(jax.grad(lambda a: log_entropy(through(a)) if f is log_kl else entropy(through(a))))
    for a in logits:
        assert np.isfinite(single(a)).all()
        for b in logits:
            assert np.isfinite(gradient(a, b)).all(), (a, b)
    direct = [jnp.asarray(x) for x in ([1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5])]
    if f is not log_kl:
        plain = jax.jit(jax.grad(f, (0, 1)))
        assert all(np.isfinite(plain(a, b)).all() for a in direct for b in direct)


def test_gradient_is_that_of_the_formula_inside():
    p, q = (jnp.asarray(pmf(s, holes=False), jnp.float32) for s in (3, 4))
    np.testing.assert_allclose(jax.grad(entropy)(p), -np.log(p) - 1, rtol=1e-5)
    by_p, by_q = jax.grad(kl, (0, 1))(p, q)
    np.testing.assert_allclose(by_p, np.log(p / q) + 1, rtol=1e-4)
    np.testing.assert_allclose(by_q, -p / q, rtol=1e-5)


def test_batches_broadcast():
    p = jnp.stack([jnp.asarray(pmf(s, holes=False), jnp.float32) for s in range(4)])
    q = p[:1]
    for f in PAIRS:
        np.testing.assert_allclose(f(p, q), [f(row, q[0]) for row in p], rtol=1e-5, atol=1e-6)


def test_what_is_no_distribution_is_refused_and_loud_under_jit():
    fair, bad, negative = jnp.asarray([0.5, 0.5]), jnp.asarray([0.5, 0.6]), jnp.asarray([-0.5, 1.5])
    for f in PAIRS:
        for arguments, message in [
            ((fair, bad), "q must sum to 1, got 1.1"),
            ((bad, fair), "p must sum to 1"),
            ((negative, fair), "p must not be negative"),
            ((fair, jnp.ones(1)), "same outcomes"),
            ((fair, fair, "bytes"), "unit must be one of"),
        ]:
            with pytest.raises(ValueError, match=message):
                f(*arguments)
    with pytest.raises(ValueError, match="negative"):
        entropy(negative)
    with pytest.raises(ValueError, match="same outcomes"):
        log_kl(jnp.zeros(1), jnp.log(fair))
    assert np.isnan(jax.jit(entropy)(negative)) and np.isnan(jax.jit(kl)(negative, fair))
    assert information.UNITS["bits"] == pytest.approx(0.6931472)
