"""Fully connected layer (lecture 8.1–8.3)."""

from jaxtyping import Array, Float

from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.nn.product import row_product
from dlcore.nn.rows import spread
from dlcore.types import Input, Key, Model, Params, State


def dense(
    x: Float[Array, "*batch n"], kernel: Float[Array, "n m"], bias: Float[Array, " m"] | None = None
) -> Float[Array, "*batch m"]:
    """Affine map y = x W + b over the last axis; W is [n, m], b is [m] or absent."""
    y = row_product(x, kernel)
    return y if bias is None else y + spread(bias, y.shape[:-1])


def Dense(
    features: int, *, bias: bool = True, kernel_init: Initializer = lecun_normal, bias_init: Initializer = zeros
) -> Model:
    """Layer y = x W + b with `features` outputs; any leading axes. Params `kernel` [n, features], `bias` [features].

    Raises `ValueError` for fewer than one feature.
    """
    if features < 1:
        raise ValueError(f"Dense: features must be at least 1, got {features}")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        params = {"kernel": kernel_init(key, (x.shape[-1], features))}
        return (params | {"bias": bias_init(key, (features,))} if bias else params), {}

    def apply(
        params: Params, state: State, x: Float[Array, "*batch n"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*batch m"], State]:
        return dense(x, params["kernel"], params.get("bias")), state

    return Model(init, apply)
