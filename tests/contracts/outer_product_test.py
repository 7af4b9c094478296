"""A column [n, 1] beside a row [n], one row for all, one column for all: no public function broadcasts them silently.

Each entry is a call that is right. Every array of it is then given a further axis, or one entry for all; what is
neither refused nor said to be allowed would give a number of something else. As for users, without the type checker.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore import backprop, evaluation, losses, nn, optim, retrieval, stats, studies
from dlcore.evaluation import collapse
from dlcore.generative import classifier, code_penalty, colour_mixture, flow, gaussian_classes
from dlcore.generative.diffusion import schedule
from dlcore.generative.vae import active, categorical, estimators
from dlcore.stats import density

KEY = jax.random.key(0)
N = 3


pytestmark = pytest.mark.usefixtures("as_users")


def x(*shape):
    return jnp.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)


def i(*shape):
    return jnp.arange(int(np.prod(shape)), dtype=jnp.int32).reshape(shape) % N


def codes(*shape):
    return np.arange(int(np.prod(shape)), dtype=np.uint32).reshape(shape)


GRID = jnp.linspace(0, 1, N)
DENSE = backprop.DenseCache(x(N, N), x(N, N))
NORM = backprop.BatchNormCache(x(N, N), x(N), x(N))
CONV = backprop.ConvCache(x(N, N, N, N), x(N, N, N, N))
GAUSSIANS = gaussian_classes.Gaussians(jnp.log(x(N)), x(N, N), jnp.eye(N)[None])
MIXTURE = (x(N, 2), x(N, N, 2), x(N, N, 2), x(N, N, 2))


def of_mixture(function):
    return lambda *parts: function(colour_mixture.ColourMixture(*parts))


CALLS = {
    "softmax_focal": (lambda a, b, w: losses.softmax_focal(a, b, weights=w), x(N, N), i(N), x(N)),
    "label_weights": (lambda w: losses.label_weights(i(N), w), x(N)),
    "boundary_f": (lambda *counts: evaluation.boundary_f(evaluation.Boundary(*counts)), *4 * [i(N)]),
    "calibration error": (
        lambda *bins: evaluation.expected_calibration_error(evaluation.Calibration(*bins)),
        *(x(N), i(N), i(N)),
    ),
    "examine": (lambda known: collapse.examine(x(N, 2), x(N, 2), known, x(N, 2), N), np.arange(N)),
    "full_normal_params": (stats.full_normal_params, x(N), jnp.eye(N)),
    "density": (lambda v, p: density.normalize(v, (p,), ("x",)), x(N), GRID),
    "draw": (lambda labels: gaussian_classes.draw(KEY, GAUSSIANS, labels), i(N + 1)),
    "bayes": (lambda prior: classifier.bayes(x(N, N), prior), x(N)),
    "kl_sparsity": (lambda c, w: code_penalty.kl_sparsity(c, 0.1, where=w), x(N, N), i(N)),
    "units": (code_penalty.units, x(N, N), i(N)),
    "colours' log-mass": (
        lambda v, *parts: of_mixture(lambda m: colour_mixture.log_mass(v, m, 4))(*parts),
        *(i(N, N), *MIXTURE),
    ),
    "colours' sample": (of_mixture(lambda m: colour_mixture.sample(KEY, m, 4)), *MIXTURE),
    "colours' mean": (of_mixture(lambda m: colour_mixture.mean(m, 4)), *MIXTURE),
    "score_surrogate": (estimators.score_surrogate, x(2, N), x(2, N), x(2, N)),
    "relaxed_one_hot": (lambda g, a: categorical.relaxed_one_hot(g, a, 1.0), x(2, N, N), x(N, N)),
    "activity": (active.activity, x(N, N), jnp.ones(N, bool)),
    "scaled": (flow.scaled, x(N, N), x(N, N), x(N, N)),
    "unscaled": (flow.unscaled, x(N, N), x(N, N), x(N, N)),
    "affine": (flow.affine().forward, x(N, N), x(N, N, 2)),
    "affine inverse": (flow.affine().inverse, x(N, N), x(N, N, 2)),
    "discrete bound": (lambda d: flow.bound(KEY, flow.uniform(), {}, lambda y: d, i(N, N), 4), x(N)),
    "look-up": (lambda table: schedule.at(table, i(N), x(N, N)), x(N)),
    "scores": (lambda labels: studies.scores(np.log(x(N, N)), labels), np.arange(N)),
    "hidden": (lambda fill: studies.hidden(KEY, i(N, N, N, 2), 0.5, fill), i(N, N, 2)),
    "crossover": (lambda a, b: optim.crossover(KEY, a, b), x(N, N), x(N, N)),
    "clip_adaptively": (lambda g, w: optim.clip_adaptively(0.1).update(g, (), w), x(N, N), x(N, N)),
    "bits": (lambda t: retrieval.bits(x(2, N), t), x(N)),
    "average_precision": (lambda total: retrieval.average_precision(i(N, N) > 0, total), i(N) + 1),
    "precision_recall": (retrieval.precision_recall, i(2, N), i(2, N)),
    "code_sums": (retrieval.code_sums, x(N, N), x(N, N), jnp.ones(N, bool)),
    "search": (
        lambda own: retrieval.search(jnp.asarray(codes(N, 1)), jnp.asarray(codes(N, 1)), 2, leave_out=own),
        i(N),
    ),
    "judge": (
        lambda q, d, own, labels: retrieval.judge([q], [d], own, labels, 32, 2),
        *(codes(N, 1), codes(4, 1), np.arange(N), np.arange(4)),
    ),
    "look_up_cost": (
        lambda own, labels: retrieval.look_up_cost([retrieval.build(codes(4, 1), 32)], [codes(N, 1)], own, labels, 1),
        *(np.arange(N), np.arange(4)),
    ),
    "batch_norm": (lambda *v: nn.batch_norm(x(2, N), *v), *4 * [x(N)]),
    "layer_norm": (lambda *v: nn.layer_norm(x(2, N), *v), *2 * [x(N)]),
    "group_norm": (lambda *v: nn.group_norm(x(2, 4, N), 1, *v), *2 * [x(N)]),
    "dense": (lambda bias: nn.dense(x(2, N), x(N, N), bias), x(N)),
    "conv": (lambda bias: nn.conv(x(2, N, N, 1), x(2, 2, 1, N), bias), x(N)),
    "conv_transpose": (lambda bias: nn.conv_transpose(x(2, N, N, N), x(2, 2, N, N), bias), x(N)),
    "circular_convolve": (nn.circular_convolve, x(N, N), x(N, N)),
    "written-out cross-entropy": (backprop.softmax_cross_entropy_forward, x(N, N), i(N)),
    "activation_backward": (backprop.activation_backward, x(N, N), x(N, N)),
    "dense_forward": (lambda k, b: backprop.dense_forward(x(N, N), k, b), x(N, N), x(N)),
    "dense_backward": (lambda g: backprop.dense_backward(DENSE, g), x(N, N)),
    "batch_norm_forward": (lambda *v: backprop.batch_norm_forward(x(2, N), *v), x(N), x(N)),
    "batch_norm_backward": (lambda g: backprop.batch_norm_backward(NORM, g), x(N, N)),
    "conv_forward": (lambda bias: backprop.conv_forward(CONV.x, CONV.kernel, bias), x(N)),
    "conv_backward": (lambda g: backprop.conv_backward(CONV, g), x(N, N, N, N)),
    "avg_pool_backward": (lambda g: backprop.avg_pool_backward(x(1, 2, 2, 1), g, (N, 4, 4, N), 2), x(N, 2, 2, N)),
    "max_pool_backward": (
        lambda where, g: backprop.max_pool_backward(where, g, (N, 4, 4, N), 2),
        *(i(N, 2, 2, N), x(N, 2, 2, N)),
    ),
}

ALLOWED = {
    ("score_surrogate", 2, ()): "a baseline that is one number",
    ("bits", 0, ()): "one threshold",
    ("relaxed_one_hot", 0, (1, 2, N, N)): "an axis of draws",
    ("relaxed_one_hot", 0, (1, N, N)): "one draw",
    ("relaxed_one_hot", 0, (N, N)): "no axis of draws",
    ("draw", 0, (1,)): "one example",
    ("label_weights", 0, (1,)): "one class",
    ("relaxed_one_hot", 1, (N,)): "draws of one distribution",
    ("kl_sparsity", 0, (N, 1)): "one unit",
    ("units", 0, (N, 1)): "one unit",
    ("activity", 0, (N, 1)): "one dimension",
    ("written-out cross-entropy", 0, (N, 1)): "one class",
}


def reshaped(array):
    """The array with one more axis, one fewer, or one entry for all along an axis."""
    whole = [slice(None)] * array.ndim
    found = [array[..., None], array[None], *([array[0]] if array.ndim else [])]
    found += [array[(*whole[:axis], slice(1), *whole[axis + 1 :])] for axis in range(array.ndim)]
    return [other for other in found if other.shape != array.shape]


@pytest.mark.parametrize("name", CALLS)
def test_what_would_broadcast_is_refused(name):
    function, *arrays = CALLS[name]
    for place, array in enumerate(arrays):
        for other in reshaped(array):
            given = [*arrays[:place], other, *arrays[place + 1 :]]
            call = functools.partial(function, *given)
            if (name, place, other.shape) in ALLOWED:
                jax.eval_shape(call)
                continue
            with pytest.raises(ValueError, match=r"shape|fit|grids|must|classes|unpack|labels"):
                print(name, place, other.shape, jax.tree.map(jnp.shape, call()))
