"""A row of blocks of which only the first may differ, run one by one or scanned (lecture 16)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlcore.nn._combine import scan as scanned
from dlcore.nn._combine import serial
from dlcore.tree import STACKED, stacked, unstacked
from dlcore.types import Model

REST = "rest"
"""The branch of a scanned stage that holds all blocks but the first, stacked."""


def Stage(first: Model, block: Model, count: int, *, scan: bool = False) -> Model:
    """`first`, then count − 1 copies of `block`, which keeps its input's shape.

    Params are those of `block_0`, `block_1`, ...; with `scan`, of `block_0` and of all others in `rest/stacked`, which
    are compiled once. Raises `ValueError` for fewer than one block.
    """
    if count < 1:
        raise ValueError(f"Stage: count must be at least 1, got {count}")
    if scan and count > 1:
        return serial(**{"block_0": first, REST: scanned(block, count - 1)})
    return serial(block_0=first, **{f"block_{i}": block for i in range(1, count)})


def unstack(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Params or state with each stacked `rest` as `block_1`, `block_2`, ...: what the stage has without scan.

    Leaves may be arrays or their shapes.
    """
    out: dict[str, Any] = {}
    for name, branch in tree.items():
        if not _is_rest(name, branch):
            out[name] = unstack(branch) if isinstance(branch, Mapping) else branch
            continue
        for i in range(jax.tree.leaves(branch)[0].shape[0]):
            out[f"block_{i + 1}"] = jax.tree.map(lambda leaf, i=i: _row(leaf, i), dict(unstacked(branch)))
    return out


def restack(tree: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `unstack`: `tree` stacked where `like` is, whose values are not used."""
    out: dict[str, Any] = {}
    for name, branch in like.items():
        if _is_rest(name, branch):
            count = jax.tree.leaves(branch)[0].shape[0]
            blocks = [tree[f"block_{i + 1}"] for i in range(count)]
            out[name] = stacked(jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks))
        else:
            out[name] = restack(tree[name], branch) if isinstance(branch, Mapping) else tree[name]
    return out


def _is_rest(name: str, branch: Any) -> bool:
    return name == REST and isinstance(branch, Mapping) and STACKED in branch


def _row(leaf: Any, i: int) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf[i]
