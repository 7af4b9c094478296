"""What published weights expect of their inputs (lecture 16, 18)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of pixels in [0, 1]: torchvision's published weights want (pixel − mean) / std."""


def googlenet_inputs(images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """Standardised ImageNet images as the published GoogLeNet wants them: x σ/0.5 + (μ − 0.5)/0.5.

    Its weights were trained on pixels in [−1, 1], and torchvision's model undoes the usual standardisation in this way
    (`transform_input=True`). Give images [..., h, w, 3] standardised by `IMAGENET_MEAN` and `IMAGENET_STD`; without
    this the network runs, and is wrong by a few percent of accuracy. Weights trained from scratch need none of it.
    """
    mean, std = jnp.asarray(IMAGENET_MEAN, images.dtype), jnp.asarray(IMAGENET_STD, images.dtype)
    return images * (std / 0.5) + (mean - 0.5) / 0.5
