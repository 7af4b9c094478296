"""Class weights, ignored labels and penalties on activities, against sums written out (lecture 3.9–3.11, 10.13)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dlcore.evaluation import _metrics as metrics
from dlcore.losses import activity_l1, gaussian_nll, label_weights, softmax_cross_entropy, supervised
from dlcore.nn import Activation, BatchNorm, Dense, observe, serial

WEIGHTS = np.array([0.3, 2.0, 0.0, 1.5])
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 6, 4)) * 2
LABELS = RNG.integers(0, 4, (5, 6))
LABELS[RNG.random((5, 6)) < 0.2] = 255
KEPT = LABELS != 255
GIVEN = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
AS_THEY_ARE = serial(Activation(lambda x: x), Activation(lambda x: x))


def written_out(smoothing=0.0, weights=WEIGHTS):
    """Σ_k w_k q_k (−log p_k) per site, q being the smoothed one-hot vector; 0 where it is ignored."""
    log_p = scipy.special.log_softmax(LOGITS, axis=-1)
    q = (1 - smoothing) * np.eye(4)[np.where(KEPT, LABELS, 0)] + smoothing / 4
    return np.where(KEPT, -(weights * q * log_p).sum(-1), 0)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_and_an_ignored_label(smoothing):
    options = {"label_smoothing": smoothing, "ignore": 255}
    found = softmax_cross_entropy(*GIVEN, weights=jnp.asarray(WEIGHTS, jnp.float32), **options)
    np.testing.assert_allclose(found, written_out(smoothing), rtol=1e-5)
    np.testing.assert_allclose(softmax_cross_entropy(*GIVEN, **options), written_out(smoothing, 1.0), rtol=1e-5)
    gradient = jax.grad(lambda x: softmax_cross_entropy(x, GIVEN[1], **options).sum())(GIVEN[0])
    assert (gradient[~KEPT] == 0).all() and (gradient[KEPT] != 0).all()


def test_class_weights_of_probabilities():
    q = jnp.asarray(RNG.dirichlet(np.ones(4), (5, 6)), jnp.float32)
    found = softmax_cross_entropy(GIVEN[0], q, weights=jnp.asarray(WEIGHTS, jnp.float32))
    np.testing.assert_allclose(found, -(WEIGHTS * q * scipy.special.log_softmax(LOGITS, axis=-1)).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(label_weights(q, jnp.asarray(WEIGHTS, jnp.float32)), np.ones((5, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("where", [False, True])
def test_the_weighted_mean_divides_by_the_weights_that_count(where):
    mask = (RNG.random((5, 6)) < 0.7) if where else np.ones((5, 6), bool)
    batch = {"image": GIVEN[0], "label": GIVEN[1]} | ({"where": jnp.asarray(mask)} if where else {})
    counted = KEPT & mask
    weighted = supervised(
        AS_THEY_ARE,
        softmax_cross_entropy,
        {"accuracy": metrics.correct},
        class_weights=jnp.asarray(WEIGHTS, jnp.float32),
        ignore=255,
    )
    for run in (weighted, jax.jit(weighted, static_argnames=("key", "train"))):
        loss, aux = run({}, {}, batch, key=None, train=True)
        expected = written_out()[counted].sum() / WEIGHTS[LABELS[counted]].sum()
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["loss"].value(), expected, rtol=1e-5)
        np.testing.assert_allclose(aux.weight, WEIGHTS[LABELS[counted]].sum(), rtol=1e-6)
        accuracy = (LOGITS.argmax(-1) == LABELS)[counted].mean()
        np.testing.assert_allclose(aux.metrics["accuracy"].value(), accuracy, rtol=1e-6)
    plain, _ = supervised(AS_THEY_ARE, softmax_cross_entropy, ignore=255)({}, {}, batch, key=None, train=True)
    np.testing.assert_allclose(plain, written_out(weights=1.0)[counted].mean(), rtol=1e-5)


def test_class_weights_and_ignored_labels_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        softmax_cross_entropy(*GIVEN, weights=jnp.array([1.0, 1.0, -1.0, 1.0]), ignore=255)
    with pytest.raises(ValueError, match="probabilities"):
        softmax_cross_entropy(GIVEN[0], jax.nn.softmax(GIVEN[0]), ignore=255)
    objective = supervised(AS_THEY_ARE, softmax_cross_entropy, ignore=255)
    with pytest.raises(ValueError, match="integer label"):
        objective({}, {}, {"image": GIVEN[0], "label": jax.nn.softmax(GIVEN[0])}, key=None, train=True)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_targets_and_outputs_behind_a_mask_leave_no_gradient(bad):
    def gradient(y, scale):
        model = serial(Dense(2), Activation(lambda h: h * scale))
        params, state = model.init(jax.random.key(0), x)
        objective = supervised(model, lambda o, t: gaussian_nll(o[:, 0], t, jnp.exp(o[:, 1])))
        batch = {"image": x, "label": y, "where": where}
        return jax.grad(lambda p: objective(p, state, batch, key=None, train=True)[0])(params)

    x, y = jax.random.normal(jax.random.key(1), (4, 3)), jax.random.normal(jax.random.key(2), (4,))
    where = jnp.array([True, False, True, True])
    clean, spoilt = gradient(y, 1.0), gradient(jnp.where(where, y, bad), jnp.where(where, 1.0, 1e30)[:, None])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), clean, spoilt)


MODEL = serial(Dense(5), BatchNorm(), Activation("relu"), Dense(2))


@pytest.mark.slow
def test_a_penalty_on_activities_reaches_the_weights_below():
    model = observe(MODEL, "activation_0", "dense_0")
    x, y = jax.random.normal(jax.random.key(0), (6, 3)), jnp.array([0, 1, 1, 0, 1, 1])
    params, state = model.init(jax.random.key(1), x)
    where = jnp.array([True, True, False, True, True, True])
    objective = supervised(model, softmax_cross_entropy, activity=lambda h: 0.1 * activity_l1(h["activation_0"]))

    def by_hand(params):
        hidden, after = serial(Dense(5), BatchNorm(), Activation("relu")).apply(params, state, x, train=True)
        outputs = hidden @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
        rows = np.flatnonzero(where)
        penalty = 0.1 * hidden[rows].sum(-1).mean()
        return softmax_cross_entropy(outputs[rows], y[rows]).mean() + penalty, (penalty, after)

    def loss(params):
        batch = {"image": x, "label": y, "where": where}
        return objective(params, state, batch, key=None, train=True)

    (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    (expected, (penalty, after)), slope = jax.value_and_grad(by_hand, has_aux=True)(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["activity"].value(), penalty, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["loss"].value(), expected - penalty, rtol=1e-5)
    for found, given in ((gradient, slope), (aux.state, after)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, given)


def test_observing_a_part_that_is_not_there_names_those_that_are():
    x = jnp.ones((2, 3))
    params, state = MODEL.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"no part 'relu_0', but \['activation_0'"):
        observe(MODEL, "relu_0").apply(params, state, x)
    with pytest.raises(ValueError, match="name the parts"):
        observe(MODEL)
    with pytest.raises(ValueError, match="activity gives shape"):
        objective = supervised(observe(MODEL, "dense_0"), softmax_cross_entropy, activity=lambda h: h["dense_0"].sum())
        objective(params, state, {"image": x, "label": jnp.zeros(2, jnp.int32)}, key=None, train=True)
