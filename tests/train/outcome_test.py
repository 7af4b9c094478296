"""The summary comes first: no figure, report, comparison or grid of samples costs a finished run."""

import json

import numpy as np
import pytest
from PIL import Image

from dlcore.report import figures
from dlcore.train import Findings, Study, outcome, run, stages

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


def small(data, folder):
    settings = ("widths=4", "train.steps=2", "train.batch_size=16", "train.log_every=1")
    return run.named("classify", data=data, preset="mlp", settings=settings, folder=folder)


def with_stages(made, grid=None, **studies):
    """The run with other stages beside its result, and a sampler for its classifier."""
    fit = made.system.stages["classifier"]._replace(sample=grid)
    stages = {**made.system.stages, "classifier": fit, **studies}
    return made._replace(system=made.system._replace(stages=stages))


def found(name, value):
    """A study beside the result that finds one number."""
    return Study(lambda key, data, results: Findings({name: value}), lambda arrays: {name: arrays[name]}, beside=True)


def summary(made):
    return json.loads((made.folder / "summary.json").read_text())


def page(made):
    return (made.folder / "report.html").read_text(encoding="utf-8")


def figures_of(made):
    return {path.stem for path in made.folder.glob("*/figures/*.png")}


ALL = {"curves", "confusion", "mistakes", "calibration"}


def broken(*_, **__):
    raise MemoryError("no\nroom")


BROKEN = Study(broken, beside=True)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """A run of which nothing but the result succeeded, what it said, and its summary."""
    made = small(f"folder:{pictures}", tmp_path_factory.mktemp("runs") / "run")
    save = figures.save

    def picky(figure, path):
        assert (made.folder / "summary.json").exists(), "the summary comes first"
        if path.stem == "confusion":
            raise ValueError("ParseException")
        save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", picky)
        assert stages.execute(with_stages(made, broken, code=BROKEN, quality=BROKEN))
    return made, summary(made), page(made), figures_of(made)


def test_nothing_beside_the_result_costs_it(finished):
    made, first, report, drawn = finished
    assert set(made.spec.class_names) == set(NAMES)
    assert set(first["metrics"]) == {"test/accuracy", "test/error", "test/nll_nats", "test/ece"}
    assert drawn == ALL - {"confusion"}
    assert all(text in report for text in ("What failed", "MemoryError: no room", "the figure confusion", "quality"))
    assert not (made.folder / "quality" / "result.json").exists()


@pytest.mark.slow
def test_what_failed_is_made_later_and_once(finished, monkeypatch, capsys):
    made, first, _, _ = finished
    again = with_stages(made, code=found("code", 3.0), quality=found("accuracy", 2.0))
    assert stages.lacking(again) and stages.missing(again) == ["code", "quality"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # Stopped when a study is done, before its number stands in the summary.
        patch.setattr(outcome, "gather", lambda made: (_ for _ in ()).throw(KeyboardInterrupt))
        stages.finish(again)
    assert summary(made) == first and stages.missing(again) == []
    stages.finish(with_stages(made, code=BROKEN, quality=BROKEN))
    assert capsys.readouterr().err == "" and figures_of(made) == ALL and "What failed" not in page(made)
    whole = summary(made)
    more = {"test/code": 3.0, "quality/test/accuracy": 2.0}
    assert whole.pop("metrics") == first["metrics"] | more
    assert whole == {name: value for name, value in first.items() if name != "metrics"}
    assert not stages.lacking(again)
    stages.finish(made)
    assert summary(made) == first, "what the system no longer has is no longer told"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("dlcore.report.figures.curves", "the figure curves"),
        ("dlcore.report.figures.mistakes", "the figure mistakes"),
        ("dlcore.report.html.write_report", "report.html"),
    ],
)
def test_a_failing_figure_or_report_is_told_in_one_line(finished, monkeypatch, capsys, target, what):
    made, first, _, _ = finished
    monkeypatch.setattr(broken, "__module__", figures.__name__)  # only functions of that room are drawn
    monkeypatch.setattr(target, broken)
    stages.finish(made)
    line = f"note: {what} failed, the run goes on without (MemoryError: no room)"
    assert capsys.readouterr().err.splitlines() == [line]
    assert summary(made) == first


def test_stages_with_the_same_metric_keep_both():
    joined = outcome.together({"a": {"mse": 1.0, "bias": 2.0}, "b": {"mse": 3.0}})
    assert joined == {"a/test/mse": 1.0, "test/bias": 2.0, "b/test/mse": 3.0}
