"""Divergences against quadrature and against their own stability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from dlcore.stats import kl_normal


@pytest.mark.parametrize(("m", "s", "n", "t"), [(0.3, 0.5, 0.0, 1.0), (-2.0, 2.0, 1.0, 0.7), (0.0, 1.0, 0.0, 1.0)])
def test_kl_normal_is_the_integral(m, s, n, t):
    p, q = scipy.stats.norm(m, s), scipy.stats.norm(n, t)
    integral = scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m - 12 * s, m + 12 * s)[0]
    with jax.enable_x64(True):
        found = kl_normal(jnp.float64(m), jnp.log(jnp.float64(s)), n, np.log(t))
    assert float(found) == pytest.approx(integral, abs=1e-9)


def test_kl_normal_keeps_small_values():
    # KL(N(0, e^{2δ}) ‖ N(0, 1)) ≈ δ², far below the rounding error of its terms.
    assert float(kl_normal(jnp.float32(0), jnp.float32(1e-3))) == pytest.approx(1e-6, rel=1e-2)
