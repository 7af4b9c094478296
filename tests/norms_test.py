"""The norm of a whole tree beside NumPy's in double precision, on one device and on several."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.norms import global_norm

ALONE = """
import jax, jax.numpy as jnp, numpy as np
from dlcore.norms import global_norm
assert jax.device_count() == 1
rng = np.random.default_rng(0)
for shapes in [(7, 5), (), (3, 3, 4, 6)], [(1, 9), (8,), (4, 1), (0, 3)], []:
    tree = [rng.normal(size=shape) for shape in shapes]
    exact = np.sqrt(sum((leaf**2).sum() for leaf in tree))
    np.testing.assert_allclose(jax.jit(global_norm)([jnp.asarray(x, jnp.float32) for x in tree]), exact, rtol=1e-6)
text = jax.jit(global_norm).lower(jnp.ones((700, 500))).as_text()
assert "dot_general" in text
tree = jnp.asarray(rng.normal(size=(4, 7, 5)), jnp.float32)
found = jax.vmap(lambda x: jax.value_and_grad(global_norm)(x))(tree)
np.testing.assert_allclose(found[0], np.linalg.norm(tree, axis=(1, 2)), rtol=1e-5)
np.testing.assert_allclose(found[1], tree / found[0][:, None, None], rtol=1e-5)
"""


def test_on_one_device_rows_are_added_by_a_product():
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=120)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64, jnp.int8])
def test_it_is_numpys_in_double_precision_for_every_dtype(dtype):
    rng = np.random.default_rng(0)
    tree = {"a": jnp.asarray(100 * rng.normal(size=(40, 30)), dtype), "b": [jnp.asarray(rng.normal(size=3), dtype)]}
    exact = np.linalg.norm(np.concatenate([np.ravel(np.asarray(x, np.complex128)) for x in jax.tree.leaves(tree)]))
    found = global_norm(tree)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_nan_is_kept_and_nothing_has_the_norm_0():
    assert np.isnan(global_norm([jnp.asarray([1.0, np.nan])])) and global_norm({}) == 0


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 40)))
        np.testing.assert_allclose(global_norm(x), np.linalg.norm(np.asarray(x)), rtol=1e-14)
