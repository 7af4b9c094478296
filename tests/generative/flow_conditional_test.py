"""Flows given a class or a code: who takes the condition, and who refuses it (lecture 22, 28)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.generative.flow import (
    MAF,
    ActNorm,
    AffineCoupling,
    Autoregressive,
    ConditionalAffine,
    affine,
    chain,
    density,
    split,
)
from dlcore.networks import MADE, MLPConditioner
from dlcore.nn import Dense


def told(outputs):
    return MLPConditioner((5,), outputs, activation="tanh", conditional=True)


X, C = jnp.arange(12.0).reshape(3, 4) / 12, jnp.eye(3)
GIVEN = AffineCoupling(told(4), conditional=True)
FREE = chain(ActNorm(), coupling=AffineCoupling(MLPConditioner((5,), 4)))
MIXED = chain(ActNorm(), coupling=GIVEN, half=split(AffineCoupling(told(2), conditional=True), (4,)))


def moved(bijector, *inputs):
    params = bijector.init(jax.random.key(0), *inputs)
    return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("affine_coupling", lambda: GIVEN.init(jax.random.key(0), X)),
        ("chain", lambda: MIXED.init(jax.random.key(0), X)),
        ("chain", lambda: MIXED.forward(moved(MIXED, X, C), X)),
        ("chain", lambda: MIXED.inverse(moved(MIXED, X, C), X)),
        ("log_prob", lambda: density.log_prob(MIXED, moved(MIXED, X, C), X)),
        ("sample", lambda: density.sample(jax.random.key(0), GIVEN, moved(GIVEN, X, C), (3, 4))),
        ("round_trip_error", lambda: density.round_trip_error(GIVEN, moved(GIVEN, X, C), X)),
        ("Autoregressive", lambda: MAF(4, lambda s, n: told(n), conditional=True, steps=1).init(jax.random.key(0), X)),
    ],
)
def test_a_missing_condition_is_refused_by_name(name, run):
    with pytest.raises(ValueError, match="condition is missing") as error:
        run()
    assert name in str(error.value) or "chain" in str(error.value)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("chain", lambda: FREE.init(jax.random.key(0), X, C)),
        ("chain", lambda: FREE.forward(moved(FREE, X), X, C)),
        ("log_prob", lambda: density.log_prob(FREE, moved(FREE, X), X, C)),
        ("sample", lambda: density.sample(jax.random.key(0), FREE, moved(FREE, X), (3, 4), C)),
        ("affine_coupling", lambda: AffineCoupling(MLPConditioner((5,), 4)).init(jax.random.key(0), X, C)),
        ("Autoregressive", lambda: Autoregressive(MADE(4, (5,), 8), affine()).init(jax.random.key(0), X, C)),
    ],
)
def test_a_superfluous_condition_is_refused_by_name(name, run):
    with pytest.raises(ValueError, match=f"{name}: no part takes a condition"):
        run()


def test_a_condition_of_one_row_is_not_broadcast():
    with pytest.raises(ValueError, match="one row for each of 3"):
        GIVEN.forward(moved(GIVEN, X, C), X, C[:1])


@pytest.mark.slow
def test_the_objective_wants_the_name_of_the_condition_and_uses_it():
    with pytest.raises(ValueError, match="name its entry"):
        density.negative_log_likelihood(MIXED, target="point")
    with pytest.raises(ValueError, match="takes none"):
        density.negative_log_likelihood(FREE, target="point", condition="label")
    params = moved(MIXED, X, C)
    objective = density.negative_log_likelihood(MIXED, target="point", condition="class")
    loss, _ = objective(params, {}, {"point": X, "class": C}, key=None, train=True)
    assert float(loss) == pytest.approx(-float(density.log_prob(MIXED, params, X, C).mean()), rel=1e-6)


@pytest.mark.slow
def test_a_row_moves_by_its_own_condition_only():
    params = moved(MIXED, X, C)
    z, log_det = MIXED.forward(params, X, C)
    other, other_log_det = MIXED.forward(params, X, C.at[1].set(C[0]))
    assert (z[1] != other[1]).any() and log_det[1] != other_log_det[1]
    np.testing.assert_array_equal(z[jnp.asarray([0, 2])], other[jnp.asarray([0, 2])])


@pytest.mark.slow
def test_a_conditional_base_is_a_gaussian_per_class():
    with jax.enable_x64(True):
        base = ConditionalAffine(Dense(4), bound=1.5)
        x, one_hot = jax.random.normal(jax.random.key(0), (3, 2), jnp.float64), jnp.eye(3)
        params = moved(base, x, one_hot)
        raw, shift = np.split(np.asarray(params["kernel"] + params["bias"]), 2, axis=-1)
        std = np.exp(-1.5 * np.tanh(raw / 1.5))
        exact = scipy.stats.norm.logpdf(np.asarray(x), -shift * std, std).sum(-1)
        np.testing.assert_allclose(density.log_prob(base, params, x, one_hot), exact, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_the_jacobian_of_an_autoregressive_bijection_is_triangular_to_the_bit(conditional):
    network = MADE(4, (9, 6), 8, activation="tanh", conditional=conditional)
    bijector = Autoregressive(network, affine(), conditional=conditional)
    condition = (C,) if conditional else ()
    params = moved(bijector, X, *condition)
    rows = [c[0] for c in condition]
    jacobian = jax.jacfwd(lambda x: bijector.forward(params, x[None], *(c[None] for c in rows))[0][0])(X[0])
    assert (np.triu(np.asarray(jacobian), 1) == 0.0).all() and (np.asarray(jacobian)[np.tril_indices(4)] != 0).all()
    back = jax.jacfwd(lambda z: bijector.inverse(params, z[None], *(c[None] for c in rows))[0][0])(X[0])
    assert (np.triu(np.asarray(back), 1) == 0.0).all()


@pytest.mark.slow
def test_an_inverse_does_not_stumble_over_coordinates_that_it_does_not_know_yet():
    # The last coordinate is scaled by e^±80 given the first: a guess that is far off would overflow.
    bijector = Autoregressive(MADE(3, (8,), 6), affine(80.0))
    params = jax.tree.map(lambda p: 5.0 * jnp.ones_like(p), bijector.init(jax.random.key(0), X[:, :3]))
    z, _ = bijector.forward(params, X[:, :3])
    back, _ = bijector.inverse(params, z)
    assert bool(jnp.isfinite(back).all())
