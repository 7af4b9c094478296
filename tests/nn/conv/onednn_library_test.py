"""The library of oneDNN's convolutions, compiled by a program of its own as on a user's machine (lecture 14.1)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlcore.nn._conv.lowering import onednn_library

ROOT = Path(__file__).parents[3]
needed = pytest.mark.skipif(bool(onednn_library.status()), reason=onednn_library.status() or "oneDNN")

PROGRAM = """
import warnings, jax, jax.numpy as jnp
from dlcore import nn
warnings.simplefilter("always")
x, kernel = jnp.ones((8, 16, 16, 32)), jnp.ones((3, 3, 32, 32))
for _ in range(2):
    jax.clear_caches()
    y = jax.jit(nn.conv)(x, kernel)
print(float(y[0, 8, 8, 0]), "dlcore_conv" in jax.jit(nn.conv).lower(x, kernel).as_text())
"""


def program(tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not onednn_library.installed(), reason="the extra onednn is not installed")
def test_without_a_compiler_it_says_so_once_and_computes(tmp_path):
    told, error = program(tmp_path, PATH="/none", CXX="")
    assert told == ["288.0", "False"]
    assert error.count("convolutions go without oneDNN") == 1 and "no C++ compiler" in error
    assert not list((tmp_path / "dlcore").iterdir())


@needed
@pytest.mark.slow
def test_compiled_once_for_all_processes(tmp_path):
    told, error = program(tmp_path)
    assert told == ["288.0", "True"] and error.count("compiling oneDNN") == 1
    told, error = program(tmp_path)
    assert told == ["288.0", "True"] and "oneDNN" not in error
    told, _ = program(tmp_path, DLCORE_CONV="-onednn")
    assert told == ["288.0", "False"]
    told, error = program(tmp_path / "other", CXX="false")
    assert "false failed" in error
    assert told == ["288.0", "False"]
