"""The coverage table is true: every named function and test exists, and LECTURE.md is up to date."""

import ast
import importlib
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from dlcore import data
from dlcore.train import override

spec = importlib.util.spec_from_file_location("lecture_table", Path(__file__).with_name("table.py"))
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def test_table_is_true_and_fresh():
    assert table.problems() == []


def test_missing_names_are_found(monkeypatch):
    row = {
        "section": "1",
        "topic": "x",
        "functions": ["dlcore.nn.no_such"],
        "tests": ["tests/nn/layers_test.py::test_none"],
    }
    monkeypatch.setattr(table, "rows", lambda: [row])
    found = table.problems()
    assert any("no_such does not exist" in line for line in found) and any(
        "test_none does not exist" in line for line in found
    )
    assert any("no exercises" in line for line in found)
    assert any("neither figure nor number" in line for line in found)
    assert any("stale" in line for line in found)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"functions": []}, "no functions"),
        ({"tests": []}, "no tests"),
        ({"figure": "flow: no_such"}, "flow draws no figure no_such"),
        ({"figure": "no_such: density"}, "experiment no_such does not exist"),
        ({"figure": "", "number": "no_such"}, "row_numbers.no_such does not exist"),
        ({"exercises": ["coin: sides=3"]}, "coin has no setting sides"),
        ({"exercises": ["no_such: sides=3"]}, "neither an experiment nor a number"),
    ],
)
def test_what_a_row_lacks_is_said(change, problem):
    whole = next(row for row in table.rows() if row.get("figure"))
    assert list(table.lacking(whole)) == []
    (found,) = table.lacking({**whole, **change})
    assert problem in found


EXERCISES = sorted({text for row in table.rows() for text in row["exercises"]})


@pytest.mark.sampled
@pytest.mark.parametrize("text", [text for text in EXERCISES if table.exercise(text)[0] not in table.numbers()])
def test_an_exercise_is_a_setting_that_builds(text):
    name, setting, value = table.exercise(text)
    module = importlib.import_module(f"experiments.{name}")
    spec = data.load("digits").spec
    config = module.preset("smoke", spec)
    changed = override(config, setting, value)
    assert changed != config
    module.build(changed, spec)


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in EXERCISES if table.exercise(text)[0] in table.numbers()])
def test_an_exercise_changes_its_number(text):
    name, setting, value = table.exercise(text)
    number = table.numbers()[name]
    before, after = number(), number(**{setting: ast.literal_eval(value)})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((before, after)))
    told = [[f"{np.asarray(leaf)}" for leaf in jax.tree.leaves(found)] for found in (before, after)]
    assert told[0] != told[1]
