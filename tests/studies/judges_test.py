"""Classifiers judged on whole, damaged and few images (lecture 22)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.studies import _few_labels as few_labels
from dlcore.studies import _judges as judges
from dlcore.studies import hidden, mean_image, noisy, robustness

LEVELS = 5


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    bright = np.zeros((count, 3, 3, 1), np.uint8)
    bright[np.arange(count), :, 2 * labels] = rng.integers(2, LEVELS, (count, 3, 1))
    return {"image": bright, "label": labels.astype(np.int32)}


def test_scores_by_hand_and_blocks_leave_no_row_out():
    log_posterior = np.log([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    accuracy, nats = judges.scores(log_posterior, np.asarray([0, 0, 1]))
    assert accuracy == pytest.approx(1 / 3) and nats == pytest.approx(-np.log([0.8, 0.4, 0.5]).mean())
    sizes = []

    def run(x):
        sizes.append(len(x))
        return x * 2

    for count in (1, 4, 5, 9):
        np.testing.assert_array_equal(judges.in_blocks(run, np.arange(count), 4), 2 * np.arange(count))
    assert set(sizes) == {4}


def test_pixels_are_missing_together_and_filled_in():
    x, fill = jnp.full((50, 40, 40, 2), 3, jnp.uint8), jnp.full((40, 40, 2), 1, jnp.uint8)
    damaged, observed = hidden(jax.random.key(0), x, 0.3, fill)
    assert observed.shape == (40, 40, 2) and float(observed.mean()) == pytest.approx(0.7, abs=0.05)
    assert (observed[..., 0] == observed[..., 1]).all() and damaged.dtype == jnp.uint8
    np.testing.assert_array_equal(damaged, np.where(observed, 3, 1)[None].repeat(50, 0))
    np.testing.assert_array_equal(hidden(jax.random.key(0), x, 0.0, fill)[0], x)


def test_noise_has_its_standard_deviation_and_stays_in_range():
    x = jnp.full((20, 30, 30, 1), 128, jnp.uint8)
    moved = np.asarray(noisy(jax.random.key(0), x, 0.1, 256), np.float64)
    assert moved.std() == pytest.approx(25.5, rel=0.03) and moved.mean() == pytest.approx(128, abs=1)
    wild = noisy(jax.random.key(0), x, 5.0, 256)
    assert wild.dtype == jnp.uint8 and {int(wild.min()), int(wild.max())} == {0, 255}
    np.testing.assert_array_equal(noisy(jax.random.key(0), x, 0.0, 256), x)


def test_robustness_gives_every_judge_what_is_observed():
    rows = images(130)

    def judge(x, observed):
        # Knows a column only where all of it is observed.
        left = jnp.where(observed[:, 0].all(), x[:, :, 0].sum((1, 2)), 0.0)
        return jax.nn.log_softmax(jnp.stack([left, 3.0 * jnp.ones(len(x))], -1))

    options = {"fractions": (0.0, 1.0), "stds": (0.0,)}
    fill = mean_image(rows["image"])
    found = robustness(jax.random.key(0), judge, rows["image"], rows["label"], fill, LEVELS, **options)
    assert found["missing"][0, 0] == 1.0 and found["missing"][1, 0] == 0.5 and found["noise"][0, 0] == 1.0
    clean, seconds = judges.verdicts(judge, rows["image"])
    assert 0 < seconds < 1 and len(clean) == 130
    assert found["noise"][0, 1] == pytest.approx(judges.scores(clean, rows["label"])[1], rel=1e-5)


def test_chosen_rows_are_balanced_and_nested():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), (3, 10, 10, 10)))
    small, large = few_labels.balanced(labels, 8), few_labels.balanced(labels, 20)
    assert set(small) <= set(large) and (np.diff(large) > 0).all()
    np.testing.assert_array_equal(np.bincount(labels[small]), [2, 2, 2, 2])
    assert np.bincount(labels[large])[0] == 3 and np.bincount(labels[large]).sum() == 20
    np.testing.assert_array_equal(few_labels.balanced(labels, 33), np.arange(33))
    for count in (3, 34):
        with pytest.raises(ValueError, match="use 4 to 33"):
            few_labels.balanced(labels, count)


@pytest.mark.slow
def test_a_learner_sees_the_chosen_rows_only_and_compiles_once():
    network, traces = MLP((8,), 2), []

    def judged(params, state, x):
        traces.append(1)
        return jax.nn.log_softmax(network.apply(params, state, x / LEVELS)[0])

    objective = supervised(network, softmax_cross_entropy, inputs="x")

    def loss(params, state, batch, **options):
        return objective(params, state, {**batch, "x": batch["image"] / LEVELS}, **options)

    def init(key, batch):
        return network.init(key, batch["image"] / LEVELS)

    learn = few_labels.learner(loss, init, judged, optax.adam(1e-2), batch_size=16, steps=60)
    rows, held = images(40), images(100, 1)
    # All other labels are wrong: whoever learns from them is wrong as well.
    chosen = np.arange(6)
    spoiled = {**rows, "label": np.where(np.arange(40) < 6, rows["label"], 1 - rows["label"])}
    for count in (4, 6):
        found = learn(jax.random.key(0), spoiled, held, chosen[:count], held["image"])
        assert judges.scores(found, held["label"])[0] > 0.95
    assert len(traces) == 1


@pytest.mark.slow
def test_a_network_behind_its_preprocessing_is_judged_and_measured():
    network, rows = MLP((), 2), jax.tree.map(jnp.asarray, images(8))
    prepare = lambda batch, *, key, train: {**batch, "x": batch["image"].reshape(-1, 9) / 4}  # noqa: E731
    objective = supervised(network, softmax_cross_entropy, inputs="x")
    learner = few_labels.discriminative(network, objective, prepare)
    params, state = learner.init(jax.random.key(0), rows)
    x = jnp.asarray(rows["image"]).reshape(-1, 9) / 4
    log_p = np.asarray(jax.nn.log_softmax(network.apply(params, state, x)[0]))
    np.testing.assert_allclose(learner.judged(params, state, rows["image"]), log_p, rtol=1e-6)
    loss, _ = learner.objective(params, state, rows, key=None, train=True)
    assert float(loss) == pytest.approx(-log_p[np.arange(8), rows["label"]].mean(), rel=1e-5)
    parts = few_labels.measured(learner, "alone")
    marked = {**rows, "where": jnp.arange(8) < 6}
    found = parts["summarize"](parts["evaluate"](params, state, marked, jax.random.key(0)))
    assert found["nll_nats_alone"] == pytest.approx(-log_p[np.arange(6), rows["label"][:6]].mean(), rel=1e-5)
    assert set(found) == {"accuracy_alone", "nll_nats_alone", "ece_alone"}


def test_calibrations_are_sums_over_bins_of_confidence():
    rows = images(6)
    sure = lambda x, observed: jnp.log(jnp.array([0.9, 0.1])) * jnp.ones((len(x), 1))  # noqa: E731
    bins, seconds = judges.calibrations({"sure": sure}, rows["image"], rows["label"])
    confidence, correct, count = bins["sure"]
    assert 0 < seconds["sure"] < 1
    assert confidence.sum() == pytest.approx(5.4, rel=1e-5) and correct.sum() == 3 and count.max() == 6
