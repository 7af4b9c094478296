"""A system of the user's own, which the pages show: short, trained by name, and better than not looking."""

from pathlib import Path

import numpy as np
import pytest

from dlcore import data
from dlcore.train import session

FILE = Path(__file__).parents[1] / "tiny" / "rotation.py"


def test_it_is_short():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.slow
def test_it_sees_by_how_much_an_image_is_turned(tmp_path):
    run = session.train("tiny.rotation", data="digits", preset="smoke", folder=tmp_path / "run")
    # Angles are uniform in ±45°: the best guess that does not look, 0, is wrong by 22.5° on average.
    assert run.metrics["test/mae_degrees"] < 15
    assert run.evaluate("test")["mae_degrees"] == pytest.approx(run.metrics["test/mae_degrees"], rel=1e-5)
    upright = data.load("digits").test.arrays["image"].astype(np.float32) / 15
    assert abs(float(run.functions["predict"](run.params, run.state, upright).mean())) < 10
