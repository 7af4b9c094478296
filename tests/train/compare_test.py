"""Runs beside each other: what tells them apart, and their mean and spread over seeds."""

import csv
import json

import numpy as np
import pytest

from dlcore.report import comparison
from dlcore.train import compare
from dlcore.train._run_folder import LAYOUT


def written(folder, seed=0, accuracy=0.9, rate=0.1, **changes):
    folder.mkdir(parents=True)
    config = {"optimizer": {"learning_rate": rate}, "widths": [8, 8]}
    names = {"experiment": "classify", "preset": "mlp", "data": "digits", "seed": seed, **changes}
    (folder / "config.json").write_text(json.dumps({"layout": LAYOUT, **names, "config": config}))
    metrics = {"test/accuracy": accuracy, "test/bits_per_dim_kind": "exact", "test/nll_nats": 1 - accuracy}
    summary = {"steps": 30, "parameters": 5, "train_seconds": 1.5, "metrics": metrics}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "network").mkdir()
    rows = [{"step": s, "train/loss": 1.0, "validation/accuracy": accuracy * s / 30} for s in (10, 20, 30)]
    (folder / "network" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return compare.finished(folder)


def test_seeds_are_one_line_with_mean_and_sample_deviation(tmp_path):
    values = [0.90, 0.94, 0.95]
    runs = [written(tmp_path / f"a{i}", i, value) for i, value in enumerate(values)]
    runs.append(written(tmp_path / "b", 0, 0.5, rate=0.2))
    groups = compare.grouped(runs)
    assert [len(g) for g in groups.values()] == [3, 1]
    assert list(groups) == ["optimizer.learning_rate=0.1", "optimizer.learning_rate=0.2"]
    found = compare.spread(groups["optimizer.learning_rate=0.1"], "test/accuracy")
    np.testing.assert_allclose(found[1:], [np.mean(values), np.std(values, ddof=1)], rtol=1e-12)
    table = compare.table(groups, compare.shared_metrics(runs))
    assert table.splitlines()[0].split() == ["runs", "accuracy", "nll_nats"]
    assert "0.93 ± 0.026" in table and table.splitlines()[2].split() == [
        "optimizer.learning_rate=0.2",
        "1",
        "0.5",
        "0.5",
    ]


def test_the_file_has_a_line_for_every_run_and_loses_no_digit(tmp_path):
    runs = [written(tmp_path / "a", 3, 1 / 3), written(tmp_path / "b", 4, 0.25, data="fashion_mnist")]
    compare.write_csv(tmp_path / "out.csv", compare.grouped(runs))
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["seed"], float(row["test/accuracy"])) for row in rows] == [
        ("digits", "3", 1 / 3),
        ("fashion_mnist", "4", 0.25),
    ]


def test_what_cannot_be_compared_is_said(tmp_path):
    run = written(tmp_path / "a")
    with pytest.raises(ValueError, match="are one run"):
        compare.grouped([run, written(tmp_path / "b")])
    with pytest.raises(ValueError, match=r"did you mean 'test/accuracy'"):
        compare.shared_metrics([run], ["test/acuracy"])
    with pytest.raises(ValueError, match="is not a run folder"):
        compare.finished(tmp_path)
    (tmp_path / "a" / "summary.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        compare.finished(tmp_path / "a")


def test_figures_show_every_seed_and_the_range_between_them():
    figure = comparison.dots({"test/nll_nats": {"a": [1.0, 2.0, 4.0], "b": [3.0]}})
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1.0, 2.0, 4.0])
    assert "nats" in axes.get_xlabel()
    figure = comparison.curves({"validation/accuracy": {"a": [[(1, 0.0), (2, 1.0)], [(1, 1.0), (2, 3.0), (3, 9.0)]]}})
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.5, 2.0])
