"""How signals and gradients scale with depth: a study of initialisers (lecture 10.2–10.6)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn.init import Initializer
from dlcore.precision import highest
from dlcore.types import Key


class Scaling(NamedTuple):
    """One deep network at its start; axis l runs over its layers."""

    activation: Float[Array, " l"]
    """Root mean square of the activations behind layer l; that of the input is 1."""
    gradient: Float[Array, " l"]
    """That of the gradient at the input of layer l, for a random gradient of size 1 at the output."""
    singular: Float[Array, "l n"]
    """Singular values of ∂h_l/∂h_{l−1} at one example, the largest first."""


@highest
def scaling(
    key: Key,
    initializer: Initializer,
    activation: Callable[[Array], Array],
    *,
    depth: int = 20,
    width: int = 128,
    examples: int = 256,
) -> Scaling:
    """h_l = φ(W_l h_{l−1}) for `depth` square layers without biases, from standard normal inputs.

    With variances g/n of the weights the mean square changes by a factor of g · E[φ(z)²] per layer: 1 for He's g = 2
    and a ReLU, 1 for LeCun's g = 1 and the identity; tanh shrinks slowly at g = 1.
    """
    keys = jax.random.split(key, depth + 2)
    kernels = jnp.stack([initializer(k, (width, width)) for k in keys[:depth]])
    x = jax.random.normal(keys[-2], (examples, width))
    h, outputs = x, [x]
    for kernel in kernels:
        h = activation(h @ kernel)
        outputs.append(h)
    back, gradients = jax.random.normal(keys[-1], h.shape), []
    for kernel, before in zip(kernels[::-1], outputs[-2::-1], strict=True):
        back = jax.vjp(lambda h, kernel=kernel: activation(h @ kernel), before)[1](back)[0]
        gradients.append(back)
    jacobian = jax.vmap(lambda kernel, h: jax.jacrev(lambda h: activation(h @ kernel))(h))
    found = jacobian(kernels, jnp.stack([h[0] for h in outputs[:-1]]))
    return Scaling(
        jnp.stack([rms(h) for h in outputs[1:]]),
        jnp.stack([rms(g) for g in gradients[::-1]]),
        jnp.linalg.svd(found, compute_uv=False),
    )


def rms(x: Float[Array, "..."]) -> Float[Array, ""]:
    """√ mean x²."""
    return jnp.sqrt(jnp.square(x).mean())
