"""Layer scale (lecture 16)."""

from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._rows import spread
from dlcore.nn.init import constant
from dlcore.setting import number
from dlcore.types import Input, Key, Model, Params, State


def LayerScale(start: float = 1e-6) -> Model:
    """y = γ ⊙ x with one learned γ per channel, all `start` at first (Touvron et al. 2021, eq. 4).

    At the end of a residual block, a small start makes the block nearly the identity.
    """

    number(start, "LayerScale: start")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {"gamma": constant(start)(key, (x.shape[-1],))}, {}

    def apply(
        params: Params, state: State, x: Real[Array, "*b c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b c"], State]:
        scaled = widely(lambda x, gamma: x * spread(gamma, x.shape[:-1]), *promoted("LayerScale", x, params["gamma"]))
        return scaled, state

    return Model(init, apply, "layer_scale")
