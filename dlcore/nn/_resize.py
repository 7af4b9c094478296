"""Changes of resolution without weights (lecture 25)."""

from jaxtyping import Array, Float

from dlcore.nn._dtypes import widely
from dlcore.setting import whole


def upsample(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b h2 w2 c"]:
    """`factor` times the height and width, each pixel repeated.

    Raises `ValueError` for a factor below 1.
    """
    factor = whole(factor, "upsample: factor")
    return widely(lambda x: x.repeat(factor, axis=1).repeat(factor, axis=2), x)
