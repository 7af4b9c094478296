"""Layers of image networks in NumPy's float64, by their formulas: the oracle of whole forward passes."""

import jax
import numpy as np
import scipy.stats


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def conv(x, params, *, stride=1, padding=0, depthwise=False):
    """Cross-correlation of images [b, h, w, c] with a kernel [k, k, c or 1, f] on zeros, plus the bias if any."""
    kernel, edge = params["kernel"], (padding, padding)
    cells = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), edge, edge, (0, 0))), kernel.shape[:2], (1, 2))
    cells = cells[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("bhwcij,ijc->bhwc", cells, kernel[:, :, 0]) + params.get("bias", 0)
    return np.einsum("bhwcij,ijcf->bhwf", cells, kernel) + params.get("bias", 0)


def dense(x, params):
    return x @ params["kernel"] + params["bias"]


def batch_norm(x, params, state, epsilon=1e-5):
    return (x - state["mean"]) / np.sqrt(state["variance"] + epsilon) * params["scale"] + params["bias"]


def layer_norm(x, params, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + epsilon) * params["scale"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return x * scipy.stats.norm.cdf(x)


def halved(x):
    """The mean of every 2×2 cells."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
