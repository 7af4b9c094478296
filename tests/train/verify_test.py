"""Promises that a system keeps are told as kept, and each that is broken as broken."""

import numpy as np
import pytest

from dlcore.train import export, run, verify
from dlcore.train.session import OpenRun

SETTINGS = ("widths=4", "train.steps=12", "train.log_every=2", "train.steps_per_dispatch=2")


def make(folder):
    return run.named("classify", data="digits", preset="mlp", settings=SETTINGS, folder=folder)


def broken(found):
    return [check.promise.split(",")[0] for check in found if not check.kept]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    return folder, list(verify.verify(make, folder))


@pytest.mark.slow
def test_a_system_that_keeps_its_promises(kept):
    folder, found = kept
    assert len(found) == 4 and not broken(found), found
    assert found[1].promise.startswith(("interrupted 2", "interrupted 3"))
    with pytest.raises(ValueError, match="holds runs already"):
        next(verify.verify(make, folder))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"timing/seconds": 2.0}, True),
        ({"test/nll_nats": np.nextafter(0.25, 1)}, False),
        ({"test/other": 1.0}, False),
        ({"test/none": 0.0}, False),
        ({"test/kind": "upper bound"}, False),
    ],
)
def test_a_run_in_parts_is_compared_in_all_but_clocks(change, same):
    metrics = {
        "test/nll_nats": 0.25,
        "test/none": None,
        "test/nan": np.nan,
        "test/kind": "exact",
        "timing/seconds": 1.0,
    }
    summary = {"state_sha256": "ab", "metrics": metrics}
    assert verify.same_result("same", summary, {**summary, "metrics": {**metrics, **change}}).kept == same
    assert not verify.same_result("same", summary, {**summary, "state_sha256": "ac"}).kept


@pytest.mark.slow
def test_other_metrics_and_other_params(kept, monkeypatch):
    folder, _ = kept
    opened = OpenRun(make(folder / "whole"))
    evaluate, read = OpenRun.evaluate, export.read
    monkeypatch.setattr(OpenRun, "evaluate", lambda self, split: {**evaluate(self, split), "accuracy": 0.5})

    def read_with_one_changed(path):
        made, held = read(path)
        (name, part), *_ = held.view.params.items()
        changed = {**held.view.params, name: {**part, "extra": np.ones(1)}}
        return made, held._replace(view=held.view._replace(params=changed))

    monkeypatch.setattr(export, "read", read_with_one_changed)
    found = list(verify.verify_fit(opened, folder / "changed.safetensors"))
    assert broken(found) == ["evaluated again from its folder", "exported and read back"]
    assert found[1].found.startswith("1 of ")
