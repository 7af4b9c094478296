"""The summary comes first: no figure, report, comparison or grid of samples costs a finished run."""

import json

import numpy as np
import pytest
from PIL import Image

from dlcore.report import figures
from launch import quality, request, results
from launch.train import finish, train

NAMES = ("Ba$$in", "x", "a$b_c$", "<b>&", "cat 😀", "猫", "new\nline", "long " * 30)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of eight awkwardly named classes in folders."""
    root, rng = tmp_path_factory.mktemp("pictures $x$"), np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def run_on(data, workdir, experiment="classify", preset="smoke", **settings):
    module = request.experiment_module(experiment)
    source = request.data_for(module, data, None)
    config = module.preset(preset, source.spec)
    config = config.__class__(**{**vars(config), **settings})
    train_config = config.train.__class__(**{**vars(config.train), "steps": 2, "batch_size": 16, "log_every": 1})
    return request.Request(
        workdir, experiment, preset, data, 0, config.__class__(**{**vars(config), "train": train_config}), source, None
    )


def small(data, workdir):
    return run_on(data, workdir, preset="mlp", widths=(4,))


def summary(run):
    return json.loads((run.workdir / "summary.json").read_text())


def page(run):
    return (run.workdir / "report.html").read_text(encoding="utf-8")


def figures_of(run):
    return {path.stem for path in (run.workdir / "figures").glob("*.png")}


ALL = {"curves", "confusion", "mistakes", "calibration"}


def broken(*_, **__):
    raise MemoryError("no\nroom")


def test_nothing_beside_the_result_costs_it_and_the_rest_is_made_later(pictures, tmp_path, monkeypatch, capsys):
    run, save, build = small(f"folder:{pictures}", tmp_path / "run"), figures.save, request.Request.build
    assert set(run.source.spec.class_names) == set(NAMES)

    def picky(figure, path):
        assert (run.workdir / "summary.json").exists(), "the summary comes first"
        if path.stem == "confusion":
            raise ValueError("ParseException")
        save(figure, path)

    with monkeypatch.context() as patch:
        patch.setattr(request.Request, "build", lambda self: build(self)._replace(anchors=broken, sample=broken))
        patch.setattr(quality, "measure", broken)
        patch.setattr(figures, "save", picky)
        assert train(run).finished
    reasons = [line.split(" failed, the run goes on without (") for line in capsys.readouterr().err.splitlines()]
    assert [what for what, _ in reasons] == [
        "note: a grid of samples", "note: anchors", "note: quality", "note: the figure confusion"
    ]  # fmt: skip
    assert reasons[0][1] == "MemoryError: no room)"
    first = summary(run)
    assert "test/accuracy" in first["metrics"] and first["pending"] == ["anchors", "quality"]
    assert figures_of(run) == ALL - {"confusion"}
    assert all(text in page(run) for text in ("What failed", "MemoryError: no room", "the figure confusion"))
    # Another try, from the folder: names like these are drawn, and the numbers are put beside the others.
    with monkeypatch.context() as patch:
        patch.setattr(request.Request, "build", lambda self: build(self)._replace(anchors=lambda data: {"code": 3.0}))
        patch.setattr(quality, "measure", lambda *_: {"frechet": 2.0})
        finish(run)
    assert capsys.readouterr().err == "" and figures_of(run) == ALL and "What failed" not in page(run)
    whole = summary(run)
    assert whole.pop("metrics") == first.pop("metrics") | {"test/code": 3.0, "test/frechet": 2.0}
    assert whole == {name: value for name, value in first.items() if name != "pending"}
    # And what fails as a whole.
    for target, what in (
        ("dlcore.report.figures.curves", "the figure curves"),
        ("dlcore.report.figures.mistakes", "figures"),
        ("launch.results.write_report", "report.html"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, broken)
            finish(run)
        line = f"note: {what} failed, the run goes on without (MemoryError: no room)"
        assert capsys.readouterr().err.splitlines() == [line]
    assert summary(run) == {**whole, "metrics": summary(run)["metrics"]}


def test_attempt_lets_stops_through():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.attempt("anything", stop, {})
