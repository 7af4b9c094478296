"""Categorical codes: n variables of c categories as one-hot vectors, exact and relaxed (lecture 24.1).

The prior is uniform, KL(q ‖ p) = Σ_i Σ_c q_ic log(c q_ic) in closed form. **Evaluation is of the discrete model**:
codes are drawn one-hot, so that the reported bounds are bounds of log p(x) = log Σ_z p(z) p(x|z). A relaxation serves
training only; the number that is reported there is no bound of either model.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.vae.posterior import Outputs, Posterior
from dlcore.setting import Number, number, whole
from dlcore.types import Key, Params


def relaxed_one_hot(noise: Float[Array, "*k c"], logits: Float[Array, "*b c"], temperature: Number) -> Array:
    """softmax((a + g)/τ) for given Gumbel noise g; one-hot in the limit τ → 0.

    Raises `ValueError` unless the shape of the noise is that of the logits, with axes of draws before it.
    """
    if jnp.shape(noise)[max(jnp.ndim(noise) - jnp.ndim(logits), 0) :] != jnp.shape(logits):
        raise ValueError(
            f"relaxed_one_hot: noise of shape {jnp.shape(noise)} must end with that of the logits, {jnp.shape(logits)}"
        )
    return jax.nn.softmax((logits + noise) / temperature)


def gumbel_softmax(key: Key, logits: Float[Array, "*b c"], temperature: Number) -> Float[Array, "*b c"]:
    """softmax((a + g)/τ) with Gumbel noise g: a relaxed one-hot draw of softmax(a) (Jang et al. 2017, eq. 2).

    τ may be traced, to be annealed. Raises `ValueError` unless τ > 0, where it is known.
    """
    in_range("gumbel_softmax", "temperature", temperature, lambda t: t > 0, "be positive")
    return relaxed_one_hot(jax.random.gumbel(key, logits.shape), logits, temperature)


def annealed(start: float, end: float, steps: int) -> Callable[[Array | None], Number]:
    """τ(step) = max(end, start · (end/start)^{step/steps}), `end` from then on and where no step is given.

    >>> float(annealed(1.0, 0.25, 10)(5))
    0.5

    Raises `ValueError` unless start ≥ end > 0.
    """
    steps = whole(steps, "annealed: steps", least=0)
    if not number(start, "annealed: start") >= number(end, "annealed: end") > 0:
        raise ValueError(f"annealed: start={start} must be at least end={end}, and both positive")

    def temperature(step: Number | None) -> Number:
        if step is None or steps < 1:
            return end
        return start * (end / start) ** jnp.minimum(step / steps, 1.0)

    return temperature


def categorical(categories: int) -> Posterior:
    """Exact one-hot codes z_i ~ softmax(a_i), outputs a [b, n·c]; log q(z|x) = Σ_i a_i·z_i − log Σ_c e^{a_ic}.

    Codes do not depend smoothly on the logits: train with a score-function estimator (`gradient="rloo"`). The noise is
    that of the Gumbel-max trick. Raises `ValueError` for fewer than two categories, or logits they do not divide.
    """
    categories = whole(categories, "categorical: categories", least=2)

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:-1], -1, categories)

    def read(output: Any, spread: str) -> Outputs:
        if not hasattr(output, "shape") or output.shape[-1] % categories:
            found = getattr(output, "shape", type(output).__name__)
            raise ValueError(f"the encoder gives {found}; it must give one array of n · {categories} logits")
        return (output,)

    def log_prob(params: Params, outputs: Outputs, z: Float[Array, "k b d"]) -> Array:
        return (split(z) * jax.nn.log_softmax(split(outputs[0]))).sum((-1, -2))

    def place(params: Params, outputs: Outputs, noise: Float[Array, "k b d"]) -> tuple[Array, Array]:
        chosen = jnp.argmax(split(outputs[0] + noise), -1)
        z = jax.nn.one_hot(chosen, categories, dtype=noise.dtype).reshape(noise.shape)
        return z, log_prob(params, outputs, z)

    def kl(outputs: Outputs) -> Float[Array, "b n"]:
        log_p = jax.nn.log_softmax(split(outputs[0]))
        return (jnp.exp(log_p) * log_p).sum(-1) + math.log(categories)

    def centre(params: Params, outputs: Outputs) -> Float[Array, "b d"]:
        return jax.nn.softmax(split(outputs[0])).reshape(outputs[0].shape)

    return Posterior(
        "categorical",
        read=read,
        dims=lambda outputs: outputs[0].shape[-1],
        noise=jax.random.gumbel,
        place=place,
        log_prob=log_prob,
        centre=centre,
        kl=kl,
        pathwise=False,
        discrete=True,
    )


def concrete(categories: int, temperature: Callable[[Array | None], Number]) -> Posterior:
    """`categorical`, trained through Gumbel-softmax codes at a temperature given the step (Jang et al. 2017).

    Training takes the pathwise gradient through relaxed codes and the closed-form divergence of the categorical ones.
    """
    exact = categorical(categories)

    def relaxed(step: Array | None) -> Posterior:
        tau = temperature(step)

        def place(params: Params, outputs: Outputs, noise: Float[Array, "k b d"]) -> tuple[Array, None]:
            logits, noise = (x.reshape(*x.shape[:-1], -1, categories) for x in (outputs[0], noise))
            z = relaxed_one_hot(noise, logits, tau)
            return z.reshape(*z.shape[:-2], -1), None

        return exact._replace(name="concrete", place=place, log_prob=None, pathwise=True)

    return exact._replace(name="concrete", training=relaxed)
