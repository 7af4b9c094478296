"""Binary codes of data (lecture 20.2): how a network learns them, and how they are kept, as bits of words.

A code of b bits is bools [..., b], or packed as uint32 [..., ⌈b/32⌉]: bit j is bit j mod 32 (the least significant is
the first) of word ⌊j/32⌋, and bits that pad the last word are 0, so that they never count in a distance.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, UInt32

from dlcore.setting import Number, known
from dlcore.types import Key

WORD = 32


def bits(outputs: Num[Array, "*b d"], threshold: Num[Array, " d"] | float = 0.0) -> Bool[Array, "*b d"]:
    """Bit j is 1 where output j is at least its threshold: what lies on the threshold is 1, always.

    Raises `ValueError` for thresholds that are neither one number nor one per bit.
    """
    if jnp.shape(threshold) not in ((), jnp.shape(outputs)[-1:]):
        raise ValueError(f"bits: threshold has shape {jnp.shape(threshold)}, for outputs of {jnp.shape(outputs)}")
    return outputs >= threshold


def straight_through(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """−1 or +1, the sign of a logit (+1 at 0, as in `bits`), with the gradient of tanh (Bengio et al. 2013).

    >>> straight_through(jnp.array([-2.0, 0.0, 0.5])).tolist()
    [-1.0, 1.0, 1.0]
    """
    soft = jnp.tanh(logits)
    hard = jnp.where(logits >= 0, 1, -1).astype(soft.dtype)
    return soft + jax.lax.stop_gradient(hard - soft)


def noisy_sigmoid(logits: Float[Array, "..."], std: Number, *, key: Key | None) -> Float[Array, "..."]:
    """2σ(a + ε) − 1 with ε ~ N(0, σ²): noise that only large logits survive makes codes near-binary, in [−1, 1].

    Salakhutdinov & Hinton 2009, section 2.2. Without a key there is no noise. Raises `ValueError` for std < 0.
    """
    if known(std) is not None and known(std) < 0:
        raise ValueError(f"noisy_sigmoid: std must not be negative, got {std}")
    noise = 0.0 if key is None else std * jax.random.normal(key, logits.shape, logits.dtype)
    return jnp.tanh((logits + noise) / 2)


def pack(code: Bool[Array, "*b d"]) -> UInt32[Array, "*b w"]:
    """Bools as words of 32 bits. Raises `ValueError` for codes without bits.

    >>> pack(jnp.array([True, False, True])).tolist()
    [5]
    """
    size = code.shape[-1] if code.ndim else 0
    if not size:
        raise ValueError(f"pack: expected codes [..., bits] of one bit at least, got shape {code.shape}")
    words = -(-size // WORD)
    padded = jnp.pad(code, [(0, 0)] * (code.ndim - 1) + [(0, words * WORD - size)])
    parts = padded.reshape(*code.shape[:-1], words, WORD).astype(jnp.uint32)
    return (parts << jnp.arange(WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def unpack(packed: UInt32[Array, "*b w"], size: int) -> Bool[Array, "*b d"]:
    """The first `size` bits of packed codes. Raises `ValueError` unless they take just so many words."""
    if -(-size // WORD) != packed.shape[-1]:
        raise ValueError(f"unpack: {size} bits take {-(-size // WORD)} words, got {packed.shape[-1]}")
    every = packed[..., None] >> jnp.arange(WORD, dtype=jnp.uint32) & 1
    return every.reshape(*packed.shape[:-1], -1)[..., :size].astype(bool)


def hamming(a: UInt32[Array, "*b w"], b: UInt32[Array, "..."]) -> Int[Array, "*b"]:
    """Number of bits in which packed codes of equal shapes differ, by exclusive or and population count.

    Raises `ValueError` for different shapes: nothing is broadcast.

    >>> int(hamming(pack(jnp.ones(300, bool)), pack(jnp.zeros(300, bool))))
    300
    """
    if a.shape != b.shape:
        raise ValueError(f"hamming: shapes must be equal, nothing is broadcast, got {a.shape} and {b.shape}")
    return jax.lax.population_count(a ^ b).astype(jnp.int32).sum(-1)
