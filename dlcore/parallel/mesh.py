"""The mesh of devices that a run is spread over, and how batches reach it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"
"""The mesh axis over which batches (and, under FSDP, params) are split."""


def make_mesh(devices: int | None = None) -> Mesh:
    """A one-axis mesh over the first `devices` devices of all processes (all of them by default)."""
    available = jax.devices()
    devices = len(available) if devices is None else devices
    if not 1 <= devices <= len(available):
        raise ValueError(
            f"devices={devices}, but {len(available)} are available; pass a number from 1 to {len(available)}"
        )
    return jax.make_mesh((devices,), (DATA,), axis_types=(AxisType.Auto,), devices=available[:devices])


def check_batch(batch_size: int, mesh: Mesh, name: str = "batch") -> None:
    """Raise `ValueError`, with the nearest sizes that work, unless every device gets the same share."""
    count = mesh.devices.size
    if batch_size % count:
        low = batch_size // count * count
        sizes = f"{low} or {low + count}" if low else f"{count}"
        raise ValueError(f"{name} {batch_size} is not divisible by {count} devices; use {sizes}")


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Arrays split over the data axis along dimension `axis`."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """Arrays held whole by every device."""
    return NamedSharding(mesh, PartitionSpec())


def global_batch(mesh: Mesh, local: Any, axis: int = 0) -> Any:
    """One global batch from the slice of it that each process holds, split along dimension `axis`.

    A single process holds all of it and passes it on as it is: jit places it by its input shardings, at a
    tenth of the cost.
    """
    if jax.process_count() == 1:
        return local
    sharding = batch_sharding(mesh, axis)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), local)


def on_every_device(mesh: Mesh, tree: Any) -> Any:
    """Host arrays, equal on every process, as arrays replicated over the mesh."""
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def to_host(mesh: Mesh, tree: Any) -> Any:
    """The whole tree as NumPy arrays on every process, gathered leaf by leaf where it is split."""
    gather = jax.jit(lambda x: x, out_shardings=replicated(mesh))
    return jax.tree.map(lambda x: np.asarray(x if x.is_fully_replicated else gather(x)), tree)
