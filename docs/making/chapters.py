"""Pages of the lecture, one for each chapter of the table."""

import ast
import datetime
import functools
import importlib
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dlcore import data
from docs.making import evidence, reference
from docs.making.docstrings import inline
from launch import list as listing
from launch import settings

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "tests" / "lecture" / "row_numbers.py"
SIGNS = {"passed": "✓", "failed": "✗", "skipped": "○"}


def table() -> Any:
    """The module that reads the table."""
    spec = importlib.util.spec_from_file_location("lecture_table", NUMBERS.with_name("table.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Chapters:
    """Writes the pages into a folder, with the figures of the runs in another and the results of the tests."""

    def __init__(self, target: Path, runs: Path):
        self.target, self.runs, self.table = target, runs, table()
        self.outcomes, self.spec = evidence.outcomes(), data.load("digits").spec

    def write(self) -> None:
        """A page for each chapter, and one that lists them. Raises `ValueError` for a row that lacks something."""
        lacking = [f"§{row['section']}: {lack}" for row in self.table.rows() for lack in self.table.lacking(row)]
        if lacking:
            raise ValueError("the table of the lecture is not whole:\n" + "\n".join(lacking))
        (self.target / "figures").mkdir(parents=True, exist_ok=True)
        names = []
        for chapter in self.table.chapters():
            names.append("chapter_" + "_".join(map(str, chapter["numbers"])))
            text = "\n".join(self.chapter(chapter)) + "\n"
            (self.target / f"{names[-1]}.rst").write_text(text, encoding="utf-8")
        head = ["The lecture", "===========", "", *self.summary(), "", ".. toctree::", "   :maxdepth: 1", ""]
        text = "\n".join([*head, *(f"   {name}" for name in names)]) + "\n"
        (self.target / "index.rst").write_text(text, encoding="utf-8")

    def summary(self) -> list[str]:
        """How much is on the pages."""
        rows = self.table.rows()
        tests = {test for row in rows for test in row["tests"]}
        known = [self.outcomes[test] for test in tests if test in self.outcomes]
        passed = sum(outcome.failed == 0 and outcome.passed > 0 for outcome in known)
        return [
            f"{len(rows)} items: each with its formulas, the functions that compute them, the tests that prove them "
            f"({len(tests)}; {passed} passed and {len(known) - passed} did not when they last ran here, "
            f"{len(tests) - len(known)} have no result), a figure or a number made with this page, and exercises."
        ]

    def chapter(self, chapter: dict) -> list[str]:
        """A page."""
        first, last = chapter["numbers"][0], chapter["numbers"][-1]
        title = f"{first if first == last else f'{first}–{last}'} · {chapter['title']}"
        lines = [title, "=" * len(title), ""]
        for row in self.table.rows_of(chapter):
            lines += self.row(row)
        return lines

    def row(self, row: dict) -> list[str]:
        """Formulas and functions, proof, figure or number, exercises."""
        short = row["topic"].split(":")[0].split(";")[0]
        title = f"§ {row['section']} · {short[0].upper()}{short[1:]}"
        lines = [title, "-" * len(title) * 2, ""]
        if short != row["topic"]:
            lines += [inline(row["topic"][0].upper() + row["topic"][1:] + "."), ""]
        for name in row["functions"]:
            module, _, member = name.rpartition(".")
            lines += [*reference.entry(importlib.import_module(module), member, ":no-index:"), ""]
        lines += [".. rubric:: Proof", ""]
        for test in row["tests"]:
            lines += self.proof(test)
        lines += self.number(row["number"]) if "number" in row else []
        for run, names in self.table.figures(row).items():
            lines += self.figures(run, names)
        lines += [".. rubric:: Exercises", ""]
        for text in row["exercises"]:
            lines += self.exercise(*self.table.exercise(text))
        return lines

    def source(self, path: Path) -> str:
        """A file as the pages refer to it."""
        return os.path.relpath(path, self.target)

    def proof(self, test: str) -> list[str]:
        """A test with its last result; its source opens."""
        file, _, function = test.partition("::")
        sign, said = verdict(self.outcomes.get(test))
        return [
            f".. dropdown:: {sign} {function} — {said}",
            "",
            f"   ``{file}``",
            "",
            f"   .. literalinclude:: {self.source(ROOT / file)}",
            f"      :pyobject: {function}",
            "",
        ]

    def number(self, name: str) -> list[str]:
        """The lines that compute a number, and what they give."""
        return [
            ".. rubric:: Number",
            "",
            f".. literalinclude:: {self.source(NUMBERS)}",
            f"   :pyobject: {name}",
            "",
            *results(self.table.numbers()[name]()),
        ]

    def figures(self, run: str, names: list[str]) -> list[str]:
        """Figures of a run, the command, and its metrics."""
        files = [evidence.picture(self.runs, run, name) for name in names]
        files = files or evidence.pictures(self.runs, run)
        lines = [".. rubric:: Figure" if len(files) == 1 else ".. rubric:: Figures", ""]
        lines += [".. code-block:: bash", "", f"   {evidence.command(run)}", ""]
        for path in files:
            copied = self.target / "figures" / f"{evidence.place(Path(), run)}-{path.stem}.png"
            shutil.copy2(path, copied)
            caption = f"``{run}``: {path.stem.replace('_', ' ')}"
            lines += [f".. figure:: figures/{copied.name}", f"   :alt: {path.stem}", "", f"   {caption}", ""]
        metrics = json.loads((evidence.place(self.runs, run) / "summary.json").read_text(encoding="utf-8"))["metrics"]
        shown = {k: v for k, v in metrics.items() if k.startswith("test/") and isinstance(v, int | float)}
        return lines + results(dict(list(shown.items())[:6]))

    def exercise(self, name: str, setting: str, value: str) -> list[str]:
        """Another value of a setting: of a number with its solution, of an experiment with the command."""
        if name in self.table.numbers():
            number = self.table.numbers()[name]
            solution = results(number(**{setting: ast.literal_eval(value)}))
            return [
                f"What does ``{name}({setting}={value})`` give?",
                "",
                ".. dropdown:: Solution",
                "",
                *(f"   {line}" for line in solution),
                "",
            ]
        config = importlib.import_module(f"experiments.{name}").preset("smoke", self.spec)
        before = settings.shown(functools.reduce(getattr, setting.split("."), config))
        text = next(one.text for one in settings.settings(listing.source(name)) if one.path == setting)
        said = inline(text) if text else ""
        return [
            f"Run ``{name}`` with ``{setting}={value}`` in place of ``{before}`` and compare. {said}".strip(),
            "",
            ".. code-block:: bash",
            "",
            f"   {evidence.command(f'{name} --set={setting}={value}')}",
            "",
        ]


def verdict(outcome: evidence.Outcome | None) -> tuple[str, str]:
    """The sign of a result, and the result in words."""
    if outcome is None:
        return "·", "no result is kept here; a long proof, of those that run by hand or in turns"
    day = datetime.date.fromisoformat(outcome.date).strftime("%-d %B %Y")
    counted = {"passed": outcome.passed, "failed": outcome.failed, "skipped": outcome.skipped}
    worst = next(kind for kind in ("failed", "passed", "skipped") if counted[kind])
    said = " and ".join(f"{count} {kind}" for kind, count in counted.items() if count)
    return SIGNS[worst], f"{said} in {outcome.seconds:.2g} s on {day} at {outcome.commit}"


def results(found: dict[str, Any]) -> list[str]:
    """A table of names and numbers."""
    lines = [".. list-table::", "   :class: results", ""]
    for name, value in found.items():
        lines += [f"   * - {inline(name)}", f"     - ``{written(value)}``"]
    return [*lines, ""] if found else []


def written(value: Any) -> str:
    """A number to four digits, an array on one line."""
    array = np.asarray(value)
    if array.ndim == 0:
        item = array.item()
        return f"{item:.4g}" if isinstance(item, float) else f"{item:,}"
    text = np.array2string(array, precision=4, suppress_small=bool(np.abs(array).max() > 1e-3), separator=", ")
    return " ".join(text.split())
