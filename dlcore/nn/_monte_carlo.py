"""Monte-Carlo dropout: what a network predicts under many masks (lecture 12.8)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._activation import by_name
from dlcore.nn._intercept import intercepted
from dlcore.setting import whole
from dlcore.types import Key, Model, Params, State

Output = str | Callable[[Array], Array]
"""What turns outputs into predictions: a function or its name, "softmax" or "linear" for instance."""

KINDS = ("dropout",)
"""The kinds of the layers whose noise is on."""


class Prediction(NamedTuple):
    """Mean and variance over masks, of the shape of one prediction."""

    mean: Float[Array, "*s"]
    variance: Float[Array, "*s"]
    """Unbiased: the sum of squares over samples − 1."""


def monte_carlo(
    model: Model,
    params: Params,
    state: State,
    *inputs: Array,
    key: Key,
    samples: int,
    chunk: int = 10,
    output: Output = "softmax",
    kinds: Sequence[str] = KINDS,
) -> Prediction:
    """Mean and variance of the predictions under `samples` random masks (Gal & Ghahramani 2016, eq. 6–7).

    Only dropout is on: all else is as in inference, batch norm with its running statistics, and state stays. Every
    example has masks of its own. At most `chunk` samples are in memory at a time. `output` is applied to each sample;
    pass "linear" for regression. `kinds` names layers to be on, such as "stochastic_depth" or "noise" as well. They are
    found among the parts of composed models, not inside of ensembles or Flax modules. Raises `ValueError` when there is
    none of them, for a model without parts, for fewer than two samples, and for chunks below 1.
    """
    if whole(samples, "monte_carlo: samples") < 2:
        raise ValueError(f"monte_carlo: a variance needs two samples or more, got samples={samples}")
    one = _sampler(model, params, state, inputs, output, kinds)
    keys, size = jax.random.split(key, samples), _chunk(chunk, samples)
    blocks = samples // size

    def add(sums: tuple[Array, Prediction], keys: Key) -> tuple[tuple[Array, Prediction], None]:
        return _merge(sums, jax.vmap(one)(keys)), None

    shape = jax.eval_shape(one, key)
    start = jnp.zeros(()), Prediction(*(jnp.zeros(shape.shape, shape.dtype) for _ in range(2)))
    sums, _ = jax.lax.scan(add, start, keys[: blocks * size].reshape(blocks, size))
    if samples % size:
        sums, _ = add(sums, keys[blocks * size :])
    return Prediction(sums[1].mean, sums[1].variance / (samples - 1))


def _merge(sums: tuple[Array, Prediction], values: Float[Array, "n *s"]) -> tuple[Array, Prediction]:
    """Count, mean and sum of squared deviations with more values (Chan et al. 1983, eq. 2.1)."""
    (count, (mean, squares)), n = sums, len(values)
    own, total = values.mean(0), count + n
    squares = squares + jnp.square(values - own).sum(0) + jnp.square(own - mean) * (count * n / total)
    return total, Prediction(mean + (own - mean) * (n / total), squares)


def monte_carlo_samples(
    model: Model,
    params: Params,
    state: State,
    *inputs: Array,
    key: Key,
    samples: int,
    chunk: int = 10,
    output: Output = "softmax",
    kinds: Sequence[str] = KINDS,
) -> Float[Array, "samples *s"]:
    """All the predictions that `monte_carlo` averages, computed `chunk` at a time. Raises as it does."""
    samples = whole(samples, "monte_carlo_samples: samples")
    one = _sampler(model, params, state, inputs, output, kinds)
    return jax.lax.map(one, jax.random.split(key, samples), batch_size=_chunk(chunk, samples))


def _chunk(chunk: int, samples: int) -> int:
    return min(whole(chunk, "monte_carlo: chunk"), samples)


def _sampler(
    model: Model, params: Params, state: State, inputs: tuple[Array, ...], output: Output, kinds: Sequence[str]
) -> Callable[[Key], Array]:
    """One prediction under the masks of a key."""
    activate = by_name(output) if isinstance(output, str) else output

    def one(key: Key) -> Array:
        noisy: list[str] = []

        def rule(path: str, part: Model, inputs: tuple[Any, ...], proceed: Callable[..., Any]) -> Any:
            if part.kind not in kinds:
                return proceed(*inputs)
            noisy.append(path)
            return proceed(*inputs, train=True)

        outputs, _ = intercepted(model, rule).apply(params, state, *inputs, key=key)
        if not noisy:
            raise ValueError(
                f"monte_carlo: no part of the model is a {' or '.join(kinds)} layer; there is nothing random about it"
            )
        return activate(outputs)

    return one
