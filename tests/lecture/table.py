"""LECTURE.md from rows.toml: row → function → test → figure or number.

python tests/lecture/table.py           writes LECTURE.md
python tests/lecture/table.py --check   exits 1 when it is stale or names something that does not exist
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def chapters():
    """`{"numbers": [10, 11, 12], "title": …}` of each chapter."""
    return _table()["chapter"]


def rows():
    """The rows in the order of the lecture."""
    return sorted(
        _table()["row"], key=lambda row: [int(n) for n in re.findall(r"\d+", re.split("–|,", row["section"])[0])]
    )


def _table():
    return tomllib.loads(Path(__file__).with_name("rows.toml").read_text(encoding="utf-8"))


def rows_of(chapter):
    """The rows that a chapter begins."""
    return [row for row in rows() if int(re.match(r"\d+", row["section"])[0]) in chapter["numbers"]]


def figures(row):
    """By run, an experiment with flags if any, the names of its figures that belong to a row; none means all."""
    parts = [part.strip() for part in row.get("figure", "").split(";") if part.strip()]
    split = [part.partition(":") for part in parts]
    return {name: [figure.strip() for figure in listed.split(",") if figure.strip()] for name, _, listed in split}


@functools.cache
def numbers():
    """The functions of row_numbers.py by name."""
    spec = importlib.util.spec_from_file_location("row_numbers", Path(__file__).with_name("row_numbers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if inspect.isfunction(value)}


def exercise(text):
    """(experiment or number, setting, value) of "NAME: SETTING=VALUE"."""
    name, _, assignment = text.partition(": ")
    setting, _, value = assignment.partition("=")
    return name, setting, value


def status(row):
    """Whether a row is done, in part, or planned."""
    return ("in part" if row.get("partial") else "done") if row.get("functions") else "planned"


def render():
    """The text of LECTURE.md."""
    states = [status(row) for row in rows()]
    lines = [
        "# The lecture, row by row",
        "",
        "Made by `python tests/lecture/table.py` from `tests/lecture/rows.toml`; a test fails when it is stale or "
        "names a function or test that does not exist. `./launch/local.sh docs` makes a page of each chapter, with "
        "formulas, results, figures and exercises.",
        "",
        f"{states.count('done')} rows done, {states.count('in part')} in part, {states.count('planned')} planned.",
        "",
        "| § | topic | status | functions | proof | figure or number |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows():
        functions = ", ".join(f"`{name.removeprefix('dlcore.')}`" for name in row.get("functions", []))
        tests = ", ".join(f"[{t.split('::')[1]}]({t.split('::')[0]})" for t in row.get("tests", []))
        number = f"[{row['number']}](tests/lecture/row_numbers.py)" if "number" in row else ""
        shown = "; ".join(part for part in (row.get("figure"), number) if part)
        lines.append(f"| {row['section']} | {row['topic']} | {status(row)} | {functions} | {tests} | {shown} |")
    return "\n".join(lines) + "\n"


def problems():
    """Names that do not exist, rows without function, proof, exercise, or figure and number, and staleness."""
    found = [f"§{row['section']}: {problem}" for row in rows() for problem in lacking(row)]
    begun = {id_of(row) for chapter in chapters() for row in rows_of(chapter)}
    found += [f"§{row['section']}: in no chapter" for row in rows() if id_of(row) not in begun]
    target = ROOT / "LECTURE.md"
    if not target.exists() or target.read_text(encoding="utf-8") != render():
        found.append("LECTURE.md is stale; run: python tests/lecture/table.py")
    return found


def id_of(row):
    """What tells a row from all others."""
    return row["section"], row["topic"]


def lacking(row):
    """What a row names that does not exist, and what it lacks."""
    for wanted in ("functions", "tests", "exercises"):
        if not row.get(wanted):
            yield f"no {wanted}"
    if not row.get("figure") and not row.get("number"):
        yield "neither figure nor number"
    for name in row.get("functions", []):
        module, _, attribute = name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            yield f"{name} does not exist"
    for test in row.get("tests", []):
        file, _, function = test.partition("::")
        if function not in defined(ROOT / file):
            yield f"{test} does not exist"
    if row.get("number") and row["number"] not in numbers():
        yield f"row_numbers.{row['number']} does not exist"
    for run, shown in figures(row).items():
        name = run.split()[0]
        source = ROOT / "experiments" / f"{name}.py"
        if not source.exists():
            yield f"experiment {name} does not exist"
            continue
        drawn = drawn_by(name)
        yield from (f"{name} draws no figure {figure}" for figure in shown if figure not in drawn)
    for text in row.get("exercises", []):
        name, setting, value = exercise(text)
        if name in numbers():
            if setting not in inspect.signature(numbers()[name]).parameters:
                yield f"{text!r}: {name} has no setting {setting}"
        elif not (ROOT / "experiments" / f"{name}.py").exists():
            yield f"{text!r}: neither an experiment nor a number"
        elif not value:
            yield f"{text!r} is no NAME: SETTING=VALUE"


@functools.cache
def defined(path):
    """The functions that a file defines."""
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@functools.cache
def drawn_by(experiment):
    """Every string that an experiment, and what all experiments share, has as a name: its figures are among them."""
    shared = [ROOT / "dlcore" / room for room in ("train", "studies", "report")]
    files = [ROOT / "experiments" / f"{experiment}.py", *(path for folder in shared for path in folder.glob("*.py"))]
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in files)
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))


if __name__ == "__main__":
    if "--check" not in sys.argv:
        (ROOT / "LECTURE.md").write_text(render(), encoding="utf-8")
    if found := problems():
        sys.exit("\n".join(found))
