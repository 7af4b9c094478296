"""Classification by a density of each class: p(y|x) ∝ p(x|y) p(y) (lecture 22).

Any log p(x|y) will do, in nats, of a density or of discrete images, as long as it is the same kind for every class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.operands import Discrete, class_labels, has_shape, known, marks, wide
from dlcore.types import Key


class Posterior(NamedTuple):
    """What Bayes' rule says of examples."""

    log_posterior: Float[Array, "b c"]
    """log p(y|x) in nats: log-probabilities, and so logits as well."""
    log_evidence: Float[Array, " b"]
    """log p(x) = log Σ_y p(x|y) p(y) in nats."""


def bayes(log_likelihood: Float[Array, "b c"], log_prior: Float[Array, " c"]) -> Posterior:
    """log p(y|x) = log p(x|y) + log p(y) − log p(x), all in nats; any constant may be taken off all log p(x|y).

    Nothing is exponentiated before the largest is taken off, so that −1000 nats do no harm. A prior of 0 (−∞) rules a
    class out. NaN where all classes give the example probability 0: then nothing is known of y. Raises `ValueError`
    unless there is one prior per class.

    >>> found = bayes(jnp.asarray([[-1000.0, -1003.0]]), jnp.log(jnp.asarray([0.5, 0.5])))
    >>> round(float(jnp.exp(found.log_posterior[0, 0])), 4), round(float(found.log_evidence[0]), 2)
    (0.9526, -1000.64)
    """
    has_shape("bayes", "log_prior", log_prior, log_likelihood.shape[-1:], "one number per class")
    largest = log_likelihood.max(-1, keepdims=True)
    # Differences first: a prior added to −1000 nats would lose its digits.
    joint = log_likelihood - jnp.where(jnp.isfinite(largest), largest, 0) + log_prior
    log_evidence = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
    return Posterior(joint - log_evidence, (log_evidence + jnp.where(jnp.isfinite(largest), largest, 0))[..., 0])


def class_log_prior(
    labels: Discrete[Array, " n"], classes: int, *, where: Discrete[Array, " n"] | None = None
) -> Float[Array, " c"]:
    """log of the relative frequency of each class among the examples that count; −∞ for one that does not occur.

    Raises `ValueError` for labels outside 0 … classes − 1, where they are known.
    """
    index, inside, _ = class_labels("class_log_prior", labels, jnp.shape(labels), classes, where=where)
    counted = marks("class_log_prior", where, jnp.shape(labels))
    inside = inside if counted is None else inside & counted
    counts = ((index[:, None] == jnp.arange(classes)) & inside[:, None]).sum(0, dtype=jnp.int32)
    return jnp.log(wide(counts)) - jnp.log(wide(counts.sum()))


def log_likelihoods(
    log_prob: Callable[..., Float[Array, " b"]], x: Array, classes: int, *along: Any
) -> Float[Array, "b c"]:
    """log p(x|y) for every class, from `log_prob(x, labels [b], *along) -> [b]`, called once with all classes as rows.

    `along` has a row per example, such as keys, and goes with it: all classes are judged by the same draws.
    """

    def repeated(array: Array) -> Array:
        return jnp.concatenate([array] * classes)

    labels = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), len(x))
    found = log_prob(repeated(x), labels, *(jax.tree.map(repeated, part) for part in along))
    has_shape("log_likelihoods", "log_prob's result", found, labels.shape, "one number per example and class")
    return found.reshape(classes, len(x)).T


def sample(
    key: Key, log_prior: Float[Array, " c"], draw: Callable[[Key, Array], Array], count: int
) -> tuple[Array, Int[Array, " n"]]:
    """(x, y) of the joint distribution: y ~ p(y), then x ~ p(x|y) by `draw(key, labels [n])`.

    x alone is of the mixture Σ_y p(x|y) p(y). Raises `ValueError` for priors that are no log-probabilities, where
    they are known.
    """
    if known(log_prior) and not np.isclose(np.exp(np.asarray(log_prior, np.float64)).sum(), 1, atol=1e-3):
        raise ValueError("sample: log_prior must be the log of probabilities that add up to 1; pass class_log_prior(…)")
    own, rest = jax.random.split(key)
    labels = jax.random.categorical(own, log_prior, shape=(count,)).astype(jnp.int32)
    return draw(rest, labels), labels
