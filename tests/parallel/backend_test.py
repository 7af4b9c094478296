"""What XLA is told before it computes, and whether the compiler at hand needs it.

The oracle of every product is NumPy in float64. What is set for a process can only be seen in one of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import jaxlib
import pytest

from dlcore.parallel import backend

ROOT = Path(__file__).parents[2]
UNPROTECTED = f"--{backend.OPTION}=+reduce"

CASES = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(1)

def error(value, expected):
    return np.abs(np.asarray(value, np.float64) - expected).max() / np.abs(expected).max()

for dtype in (np.float32, np.float64):
    for batch, n in ((1024, 64), (64, 8), (16, 32)):
        E = rng.normal(size=(batch, n, n)).astype(dtype)
        value = jax.jit(lambda E: ((E @ jnp.ones((n, n), dtype)) * E).sum(-1))(E)
        assert error(value, (E.astype(float).sum(-1, keepdims=True) * E).sum(-1)) < 1e-5, (dtype, batch, n)
    for rows in (16_385, 32_769, 40_000):
        x = rng.normal(size=(rows, 3)).astype(dtype)
        value = jax.jit(lambda x: jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=dtype) @ row) ** 2))(x))(x)
        assert error(value, (x.astype(float) ** 2).sum(-1)) < 1e-5, (dtype, rows)
u, v = rng.normal(size=(2, 3, 1, 2, 2, 8, 8, 8)).astype(np.float32)
assert error(jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(u, v), (u.astype(float) * v).sum(3)) < 1e-5
print("right")
"""


def python(code, **environment):
    """What a program prints; it is started without what the test suite set for itself."""
    clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", backend.SILENCE)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=clean | environment, timeout=300
    )


def test_the_known_cases_are_right_with_the_protection():
    done = python("from dlcore.parallel import backend; backend.protect()\n" + CASES)
    assert done.stdout.strip() == "right", done.stderr


def test_this_jaxlib_is_wrong_without_the_protection_exactly_where_it_is_said_to_be():
    """A newer jaxlib that is still wrong fails here, and so does one that is listed and no longer needs it."""
    done = python("from dlcore.parallel import backend; print(len(backend.self_test()))")
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) > 0) == backend.affected(), f"jaxlib {jaxlib.__version__}: move backend.AFFECTED"
    done = python("from dlcore.parallel import backend; backend.protect(); print(backend.self_test())")
    assert done.stdout.strip() == "[]", done.stderr


USER = """
import jax.numpy as jnp
from dlcore.losses import squared_error
for _ in range(2):
    print(squared_error(jnp.ones(3), jnp.zeros(3)).sum())
"""


@pytest.mark.skipif(not backend.affected(), reason="this jaxlib needs no protection")
def test_who_computes_without_protection_is_warned_once():
    done = python(USER)
    assert done.returncode == 0 and done.stderr.count("RuntimeWarning") == 1, done.stderr
    assert backend.PROTECTION in done.stderr and backend.SILENCE in done.stderr
    for silent in ({backend.SILENCE: "0"}, {"XLA_FLAGS": backend.PROTECTION}):
        assert "RuntimeWarning" not in python(USER, **silent).stderr


@pytest.mark.parametrize(
    ("jaxlib_version", "protected"),
    [
        ("0.10.1", False),
        ("0.10.2", True),
        ("0.11.0", True),
        ("0.12.0", True),
        ("0.12.0.1", True),
        ("0.12.0.2", False),
        ("0.12.1.dev20261101", False),
        ("0.13.0", False),
        ("1.0", False),
    ],
)
def test_only_versions_known_to_take_the_flag_get_it(jaxlib_version, protected, monkeypatch):
    monkeypatch.setattr(backend.affected, "__defaults__", (jaxlib_version, "x86_64"))
    environment = {}
    backend.protect(environment, jaxlib_version)
    assert environment == ({"XLA_FLAGS": backend.PROTECTION} if protected else {})


def test_other_processors_are_left_alone():
    assert not backend.affected("0.12.0.1", "aarch64") and backend.affected("0.12.0.1", "AMD64")


@pytest.mark.parametrize("given", [UNPROTECTED, f"--xla_dump_to=/tmp {backend.PROTECTION}", f"--{backend.OPTION}="])
def test_a_choice_of_the_user_stays(given):
    environment = {"XLA_FLAGS": given}
    backend.protect(environment, "0.12.0.1")
    assert environment == {"XLA_FLAGS": given}


def test_flags_of_the_user_are_kept_beside_ours():
    environment = {"XLA_FLAGS": "--xla_dump_to=/tmp"}
    backend.deterministic(environment, on_gpu=True)
    assert environment["XLA_FLAGS"].split() == ["--xla_dump_to=/tmp", backend.DETERMINISM]


def test_flags_in_a_file_are_kept_beside_ours(tmp_path):
    """XLA reads them where `XLA_FLAGS` is the name of a file, and aborts if anything stands behind the name."""
    file = tmp_path / "flags.txt"
    file.write_text(f"--xla_dump_to={tmp_path}/dump\n  --xla_dump_hlo_as_text\n")
    environment = {"XLA_FLAGS": str(file)}
    backend.protect(environment, "0.12.0.1")
    expected = [f"--xla_dump_to={tmp_path}/dump", "--xla_dump_hlo_as_text", backend.PROTECTION]
    assert environment["XLA_FLAGS"].split() == (expected if backend.affected("0.12.0.1") else [str(file)])
    file.write_text(f"{UNPROTECTED}\n")
    environment = {"XLA_FLAGS": str(file)}
    backend.protect(environment, "0.12.0.1")
    assert environment["XLA_FLAGS"] in (str(file), UNPROTECTED)


@pytest.mark.skipif(not backend.affected(), reason="this jaxlib needs no protection")
@pytest.mark.parametrize(
    ("flags", "before", "warned"),
    [
        (f"{backend.PROTECTION} {UNPROTECTED}", "", True),
        (f"{UNPROTECTED} {backend.PROTECTION}", "", False),
        ("", "jax.devices(); ", True),
    ],
    ids=["the user's last word is no", "the user's last word is yes", "a backend runs already"],
)
def test_a_protection_that_is_not_in_force_is_no_reason_to_be_silent(flags, before, warned):
    code = f"import jax; {before}from dlcore.parallel import backend; backend.protect(); jax.numpy.ones(3) + 1"
    done = python(code, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    assert done.returncode == 0 and done.stderr.count("RuntimeWarning") == warned, done.stderr


@pytest.mark.parametrize("given", ["--xla_gpu_deterministic_ops=false", "--xla_gpu_exclude_nondeterministic_ops=true"])
def test_determinism_that_the_user_chose_stays(given):
    environment = {"XLA_FLAGS": given}
    backend.deterministic(environment, on_gpu=True)
    assert environment == {"XLA_FLAGS": given}


def test_without_a_gpu_nothing_is_added():
    environment = {}
    backend.deterministic(environment, on_gpu=False)
    assert environment == {}


def test_launchers_set_their_flags_before_a_backend_starts_and_record_them(tmp_path):
    """As on a machine with a GPU plugin; the switch takes determinism away and nothing else."""
    code = (
        "import json, sys; from absl import flags; from dlcore.parallel import backend; from launch import runtime; "
        "from dlcore.train import environment; backend.has_gpu_support = lambda: True; "
        "flags.FLAGS(sys.argv); runtime.start(); "
        "print(json.dumps(environment.describe()['xla_flags']))"
    )
    protection = [backend.PROTECTION] if backend.affected() else []
    for switch, expected in (("", [*protection, backend.DETERMINISM]), ("--nodeterministic", protection)):
        done = python(f"import sys; sys.argv += {[switch] if switch else []}\n{code}", JAX_PLATFORMS="cpu")
        assert done.stdout.strip().strip('"').split() == expected, done.stderr


@pytest.mark.parametrize(
    ("given", "jaxlib_version", "expected"),
    [
        ("", "0.12.0.1", backend.IN_ORDER),
        ("", "0.10.2", backend.IN_ORDER),
        ("", "0.13.0", ""),
        (f"--{backend.SCHEDULER}=true", "0.12.0.1", f"--{backend.SCHEDULER}=true"),
        ("--xla_a=1", "0.12.0.1", f"--xla_a=1 {backend.IN_ORDER}"),
    ],
)
def test_simulated_devices_compute_in_order_where_the_flag_is_known(given, jaxlib_version, expected):
    environment = {"XLA_FLAGS": given}
    backend.simulate_devices(environment, jaxlib_version)
    assert environment["XLA_FLAGS"].split() == expected.split()
