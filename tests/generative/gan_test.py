"""Adversarial training where its optimum is known, and collapse where it is planted (lecture 27)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from dlcore.data.toy import load
from dlcore.evaluation import collapse
from dlcore.generative import gan
from dlcore.networks import MLP
from dlcore.nn import BatchNorm, Dense, SpectralNorm, serial
from dlcore.train import create, gradient_update, make_train_step, reported, view_of
from dlcore.types import Carry, Model
from experiments import gan as gan_experiment
from experiments.gan import MODE_STD, MODES

P, Q = scipy.stats.norm(0.5, 1.0), scipy.stats.norm(-0.7, 1.0)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def integral(function):
    return scipy.integrate.quad(function, -15, 15, epsabs=1e-12, limit=400)[0]


def jensen_shannon():
    def half(a, b):
        return integral(lambda x: a.pdf(x) * (a.logpdf(x) - np.log(0.5 * (a.pdf(x) + b.pdf(x)))))

    return 0.5 * (half(P, Q) + half(Q, P))


def value(loss, logit):
    """E_p[loss of a real one] + E_q[loss of a fake one], by integration."""

    def density(x):
        a = jnp.asarray(logit(x))
        return P.pdf(x) * float(loss.real(a)) + Q.pdf(x) * float(loss.fake(a))

    return scipy.integrate.quad(density, -9, 9, epsabs=1e-9, limit=60)[0]


def best(x):
    return P.logpdf(x) - Q.logpdf(x)


def test_value_at_the_optimal_discriminator(float64):
    loss = gan.saturating()
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(loss.score(jnp.asarray(best(x))), P.pdf(x) / (P.pdf(x) + Q.pdf(x)), rtol=1e-12)
    assert -value(loss, best) == pytest.approx(2 * jensen_shannon() - np.log(4), abs=1e-7)
    for other in (lambda x: best(x) + 0.3, lambda x: 0.8 * best(x), lambda x: best(x) + 0.3 * np.sin(x)):
        assert value(loss, other) > value(loss, best) + 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saturating", "non_saturating"])
def test_a_logistic_discriminator_finds_the_optimum(float64, name):
    """For equal variances log p − log q is affine: the discriminator w·x + b has its optimum there."""
    loss, (nodes, weights) = gan.LOSSES[name](), np.polynomial.legendre.leggauss(200)
    x, weight = 10 * nodes, 10 * weights
    params = jnp.zeros(2)

    @jax.jit
    def objective(params):
        a = params[0] * x + params[1]
        return (weight * (P.pdf(x) * loss.real(a) + Q.pdf(x) * loss.fake(a))).sum()

    for _ in range(12):
        params -= jnp.linalg.solve(jax.hessian(objective)(params), jax.grad(objective)(params))
    np.testing.assert_allclose(params, [best(1) - best(0), best(0)], rtol=1e-8)
    assert -float(objective(params)) == pytest.approx(2 * jensen_shannon() - np.log(4), abs=1e-8)


@pytest.mark.slow
def test_a_trained_discriminator_comes_near_the_optimum():
    """Through the objective and the update: a fixed generator z ↦ z − 0.7, and D affine."""
    shifted = Model(lambda key, z: ({"shift": jnp.full(1, -0.7)}, {}), lambda p, s, z, **_: (z + p["shift"], s))
    system = gan.GAN(shifted, Dense(1), latent=1)
    tx = optax.adam(0.02)
    judge = gradient_update(gan.discriminator_objective(system, gan.saturating()), tx, only="discriminator/**")
    update = reported(judge, "d_real")
    step = jax.jit(make_train_step(update))
    state = create(jax.random.key(0), lambda k: gan.init(k, system, jnp.zeros((2, 1))), update)
    found, losses = [], []
    for i in range(600):
        real = 0.5 + jax.random.normal(jax.random.key(i + 1), (4096, 1))
        state, metrics = step(state, {"image": real})
        if i >= 300:
            found.append(jnp.append(state.params["discriminator"]["kernel"][0], state.params["discriminator"]["bias"]))
            losses.append(metrics["discriminator_loss"].value())
    np.testing.assert_allclose(np.mean(found, 0), [1.2, best(0)], atol=0.03)
    assert np.mean(losses) == pytest.approx(np.log(4) - 2 * jensen_shannon(), abs=3e-3)
    # At the optimum E_p[D] + E_q[D] = 1; `d_real` as reported is the running mean.
    assert float(metrics["d_real"].value() + metrics["d_fake"].value()) == pytest.approx(1, abs=0.03)
    assert float(view_of(update, state).report["d_real"].value()) == pytest.approx(
        integral(lambda x: P.pdf(x) / (1 + np.exp(-best(x)))), abs=0.01
    )


def test_losses_by_hand():
    a = jnp.array([-2.0, 0.0, 3.0])
    hinge, wasserstein = gan.hinge(), gan.wasserstein()
    np.testing.assert_allclose(hinge.real(a), [3, 1, 0])
    np.testing.assert_allclose(hinge.fake(a), [0, 1, 4])
    np.testing.assert_allclose(wasserstein.real(a) + wasserstein.fake(a[::-1]), [5, 0, -5])
    for loss in (hinge, wasserstein):
        np.testing.assert_allclose(loss.generator(a), -a)
        np.testing.assert_allclose(loss.score(a), a)
    p = 1 / (1 + np.exp(-np.asarray(a)))
    np.testing.assert_allclose(gan.saturating().real(a), -np.log(p), rtol=1e-5)
    np.testing.assert_allclose(gan.saturating().fake(a), -np.log(1 - p), rtol=1e-5)
    np.testing.assert_allclose(gan.saturating().generator(a), np.log(1 - p), rtol=1e-5)
    np.testing.assert_allclose(gan.non_saturating().generator(a), -np.log(p), rtol=1e-5)
    with pytest.raises(ValueError, match="did you mean 'hinge'"):
        gan.loss_by_name("hing")


def test_only_the_saturating_generator_stops_learning_where_the_discriminator_wins():
    slopes = {name: float(jax.grad(lambda a, f=f: f().generator(a))(-12.0)) for name, f in gan.LOSSES.items()}
    assert abs(slopes["saturating"]) < 1e-4 and slopes["non_saturating"] == pytest.approx(-1, abs=1e-4)
    assert slopes["saturating"] < 0 and all(slope < 0 for slope in slopes.values())


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5,), (2, 3, 1)])
def test_penalties_of_a_linear_and_of_a_quadratic_critic(float64, shape):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(4, *shape))), jnp.asarray(rng.normal(size=shape))
    axes = tuple(range(1, x.ndim))
    norm = float(jnp.linalg.norm(w))
    np.testing.assert_allclose(gan.gradient_penalty(lambda x: (w * x).sum(axes), x), np.full(4, (norm - 1) ** 2))
    np.testing.assert_allclose(gan.r1_penalty(lambda x: (w * x).sum(axes), x), np.full(4, norm**2 / 2))
    # D = ½ ‖x‖² has the slope ‖x‖.
    sizes = np.sqrt(np.sum(np.square(x), axes))
    np.testing.assert_allclose(gan.gradient_penalty(lambda x: 0.5 * (x**2).sum(axes), x), (sizes - 1) ** 2)
    gradient = jax.grad(lambda w: gan.gradient_penalty(lambda x: (w * x).sum(axes), x).mean())
    np.testing.assert_allclose(gradient(w), 2 * (norm - 1) * w / norm, rtol=1e-10)
    np.testing.assert_array_equal(gradient(jnp.zeros(shape)), jnp.zeros(shape))


def test_interpolation_lies_between_pairs_with_one_weight_each():
    real, fake = jnp.ones((50, 2, 3)), -jnp.ones((50, 2, 3))
    mixed = np.asarray(gan.interpolate(jax.random.key(0), real, fake))
    assert np.ptp(mixed.reshape(50, -1), axis=1).max() == 0 and np.ptp(mixed) > 1 and np.abs(mixed).max() <= 1


def small(conditional=False):
    generator, discriminator = MLP((8,), 2, activation="tanh"), SpectralNorm(MLP((8,), 1, activation="tanh"))
    return gan.GAN(generator, discriminator, latent=3, conditional=conditional)


@pytest.mark.slow
def test_each_update_moves_its_own_branch_of_params_and_state():
    system, tx = small(), optax.sgd(0.1)
    loss, names = gan.non_saturating(), ("discriminator", "generator")
    objectives = {
        "discriminator": gan.discriminator_objective(system, loss, r1_weight=0.1, gradient_penalty_weight=1.0),
        "generator": gan.generator_objective(system, loss),
    }
    batch = {"image": jax.random.normal(jax.random.key(1), (16, 2))}
    params, model_state = gan.init(jax.random.key(0), system, batch["image"])
    for name, other in (names, names[::-1]):
        update = gradient_update(objectives[name], tx, only=f"{name}/**")
        carry = Carry(params, model_state, update.init(params, model_state))
        after, metrics = update.apply(carry, batch, key=jax.random.key(2), step=jnp.int32(0))
        assert all((a != b).any() for a, b in pairs(params[name], after.params[name]))
        assert all((a == b).all() for a, b in pairs(params[other], after.params[other]))
        assert all((a == b).all() for a, b in pairs(model_state[other], after.state[other]))
        assert f"{name}_loss" in metrics
        moved = any((a != b).any() for a, b in pairs(model_state["discriminator"], after.state["discriminator"]))
        assert moved == (name == "discriminator")


def pairs(a, b):
    return list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_generator_gradient_passes_through_the_discriminator():
    """For G(z) = z + s and D(x) = w·x, the Wasserstein generator's gradient in s is −w."""
    shifted = Model(lambda key, z: ({"shift": jnp.zeros(2)}, {}), lambda p, s, z, **_: (z + p["shift"], s))
    system = gan.GAN(shifted, Dense(1), latent=2)
    batch = {"image": jnp.zeros((8, 2))}
    params, state = gan.init(jax.random.key(0), system, batch["image"])
    objective = gan.generator_objective(system, gan.wasserstein())
    grads = jax.grad(lambda p: objective(p, state, batch, key=jax.random.key(1), train=True)[0])(params)
    w = params["discriminator"]["kernel"][:, 0]
    np.testing.assert_allclose(grads["generator"]["shift"], -w, rtol=1e-5)


def test_labels_are_asked_for():
    with pytest.raises(ValueError, match="pass label="):
        gan.init(jax.random.key(0), small(conditional=True), jnp.zeros((2, 2)))


def ring(modes, count=2000, seed=0, std=MODE_STD):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(modes, count)
    return (MODES[chosen] + std * rng.normal(size=(count, 2))).astype(np.float32)


def test_modes_are_those_of_the_data():
    raw = load("eight_gaussians").train.arrays
    means = np.stack([raw["point"][raw["label"] == i].mean(0) for i in range(8)])
    np.testing.assert_allclose(means, MODES, atol=0.03)
    inside = np.asarray(collapse.mode_hits(jnp.asarray(raw["point"]), jnp.asarray(MODES), 3 * MODE_STD))
    # A Gaussian in the plane has 1 − e^−4.5 of its mass within three standard deviations.
    assert inside.sum() / len(inside) == pytest.approx(1 - np.exp(-4.5), abs=0.004)
    assert (inside.sum(1) <= 1).all() and (inside.argmax(1) == raw["label"])[inside.any(1)].all()


@pytest.mark.slow
def test_the_experiment_averages_both_networks_and_reports_the_scores_of_training():
    system, txs = small(), dict.fromkeys(("discriminator", "generator"), optax.sgd(0.1))
    config = replace(gan_experiment.Config(), ema=0.9)
    update = gan_experiment.make_update(config, load("eight_gaussians").spec, system, txs)
    batch = {"point": jax.random.normal(jax.random.key(1), (16, 2))}
    state = create(jax.random.key(0), lambda k: gan.init(k, system, batch["point"]), update)
    step, seen = jax.jit(make_train_step(update)), []
    for _ in range(3):
        state, metrics = step(state, batch)
        seen.append(float(metrics["d_real"].value()))
    weights = 0.99 ** np.arange(3)[::-1]
    view = view_of(update, state)
    assert float(view.report["d_real"].value()) == pytest.approx(weights @ seen / weights.sum(), rel=1e-5)
    assert any((a != b).any() for a, b in pairs(view.params["generator"], state.params["generator"]))
    vectors = [tree["discriminator"]["model"] if "model" in tree["discriminator"] else tree["discriminator"]
               for tree in (view.params, state.params)]  # fmt: skip
    assert any((a != b).any() for a, b in pairs(*vectors))


def report(samples, **scores):
    hits = np.asarray(collapse.mode_hits(jnp.asarray(samples), jnp.asarray(MODES), 3 * MODE_STD)).sum(0).astype(int)
    heldout, train = ring(range(8), seed=9), ring(range(8), seed=10)
    near = {"duplicates": collapse.duplicates(samples, heldout), "copies": collapse.copies(samples, train, heldout)}
    return collapse.Report(hits, np.full(8, 1 / 8), collapse.diversity(samples, heldout), **scores, **near)


@pytest.mark.slow
def test_a_fair_sampler_has_no_problems_and_planted_ones_are_flagged():
    fair = report(ring(range(8)), d_real=0.52, d_fake=0.48, d_heldout=0.51)
    assert fair.problems() == () and fair.covered() == 8
    lost = report(ring([0, 1, 2, 4, 5, 7]))
    assert lost.covered() == 6 and "6 of 8" in lost.problems()[0]
    points = report(ring(range(8), std=0.01))
    assert points.covered() == 8 and "as far apart" in points.problems()[0]
    copies = report(np.repeat(ring(range(8), 200), 10, axis=0))
    assert copies.covered() == 8 and "as far apart" in copies.problems()[0]
    winning = report(ring(range(8)), d_real=0.99, d_fake=0.01, d_heldout=0.98)
    assert "wins" in winning.problems()[0] and len(winning.problems()) == 1
    overfit = report(ring(range(8)), d_real=0.9, d_fake=0.3, d_heldout=0.4)
    assert "by heart" in overfit.problems()[0]


def test_a_rare_class_counts_from_a_quarter_of_its_share_on():
    assert collapse.covered(np.array([60, 25, 15]), np.array([0.0, 0.5, 0.5])) == 2
    assert collapse.covered(np.array([88, 12]), np.array([0.5, 0.5])) == 1
    assert collapse.covered(np.array([87, 13]), np.array([0.5, 0.5])) == 2
    assert collapse.covered(np.zeros(3, int), np.full(3, 1 / 3)) == 0


def test_histogram_by_the_nearest_training_example():
    rng = np.random.default_rng(0)
    real, samples = rng.normal(size=(60, 2, 3)), rng.normal(size=(40, 2, 3))
    labels = rng.integers(3, size=60)
    distance = ((samples[:, None] - real) ** 2).sum((2, 3))
    np.testing.assert_array_equal(collapse.nearest_neighbour(samples, real), distance.argmin(1))
    found = collapse.class_histogram(lambda x: labels[collapse.nearest_neighbour(x, real)], samples, 3)
    np.testing.assert_array_equal(found, [(labels[distance.argmin(1)] == i).sum() for i in range(3)])
    own = ((real[:, None] - real) ** 2).sum((2, 3)) + np.diag(np.full(60, np.inf))
    assert collapse.nearest_distance(real) == pytest.approx(np.sqrt(own.min(1)).mean())


@pytest.mark.slow
def test_fourier_features_estimate_the_kernel_and_the_discrepancy(float64):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(80, 3))), jnp.asarray(rng.normal(0.7, 1.3, size=(80, 3)))
    waves = collapse.frequencies(jax.random.key(0), 3, 1.5, count=60_000)

    def kernel(a, b):
        squares = ((np.asarray(a)[:, None] - np.asarray(b)) ** 2).sum(-1)
        return np.mean([np.exp(-squares / (2 * (1.5 * h) ** 2)) for h in (0.5, 1, 2)], 0)

    a, b = (np.asarray(collapse.fourier_features(v, waves)) for v in (x, y))
    np.testing.assert_allclose(a @ b.T, kernel(x, y), atol=0.02)
    off = lambda k: (k.sum() - np.trace(k)) / (80 * 79)  # noqa: E731
    expected = off(kernel(x, x)) + off(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert collapse.squared_mmd(a.sum(0), b.sum(0), 80) == pytest.approx(expected, abs=2e-3)
    with pytest.raises(ValueError, match="at least 2"):
        collapse.squared_mmd(a[0], b[0], 1)


def formed(generator, discriminator, conditional=False):
    """Networks as plain functions: `generator(z, *label)` and `discriminator(x, *label)`, without params."""
    models = [
        Model(lambda key, *x: ({}, {}), lambda p, s, *x, f=f, **_: (f(*x), s)) for f in (generator, discriminator)
    ]
    system = gan.GAN(*models, latent=2, conditional=conditional)
    state = {"generator": {}, "discriminator": {}}
    return system, {"generator": {}, "discriminator": {}}, state


@pytest.mark.slow
def test_the_gradient_penalty_is_taken_between_real_and_fake():
    """Reals at r on every axis, fakes at 0, D = ½‖x‖²: the slope is ε‖r‖, whose penalty has mean ‖r‖²/3 − ‖r‖ + 1."""
    system, params, state = formed(lambda z: 0 * z, lambda x: 0.5 * (x**2).sum(-1))
    real = jnp.full((20_000, 2), 3.0)
    objective = gan.discriminator_objective(system, gan.hinge(), gradient_penalty_weight=1.0)
    _, aux = objective(params, state, {"image": real}, key=jax.random.key(0), train=True)
    size = np.sqrt(18)
    assert float(aux.metrics["penalty"].value()) == pytest.approx(size**2 / 3 - size + 1, rel=0.03)
    r1 = gan.discriminator_objective(system, gan.hinge(), r1_weight=1.0)
    _, aux = r1(params, state, {"image": real}, key=jax.random.key(0), train=True)
    assert float(aux.metrics["penalty"].value()) == pytest.approx(9, rel=1e-5)


@pytest.mark.slow
def test_the_discriminators_step_leaves_the_generators_statistics_alone():
    system = gan.GAN(serial(Dense(3), BatchNorm(), Dense(2)), Dense(1), latent=3)
    batch = {"image": jax.random.normal(jax.random.key(1), (16, 2))}
    params, state = gan.init(jax.random.key(0), system, batch["image"])
    given = (params, state, batch)
    _, judged = gan.discriminator_objective(system, gan.hinge())(*given, key=jax.random.key(2), train=True)
    _, forged = gan.generator_objective(system, gan.hinge())(*given, key=jax.random.key(2), train=True)
    assert all((a == b).all() for a, b in pairs(state["generator"], judged.state["generator"]))
    assert any((a != b).any() for a, b in pairs(state["generator"], forged.state["generator"]))


def test_fakes_are_judged_by_the_labels_they_were_made_for():
    """G(z, y) = y and D(x, y) = −|x − y| sees no fault in fakes with their own labels; reals are off by 10."""
    system, params, state = formed(
        lambda z, y: y[:, None] + 0 * z, lambda x, y: -jnp.abs(x - y[:, None]).sum(-1), conditional=True
    )
    batch = {"image": 10.0 + jnp.arange(6.0)[:, None] * jnp.ones(2), "label": jnp.arange(6)}
    for objective in (gan.discriminator_objective, gan.generator_objective):
        loss, aux = objective(system, gan.wasserstein())(params, state, batch, key=jax.random.key(0), train=True)
        if "d_fake" in aux.metrics:
            assert float(aux.metrics["d_fake"].value()) == 0 and float(aux.metrics["d_real"].value()) == -20
        else:
            assert float(loss) == 0


def test_both_players_see_augmented_examples():
    system, params, state = formed(lambda z: 0 * z + 1, lambda x: x.sum(-1))
    batch = {"image": jnp.full((4, 2), 3.0)}
    options = {"augment": lambda key, x: 5 * x}
    _, aux = gan.discriminator_objective(system, gan.wasserstein(), **options)(
        params, state, batch, key=jax.random.key(0), train=True
    )
    assert float(aux.metrics["d_real"].value()) == 30 and float(aux.metrics["d_fake"].value()) == 10
    loss, _ = gan.generator_objective(system, gan.wasserstein(), **options)(
        params, state, batch, key=jax.random.key(0), train=True
    )
    assert float(loss) == -10
