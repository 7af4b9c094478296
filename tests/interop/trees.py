"""Nested dicts compared, and changed in one place."""

import jax
import numpy as np


def equal(a, b):
    """The same structure and bits."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def changed(tree, path, leaf):
    """The nested dict with another leaf at the path, or without it if that is None."""
    name, _, rest = path.partition("/")
    new = changed(tree.get(name, {}), rest, leaf) if rest else leaf
    kept = {n: branch for n, branch in tree.items() if n != name}
    return kept if new is None else {**kept, name: new}
