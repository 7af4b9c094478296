"""Names of mapped axes that Flax modules average statistics over."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp


def bound(function: Callable[[], Any], names: Sequence[str]) -> Any:
    """`function()` with each axis name bound to one device: averages over it change nothing.

    A batch in dlcore is the whole batch, on however many devices, so that its statistics are global without them.
    """
    if not names:
        return function()
    inner = lambda _: bound(function, names[1:])  # noqa: E731
    # What is gathered over the axis, or its index, counts as one for each device.
    return jax.tree.map(lambda x: x[0], jax.vmap(inner, axis_name=names[0])(jnp.zeros(1)))


@contextmanager
def advice(name: str) -> Iterator[None]:
    """JAX's "unbound axis name" as a `ValueError` that says what to do."""
    try:
        yield
    except NameError as error:
        found = re.search(r"unbound axis name: (\S+)", str(error))
        if found is None:
            raise
        axis = found[1].rstrip(".")
        raise ValueError(
            f"{name}: the module averages over the mapped axis {axis!r} ({error}); make it without axis_name, since "
            f"dlcore's batches are global and so are their statistics, or pass axis_names=({axis!r},)"
        ) from error
