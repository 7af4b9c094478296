"""Fully connected layer (lecture 8.1–8.3)."""

from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted
from dlcore.nn._product import row_product
from dlcore.nn._rows import add_bias
from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def dense(
    x: Real[Array, "*batch n"], kernel: Real[Array, "n m"], bias: Real[Array, " m"] | None = None
) -> Float[Array, "*batch m"]:
    """Affine map y = x W + b over the last axis; W is [n, m], b is [m] or absent. Dtypes: `dlcore.nn.promoted`."""
    x, kernel, bias = promoted("dense", x, kernel, bias)
    y = row_product(x, kernel)
    return y if bias is None else add_bias(y, bias)


def Dense(
    features: Size, *, bias: bool = True, kernel_init: Initializer = lecun_normal, bias_init: Initializer = zeros
) -> Model:
    """Layer y = x W + b with `features` outputs; any leading axes. Params `kernel` [n, features], `bias` [features].

    Raises `ValueError` unless `features` is a whole number of at least one.
    """
    features = whole(features, "Dense: features")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        params = {"kernel": kernel_init(key, (x.shape[-1], features))}
        return (params | {"bias": bias_init(key, (features,))} if bias else params), {}

    def apply(
        params: Params, state: State, x: Real[Array, "*batch n"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*batch m"], State]:
        return dense(x, params["kernel"], params.get("bias")), state

    return Model(init, apply, "dense")
