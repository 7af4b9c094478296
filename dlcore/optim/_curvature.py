"""First and second derivatives along directions, and products with matrices never formed (lecture 5.2–5.8).

Points and directions are arrays or pytrees of arrays with the same structure, such as the parameters of a network.
Products inside the functions are computed in full precision, see `dlcore.precision`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dlcore.precision import highest

Scalar = Float[Array, ""]


def inner(a: Any, b: Any) -> Scalar:
    """⟨a, b⟩ over all leaves, in at least single precision. Raises `ValueError` for leaves of different shapes."""

    def leaf(x: Any, y: Any) -> Array:
        x, y = jnp.asarray(x), jnp.asarray(y)
        if x.shape != y.shape:
            raise ValueError(f"inner: leaves of shapes {x.shape} and {y.shape}; both trees must have the same shapes")
        # Not jnp.vdot, which adds in half precision, and loses digits over many entries.
        return jnp.sum(x.astype(jnp.promote_types(x.dtype, jnp.float32)) * y)

    return sum(jax.tree.leaves(jax.tree.map(leaf, a, b)), jnp.zeros(()))


def norm(a: Any) -> Scalar:
    """‖a‖ over all leaves, with derivative 0 at 0."""
    square = inner(a, a)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), square)


@highest
def directional_derivative(f: Callable[[Any], Scalar], x: Any, u: Any) -> Scalar:
    """d/dt f(x + t u) at t = 0, which is ∇f(x)ᵀu, by one forward pass (lecture 5.2)."""
    return jax.jvp(f, (x,), (u,))[1]


@highest
def steepest_direction(f: Callable[[Any], Scalar], x: Any) -> Any:
    """The unit vector −∇f/‖∇f‖ that minimises ∇fᵀu; zero where the gradient is (lecture 5.3)."""
    gradient = jax.grad(f)(x)
    size = norm(gradient)
    return jax.tree.map(lambda g: -g / jnp.where(size > 0, size, 1.0), gradient)


@highest
def jacobian(f: Callable[[Any], Any], x: Any) -> Float[Array, "m n"]:
    """J_ij = ∂f_i/∂x_j over raveled output and input; forward or reverse mode, whichever has fewer passes."""
    flat, unravel = ravel_pytree(x)

    def vector(v: Array) -> Array:
        return ravel_pytree(f(unravel(v)))[0]

    mode = jax.jacfwd if flat.size <= jax.eval_shape(vector, flat).size else jax.jacrev
    return mode(vector)(flat)


@highest
def hessian(f: Callable[[Any], Scalar], x: Any) -> Float[Array, "n n"]:
    """H_ij = ∂²f/∂x_i∂x_j over raveled x: n² numbers, for small n."""
    flat, unravel = ravel_pytree(x)
    return jax.hessian(lambda v: f(unravel(v)))(flat)


@highest
def hvp(f: Callable[[Any], Scalar], x: Any, v: Any) -> Any:
    """H v as the derivative of ∇f along v, forward over reverse: a small multiple of the cost of a gradient.

    H is never formed (Pearlmutter 1994).
    """
    return jax.jvp(jax.grad(f), (x,), (v,))[1]


@highest
def gnvp(loss: Callable[[Any], Scalar], outputs: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """G v with the generalised Gauss–Newton matrix G = Jᵀ (∇² loss) J of x ↦ loss(outputs(x)) (Schraudolph 2002).

    J is the Jacobian of `outputs` at x and ∇² loss the Hessian of `loss` at outputs(x). G is positive
    semi-definite when `loss` is convex, and equals H where `outputs` is linear or the loss is stationary in them.
    """
    out, tangent = jax.jvp(outputs, (x,), (v,))
    _, pull = jax.vjp(outputs, x)
    return pull(hvp(loss, out, tangent))[0]


@highest
def second_directional_derivative(f: Callable[[Any], Scalar], x: Any, u: Any) -> Scalar:
    """d²/dt² f(x + t u) at t = 0, which is uᵀHu; for ‖u‖ = 1 it lies in [λmin, λmax] (lecture 5.7)."""
    return jax.jvp(lambda y: directional_derivative(f, y, u), (x,), (u,))[1]


@highest
def best_rate(f: Callable[[Any], Scalar], x: Any) -> Scalar:
    """ε* = gᵀg/gᵀHg, the step along −g that minimises the second-order model (Goodfellow et al. 2016, eq. 4.10).

    Infinite where the curvature along the gradient is not positive.
    """
    gradient = jax.grad(f)(x)
    curvature = second_directional_derivative(f, x, gradient)
    positive = curvature > 0
    return jnp.where(positive, inner(gradient, gradient) / jnp.where(positive, curvature, 1.0), jnp.inf)
