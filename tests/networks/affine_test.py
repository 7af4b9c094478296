"""What is not affine in a network is a part: without those parts each network is an affine map of its input.

One rule makes element-wise parts the identity and every pool an average; what is no function of single elements gets
its partner made constant: a gate is 1, attention weights are equal, and a norm that divides by a statistic of the
example is the identity. Batch norm in inference is affine as it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import TINY

from dlcore.networks import (
    CNN,
    MLP,
    ConvConditioner,
    ConvDecoder,
    DCDiscriminator,
    DCGenerator,
    GatedPixelCNN,
    MLPConditioner,
    MLPEncoder,
    PixelCNN,
    TimeUNet,
    UNet,
)
from dlcore.nn import adaptive_avg_pool, global_avg_pool, intercepted

IMAGE, VECTOR = (8, 8, 1), (5,)
LABEL = jnp.ones(4, jnp.int32)
OTHERS = {
    "mlp": (MLP((4, 3), 2, dropout=0.5), VECTOR),
    "gated_encoder": (MLPEncoder((4, 3), 2), VECTOR),
    "conv_decoder": (ConvDecoder((3, 2), (4, 4, 1), hidden=4), VECTOR),
    "mlp_conditioner": (MLPConditioner((4,), 2), VECTOR),
    "conv_conditioner": (ConvConditioner(3, 2), IMAGE),
    "cnn": (CNN((2, 3), 2, hidden=4), IMAGE),
    "generator": (DCGenerator((8, 8, 1), (3, 2)), VECTOR),
    "discriminator": (DCDiscriminator((2, 3), classes=2), IMAGE, LABEL),
    "unet": (UNet(2, (4, 8), patch=2), IMAGE),
    "time_unet": (TimeUNet(1, (4, 8), classes=3, heads=2, patch=2), IMAGE, LABEL, LABEL),
    "pixelcnn": (PixelCNN(3, features=4, first=3, windows=(3,)).model, IMAGE),
    "gated_pixelcnn": (GatedPixelCNN(3, features=4, windows=(3, 3), classes=2).model, IMAGE, LABEL),
}
"""name: the network, the shape of an input, and other inputs, in which it need not be affine."""

CASES = {name: (tiny.model, (tiny.pixels, tiny.pixels, 3)) for name, tiny in TINY.items()} | OTHERS
QUICK = ("lenet", "mlp", "gated_encoder", "mlp_conditioner", "cnn", "discriminator", "gated_pixelcnn")

MAXIMA = ("max_pool", "max_pool_ceil", "adaptive_max_pool")
NORMS = ("layer_norm", "group_norm", "instance_norm")


def affine(path, part, inputs, proceed):
    """Parts that are not affine replaced by affine ones."""
    if part.kind == "activation" or part.kind in NORMS:
        return inputs[0]
    if part.kind in MAXIMA:
        return adaptive_avg_pool(inputs[0], proceed(*inputs).shape[1:-1])
    if part.kind == "global_max_pool":
        return global_avg_pool(inputs[0])
    if part.kind == "gate":
        return jnp.ones_like(inputs[0])
    if part.kind == "dot_product_attention":
        queries, keys, values = inputs
        return proceed(jnp.zeros_like(queries), jnp.zeros_like(keys), values)
    return proceed(*inputs)


def drawn(model, *inputs):
    """Params and state with which signals neither die nor explode, whatever the ones that a network starts with."""
    rng = np.random.default_rng(0)
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)

    def param(leaf):
        numbers = rng.normal(size=leaf.shape)
        return jnp.float32(numbers * np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 1 + 0.3 * numbers)

    return jax.tree.map(param, params), jax.tree.map(lambda leaf: jnp.float32(rng.uniform(0.5, 2, leaf.shape)), state)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_without_its_nonlinear_parts_a_network_is_affine(name):
    model, shape, *given = CASES[name]
    x, y = jax.random.normal(jax.random.key(0), (2, *shape))
    rows = jnp.stack([x + y, x, y, jnp.zeros_like(x)])

    params, state = drawn(model, rows, *given)

    def defect(net):
        both, one, other, none = np.asarray(jax.jit(net.apply)(params, state, rows, *given)[0], np.float64)
        return np.abs(both - one - other + none).max() / np.abs(one - none).max()

    assert defect(intercepted(model, affine)) < 1e-5
    assert defect(model) > 1e-2, "the network itself is not affine"
