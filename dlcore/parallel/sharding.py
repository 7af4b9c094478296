"""Which leaf of the training state lives where: rules from a leaf's path and shape to its sharding."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dlcore.parallel.mesh import DATA
from dlcore.tree import path_of

Rule: TypeAlias = Callable[[str, tuple[int, ...], Mesh], PartitionSpec]
"""`(path, shape, mesh) -> PartitionSpec`; paths are joined by "/", e.g. `params/block1/conv/kernel`."""


def replicate(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Every device holds the whole leaf: plain data parallelism."""
    return PartitionSpec()


def fsdp(min_size: int = 2**16) -> Rule:
    """Fully sharded data parallelism (Rajbhandari et al. 2020, stage 3).

    Each leaf of at least `min_size` elements is split along its longest dimension that the number
    of devices divides; XLA gathers it where it is used and scatters its gradient. Optimiser states and
    averages have the shapes of their params and are split alike. Smaller leaves are replicated.
    """

    def rule(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        count = mesh.shape[DATA]
        fitting = [axis for axis, size in enumerate(shape) if size % count == 0]
        if math.prod(shape) < min_size or not fitting:
            return PartitionSpec()
        longest = max(fitting, key=lambda axis: shape[axis])
        return PartitionSpec(*(DATA if axis == longest else None for axis in range(len(shape))))

    return rule


def named_rule(name: str) -> Rule:
    """The rule that a configuration names: "replicate" or "fsdp"."""
    if name == "replicate":
        return replicate
    if name == "fsdp":
        return fsdp()
    raise ValueError(f"sharding must be replicate or fsdp, got {name!r}")


def shardings(tree: Any, mesh: Mesh, rule: Rule) -> Any:
    """The sharding of every leaf of `tree` (arrays or shapes) under `rule`."""

    def leaf(path: Any, x: Any) -> NamedSharding:
        return NamedSharding(mesh, rule(path_of(path), x.shape, mesh))

    return jax.tree_util.tree_map_with_path(leaf, tree)
