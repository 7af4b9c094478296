"""python -m launch.doctor, run as a user does."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from launch.runtime import compile_cache

ROOT = Path(__file__).parents[2]


def doctor(*flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "launch.doctor", *flags],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_tells_versions_devices_data_cache_and_speed(tmp_path):
    (tmp_path / "program").write_bytes(bytes(3 * 2**20))
    done = doctor("--cpu_devices=2", f"--data_dir={tmp_path}", JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sys.executable in lines[0]
    for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy"):
        assert f"{package:<20} {version(package)}" in lines
    assert sum(line.startswith("device ") for line in lines) == 2
    (digits,) = (line for line in lines if "digits:" in line)
    assert sum(int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", digits)) == 1797
    assert any(line.startswith("data ") and "fashion_mnist" in line for line in lines)
    assert any(f"{tmp_path}, 3 MiB" in line for line in lines)
    (convolutions,) = (line for line in lines if line.startswith("convolutions "))
    assert "by XLA and matrix products, without oneDNN: " in convolutions or "for one device only" in convolutions
    (speed,) = (line for line in lines if line.startswith("speed "))
    assert float(speed.split()[1].replace(",", "")) > 0.1


@pytest.mark.parametrize("name", ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"])
def test_an_empty_name_of_a_folder_is_none(monkeypatch, name):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    expected = compile_cache()
    assert expected.is_relative_to(Path.home() / ".cache")
    monkeypatch.setenv(name, "")
    assert compile_cache() == expected


def test_a_mistake_is_one_line():
    done = doctor("digits")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1] == "error: unexpected argument 'digits'; flags are written --name=value"
    assert "Traceback" not in done.stderr
