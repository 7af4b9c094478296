"""Which way a convolution is computed, and how a user overrides it (lecture 14.1)."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import conv, convolutions_by
from dlcore.nn._conv.lowering import table

ROOT = Path(__file__).parents[3]


def test_the_table_and_its_override(monkeypatch):
    monkeypatch.setattr(table, "computes", lambda dtype: True)
    monkeypatch.setattr(table, "on_one_device", lambda: True)

    def way(shape, window, outputs, stride=1, groups=1):
        x, kernel = jnp.zeros(shape), jnp.zeros((*window, shape[-1] // groups, outputs))
        axes = len(window)
        return table.way_of(table.Problem(x, kernel, (stride,) * axes, ((1, 1),) * axes, (1,) * axes, groups))

    assert way((128, 32, 32, 16), (3, 3), 16) == way((64, 16, 16, 32), (3, 3), 32, groups=4) == "onednn"
    assert way((128, 28, 28, 1), (3, 3), 32) == "taps" and way((16, 4, 4, 512), (3, 3), 512) == "patches"
    with convolutions_by("-onednn"):
        assert way((128, 32, 32, 16), (3, 3), 16) == "shifts"
        with convolutions_by("xla"):
            assert way((128, 32, 32, 16), (3, 3), 16) == "xla"
    with convolutions_by("shifts"):
        assert way((128, 32, 32, 16), (3, 3), 16) == "shifts"
        assert way((128, 32, 32, 16), (3, 3), 16, stride=2) == "onednn"
    with pytest.raises(ValueError, match="did you mean 'shifts'"), convolutions_by("shift"):
        pass
    monkeypatch.setattr(table, "on_one_device", lambda: False)
    assert way((128, 32, 32, 16), (3, 3), 16) == "shifts"


def test_convolutions_of_the_layer_follow_the_override():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=n), jnp.float32) for n in ((2, 5, 5, 3), (3, 3, 3, 4)))
    found = {}
    for name in table.WAYS:
        with convolutions_by(name):
            found[name] = np.asarray(conv(x, kernel))
    for value in found.values():
        np.testing.assert_allclose(value, found["xla"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("asked", "found"), [("", "auto"), ("xla", "xla"), ("-onednn", "-onednn"), ("onednm", None)])
def test_the_environment_names_a_way(asked, found):
    program = "from dlcore.nn._conv.lowering import table; print(table._chosen[-1])"
    environment = os.environ | {"DLCORE_CONV": asked}
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 100}
    done = subprocess.run([sys.executable, "-c", program], **options)
    if found is None:
        assert done.returncode and "'onednm'; did you mean 'onednn'?" in done.stderr
    else:
        assert done.stdout.split() == [found]
