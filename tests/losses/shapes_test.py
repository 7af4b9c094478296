"""Shapes that would broadcast are refused by every loss, metric and mask, also for users without shape checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import _metrics as metrics
from dlcore.losses import _classification as classification
from dlcore.losses import _regression as regression
from dlcore.losses import supervised
from dlcore.nn import Dense
from dlcore.types import Mean

ELEMENTWISE = {
    "squared_error": regression.squared_error,
    "absolute_error": regression.absolute_error,
    "huber": regression.huber,
    "gaussian_nll": lambda a, b, **k: regression.gaussian_nll(a, b, 0.7, **k),
    "laplace_nll": lambda a, b, **k: regression.laplace_nll(a, b, 0.7, **k),
    "sigmoid_cross_entropy": classification.sigmoid_cross_entropy,
}
BY_CLASS = {
    "softmax_cross_entropy": classification.softmax_cross_entropy,
    "correct": metrics.correct,
    "top_k_correct": lambda a, b, **k: metrics.top_k_correct(a, b, 2, **k),
    "calibration": lambda a, b, **k: metrics.calibration(jax.nn.softmax(a), b, **k),
}
SHAPES = [(), (3,), (1,), (3, 1), (1, 3), (4, 3)]


pytestmark = pytest.mark.usefixtures("as_users")


def fits(function, *arrays, **options):
    """Whether it is taken when it is traced; what is refused names the shapes."""
    try:
        jax.eval_shape(function, *arrays, **options)
        return True
    except ValueError as error:
        assert all(str(np.shape(array)) in str(error) for array in (*arrays[-1:], *options.values()) if array.ndim)
        return False


@pytest.mark.sampled
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_shapes_that_would_broadcast_are_refused(name):
    for a in SHAPES:
        for b in SHAPES:
            assert fits(ELEMENTWISE[name], np.zeros(a, np.float32), np.zeros(b, np.float32)) == (a == b), (a, b)
    with pytest.raises(ValueError, match=r"\(3, 1\).*\(3,\)"):
        ELEMENTWISE[name](jnp.zeros((3, 1)), jnp.zeros(3))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_mask_has_the_shape_of_the_loss(name):
    x = jnp.zeros((3, 4))
    for shape in [(), (3,), (4,), (3, 1), (1, 4), (3, 4), (3, 4, 1)]:
        taken = fits(lambda x, where: ELEMENTWISE[name](x, x, where=where), x, jnp.ones(shape, bool))
        assert taken == (shape == (3, 4)), shape
    with pytest.raises(ValueError, match="where must be bool, got float32"):
        ELEMENTWISE[name](x, x, where=jnp.ones((3, 4)))


@pytest.mark.sampled
@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4)])
def test_labels_have_one_rank_less(name, shape):
    logits = jnp.zeros((*shape, 3))
    wrong = [(), shape[:-1], (*shape, 1), (1, *shape), (*shape[:-1], 1), (*shape, 3)]
    for given in [shape, *(other for other in wrong if other != shape)]:
        assert fits(BY_CLASS[name], logits, jnp.zeros(given, jnp.int32)) == (given == shape), given
    for given in wrong:
        if given != shape:
            masked = lambda x, where: BY_CLASS[name](x, jnp.zeros(shape, int), where=where)  # noqa: E731
            assert not fits(masked, logits, np.ones(given, bool)), given


@pytest.mark.parametrize("name", BY_CLASS)
def test_labels_that_are_no_integers_are_refused(name):
    with pytest.raises(ValueError, match="float"):
        BY_CLASS[name](jnp.zeros((4, 3)), jnp.zeros(4))


def test_probabilities_have_the_shape_of_the_logits():
    loss, logits = classification.softmax_cross_entropy, jnp.zeros((4, 3))
    np.testing.assert_allclose(loss(logits, jnp.full((4, 3), 1 / 3)), np.log(3), rtol=1e-6)
    for shape in [(1, 3), (4, 1), (3, 4)]:
        with pytest.raises(ValueError, match=r"\(4, 3\)"):
            loss(logits, jnp.full(shape, 0.5))
    with pytest.raises(ValueError, match="int32"):
        loss(logits, jnp.ones((4, 3), jnp.int32))


@pytest.mark.parametrize("name", ["gaussian_nll", "laplace_nll"])
def test_a_scale_is_one_number_or_one_per_element(name):
    loss, x = getattr(regression, name), jnp.zeros((3, 3))
    for shape in [(), (3, 3), (3,), (1,), (3, 1), (1, 3)]:
        assert fits(loss, x, x, jnp.ones(shape)) == (shape in [(), (3, 3)]), shape
    with pytest.raises(ValueError, match="delta must be a single number, got shape"):
        regression.huber(x, x, jnp.ones((3, 3)))


def test_counts_of_other_shapes_are_refused():
    zeros = lambda *shape: jnp.zeros(shape, jnp.int32)  # noqa: E731
    confusion = lambda a, b, **k: metrics.confusion_matrix(a, b, 2, **k)  # noqa: E731
    assert fits(confusion, zeros(4), zeros(4)) and fits(confusion, zeros(2, 3), zeros(2, 3))
    for shape in [(), (1,), (4, 1), (1, 4)]:
        assert not fits(confusion, zeros(4), zeros(*shape))
        assert not fits(lambda a, where: confusion(a, a, where=where), zeros(4), jnp.ones(shape, bool))
        assert not fits(lambda a, where: Mean.of(a, where), zeros(4), jnp.ones(shape, bool))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        metrics.iou(zeros(2, 3))
    with pytest.raises(ValueError, match="1 … 3"):
        metrics.top_k_correct(jnp.zeros((4, 3)), zeros(4), 4)


def test_class_weights_are_one_per_class():
    for shape in [(), (1,), (2,), (4, 3), (3, 1)]:
        assert not fits(
            lambda x, weights: classification.softmax_cross_entropy(x, jnp.zeros(4, jnp.int32), weights=weights),
            jnp.zeros((4, 3)),
            jnp.ones(shape),
        )


@pytest.mark.parametrize("shape", [(6,), (1, 1), (6, 2), (2, 6)])
def test_an_objective_refuses_targets_that_do_not_fit(shape):
    model = Dense(1)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    objective = supervised(model, regression.squared_error)
    with pytest.raises(ValueError, match=r"prediction \(6, 1\)"):
        objective(params, state, {"image": jnp.ones((6, 3)), "label": jnp.ones(shape)}, key=None, train=True)


def test_an_objective_takes_any_mask_that_the_loss_begins_with():
    model = Dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    x, y = jax.random.normal(jax.random.key(1), (4, 5, 3)), jax.random.normal(jax.random.key(2), (4, 5, 2))
    each = np.square(np.asarray(model.apply(params, state, x)[0] - y))
    objective = supervised(model, regression.squared_error)
    for shape in [(4,), (4, 5), (4, 5, 2)]:
        where = np.random.default_rng(0).random(shape) < 0.6
        loss, _ = objective(params, state, {"image": x, "label": y, "where": jnp.asarray(where)}, key=None, train=True)
        np.testing.assert_allclose(loss, each[where].mean(), rtol=1e-5)
    for shape in [(), (1,), (5,), (4, 1), (4, 2), (4, 5, 1)]:
        with pytest.raises(ValueError, match="where has shape"):
            objective(params, state, {"image": x, "label": y, "where": jnp.ones(shape, bool)}, key=None, train=True)
