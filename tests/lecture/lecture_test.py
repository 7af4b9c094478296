"""The coverage table is true: every named function and test exists, and LECTURE.md is up to date."""

import importlib.util
from pathlib import Path

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
    assert any("stale" in line for line in found)
