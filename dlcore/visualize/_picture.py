"""Images that are found by descent: how they are written as free numbers, and the loop (lecture 17)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dlcore.setting import Number, number, whole
from dlcore.types import Key

Cost = Callable[[Any, Array], Array]
"""`cost(arguments, images [n, h, w, c]) -> [n]`, compared by value: what is compiled is kept by it."""


@dataclass(frozen=True)
class Picture:
    """Images [n, h, w, c] in [0, 1] as free numbers: σ of a real image, which is written as it is or by its spectrum.

    Steps of one size on a spectrum whose frequencies f weigh 1/f change an image on all scales alike, as images vary,
    instead of every pixel by itself (Mordvintsev et al. 2018).
    """

    shape: tuple[int, int, int]
    """(h, w, c)."""
    fourier: bool = True
    std: float = 0.01
    """σ of the numbers at the start, which are the same for all images."""

    def __post_init__(self) -> None:
        if len(self.shape) != 3:
            raise ValueError(f"Picture: expected a shape (h, w, c), got {self.shape}")
        for size in self.shape:
            whole(size, "Picture: a side of the shape")
        number(self.std, "Picture: std", "[0, ∞)")

    def init(self, key: Key, num: int) -> Float[Array, "n ..."]:
        """The numbers of so many images."""
        h, w, c = self.shape
        one = self.std * jax.random.normal(key, (2, h, w // 2 + 1, c) if self.fourier else self.shape)
        return jnp.broadcast_to(one, (num, *one.shape))

    def render(self, code: Float[Array, "n ..."]) -> Float[Array, "n h w c"]:
        """The images of these numbers."""
        if not self.fourier:
            return jax.nn.sigmoid(code)
        h, w, _ = self.shape
        frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w))
        weight = np.sqrt(h * w) / np.maximum(frequency, 1 / max(h, w))
        spectrum = jax.lax.complex(code[:, 0], code[:, 1]) * weight[..., None].astype(np.float32)
        return jax.nn.sigmoid(jnp.fft.irfft2(spectrum, s=(h, w), axes=(1, 2)))


def total_variation(images: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Mean |difference| of neighbours below plus that of neighbours to the right, of each image.

    >>> total_variation(jnp.array([[0.0, 1.0], [0.0, 1.0]]).reshape(1, 2, 2, 1))
    Array([1.], dtype=float32)
    """
    sizes = [jnp.abs(jnp.diff(images, axis=axis)) for axis in (1, 2)]
    return sum(size.mean((1, 2, 3)) for size in sizes if size.size)


def descend(
    cost: Cost,
    arguments: Any,
    picture: Picture,
    num: int,
    *,
    key: Key,
    steps: int,
    learning_rate: Number,
    jitter: int,
    variation: Number,
) -> Float[Array, "n h w c"]:
    """Images that make cost + `variation` · TV small, by so many steps of Adam on the numbers of `picture`.

    In each step all images are moved by up to `jitter` pixels each way, what leaves one side entering at the other,
    which takes away patterns that only one alignment with the strides of a network likes. Rows do not depend on each
    other. Raises `ValueError` unless there are images and steps, and `jitter` is smaller than the sides.
    """
    num, steps, jitter = whole(num, "images"), whole(steps, "steps"), whole(jitter, "jitter", least=0)
    number(learning_rate, "learning_rate", "(0, ∞)")
    number(variation, "variation", "[0, ∞)")
    if jitter >= min(picture.shape[:2]):
        raise ValueError(f"jitter must be below {min(picture.shape[:2])}, the shorter side, got {jitter}")
    code = picture.init(jax.random.fold_in(key, 0), num)
    memory, moves = optax.adam(1.0).init(code), jax.random.fold_in(key, 1)
    for i in range(steps):
        settings = {"key": jax.random.fold_in(moves, i), "rate": learning_rate, "variation": variation}
        code, memory = _step(cost, picture, jitter, arguments, code, memory, settings)
    return picture.render(code)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    cost: Cost, picture: Picture, jitter: int, arguments: Any, code: Array, memory: Any, settings: Any
) -> tuple[Array, Any]:
    shift = jax.random.randint(settings["key"], (2,), -jitter, jitter + 1)

    def total(code: Array) -> Array:
        images = picture.render(code)
        moved = jnp.roll(images, shift, (1, 2)) if jitter else images
        return (cost(arguments, moved) + settings["variation"] * total_variation(images)).sum()

    changes, memory = optax.adam(1.0).update(jax.grad(total)(code), memory)
    return code + settings["rate"] * changes, memory
