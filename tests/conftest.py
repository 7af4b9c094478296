"""Eight simulated devices, quick compilation and a persistent compile cache, set before any backend starts."""

import gc
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typecheck
from outcomes import pytest_runtest_logreport, pytest_sessionfinish  # noqa: F401

typecheck.install()  # before anything of dlcore is imported

from dlcore.parallel.backend import protect, simulate_devices  # noqa: E402

CACHE = pathlib.Path(__file__).parents[1] / ".cache" / f"jax-{jax.__version__}"

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# What JAX traces is many small objects that stay: the search for garbage among them took a twentieth of the time.
gc.set_threshold(50_000, 20, 20)

# As the launchers do; XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=+reduce runs the suite without.
protect()

# Tests compile far more than they compute. Only this process: the programs that tests start compile as users' do, and
# so do the slow proofs, some of which compare times. Eight devices on two busy cores may wait long for each other.
given = os.environ.get("XLA_FLAGS")
os.environ["XLA_FLAGS"] = f"{given or ''} --xla_cpu_collective_call_terminate_timeout_seconds=300"
simulate_devices()
if "slow" not in sys.argv:
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.zeros(1)))
os.environ.pop("XLA_FLAGS", None) if given is None else os.environ.update(XLA_FLAGS=given)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Every fifth case of a test marked `sampled`, the first included, is in the default suite; the others are slow."""
    for item in items:
        if item.get_closest_marker("sampled") and sum(item.callspec.indices.values()) % 5:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def own_random_numbers(request, monkeypatch):
    """What a test draws from its module's `RNG` does not depend on which tests ran before it."""
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))


@pytest.fixture
def as_users():
    """Functions as their users call them, without the type checks of the tests."""
    with typecheck.unchecked():
        yield
