"""The numbers that layers compute with: one rule for all of them, and for every way to compute one (lecture 8, 14, 15).

**Which dtype.** Input and params are promoted to one floating dtype, which is also that of the output: bfloat16 images
and float32 kernels give float32; bfloat16 and float16, which hold neither each other's range nor digits, float32; any
float and float64, which exists under `jax_enable_x64` alone, float64. Integers and booleans take the dtype of the
params, or float32 where there are none or integers too; only what picks values, a maximum or a rearrangement, keeps
them as they are. Integers that index take any integer dtype. Complex numbers are refused with a `ValueError`.

**Params and running statistics** are float32, also under `jax_enable_x64`, unless an initializer gives something else
or they are cast. Statistics do not enter the promotion, and keep their dtype in training.

**Sums** over positions, examples or cells are taken in float32 at least and rounded once, in the value and in every
gradient: the gradient of a bfloat16 bias added to 8,192 cells is 8192 and not the 256 at which bfloat16 stops counting.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from dlcore.operands import wide


def promoted(layer: str, *arrays: Array | None) -> list[Array | None]:
    """The arrays in the floating dtype that they promote to; None stays.

    Raises `ValueError` for complex numbers and for 8-bit floats, which promote to nothing, naming the `layer`.
    """
    given = [None if array is None else jnp.asarray(array) for array in arrays]
    dtypes = [array.dtype for array in given if array is not None]
    try:
        common = jnp.result_type(*dtypes)
    except ValueError:
        common = None
    if common is None or jnp.issubdtype(common, jnp.complexfloating):
        names = " and ".join(map(str, dtypes))
        raise ValueError(f"{layer}: {names} have no common real dtype to compute in; cast them, e.g. to float32")
    common = common if jnp.issubdtype(common, jnp.floating) else jnp.dtype(jnp.float32)
    return [None if array is None else array.astype(common) for array in given]


def widely(function: Callable[..., Array], *arrays: Array) -> Array:
    """`function(*arrays)` computed in float32 at least, and its derivatives too; rounded once to the arrays' dtype.

    Float32 and float64 are left as they are, at no cost. The arrays have one dtype.
    """
    return function(*map(wide, arrays)).astype(arrays[0].dtype)
