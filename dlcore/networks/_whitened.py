"""Networks for fast training on small images: frozen whitening, then few wide stages (lecture 16).

They follow the recipes of Jordan 2024 ("94 % on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn import Activation, BatchNorm, Conv, Dense, Function, GlobalMaxPool, MaxPool, conv, residual, serial
from dlcore.nn.init import he_normal
from dlcore.setting import number, whole
from dlcore.types import Input, Key, Model, Params, State

WINDOW = 3
EPSILON = 5e-4
HEAD_SCALE = 1 / 9
"""What the inputs of the head are multiplied by, so that at the common rate it begins gently."""


def whitening(
    images: Float[Array, "b h w c"], window: int = WINDOW, epsilon: float = EPSILON
) -> tuple[Float[Array, "k k c d"], Float[Array, " d"]]:
    """Kernel W and bias −μW by which the d = k²c outputs at all positions have mean 0 and covariance near 1.

    Σ = V Λ Vᵀ is the covariance of the patches x, W = V (Λ + ε λ̄)^(−1/2) with the mean λ̄ of the eigenvalues: output i
    has the variance λ_i/(λ_i + ε λ̄). Images without variance are left as they are. Raises `ValueError` for images
    that are smaller than the window.
    """
    height, width, channels = images.shape[1:]
    if min(height, width) < window:
        raise ValueError(f"whitening: images of {height}×{width} have no patch of {window}×{window}")
    rows, columns = height - window + 1, width - window + 1
    shifted = [images[:, i : i + rows, j : j + columns] for i in range(window) for j in range(window)]
    patches = jnp.concatenate(shifted, -1).reshape(-1, window**2 * channels).astype(jnp.float32)
    mean = patches.mean(0)
    centred = patches - mean
    covariance = jnp.matmul(centred.T, centred, precision="highest") / len(patches)
    values, vectors = jnp.linalg.eigh(covariance)
    values = jnp.where(values.mean() > 0, jnp.maximum(values, 0) + epsilon * values.mean(), 1.0)
    kernel = vectors / jnp.sqrt(values)
    bias = -jnp.matmul(mean, kernel, precision="highest")
    return kernel.reshape(window, window, channels, -1), bias


def Whitening(window: int = WINDOW, epsilon: float = EPSILON) -> Model:
    """Layer of `whitening` by the images that `init` sees, never trained: images [b, h, w, c] to [b, h', w', 2 k² c].

    Outputs y and −y stand side by side, so that a rectifier behind them loses nothing. Kernel and bias are model state:
    no gradient is computed for them, and no optimiser sees them. Raises `ValueError` for a window
    below 1 or a negative epsilon.
    """
    whole(window, "Whitening: window")
    number(epsilon, "Whitening: epsilon", "[0, ∞)")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        images = jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x
        kernel, bias = whitening(images, window, epsilon)
        return {}, {"kernel": kernel, "bias": bias}

    def apply(
        params: Params, state: State, x: Float[Array, "b h w c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b _ _ _"], State]:
        y = conv(x, state["kernel"].astype(x.dtype), state["bias"].astype(x.dtype), padding="valid")
        return jnp.concatenate([y, -y], -1), state

    return Model(init, apply, "whitening")


def WhitenedCNN(classes: int, pixels: int, widths: Sequence[int] = (64, 256, 256), *, deep: bool = False) -> Model:
    """`Whitening`, stages of 3×3 convolutions, global maxima and a linear head: [b, pixels, pixels, c] to logits.

    A stage is a convolution, 2×2 max pooling as long as there are pixels for it, batch norm and GELU, then one more
    convolution, or with `deep` two around which a shortcut leads. Raises `ValueError` for images below 3 pixels.
    """
    side = pixels - WINDOW + 1
    if side < 1:
        raise ValueError(f"WhitenedCNN: needs images of at least {WINDOW} pixels, got {pixels}")
    stages = {}
    for i, width in enumerate(widths):
        side, halves = (side // 2, True) if side > 1 else (side, False)
        stages[f"stage_{i + 1}"] = _stage(width, halves, deep)
    head = serial(GlobalMaxPool(), Function(lambda x: HEAD_SCALE * x, "scale"), Dense(classes, bias=False))
    return serial(stem=serial(Whitening(), Activation("gelu")), **stages, head=head)


def _stage(width: int, halves: bool, deep: bool) -> Model:
    first = [_conv(width), *([MaxPool(2)] if halves else []), BatchNorm(), Activation("gelu")]
    if not deep:
        return serial(*first, _conv(width), BatchNorm(), Activation("gelu"))
    body = serial(_conv(width), BatchNorm(), Activation("gelu"), _conv(width), BatchNorm())
    return serial(*first, residual(body), Activation("gelu"))


def _conv(width: int) -> Model:
    return Conv(width, 3, bias=False, kernel_init=he_normal)
