"""LECTURE.md from rows.toml: row → function → test → figure.

python tests/lecture/table.py           writes LECTURE.md
python tests/lecture/table.py --check   exits 1 when it is stale or names something that does not exist
"""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows():
    """The rows in the order of the lecture."""
    found = tomllib.loads(Path(__file__).with_name("rows.toml").read_text(encoding="utf-8"))["row"]
    return sorted(
        found, key=lambda row: [int(n) for n in re.findall(r"\d+", row["section"].split("–")[0].split(",")[0])]
    )


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
        "names a function or test that does not exist.",
        "",
        f"{states.count('done')} rows done, {states.count('in part')} in part, {states.count('planned')} planned.",
        "",
        "| § | topic | status | functions | proof | figure |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows():
        functions = ", ".join(f"`{name.removeprefix('dlcore.')}`" for name in row.get("functions", []))
        tests = ", ".join(f"[{t.split('::')[1]}]({t.split('::')[0]})" for t in row.get("tests", []))
        lines.append(
            f"| {row['section']} | {row['topic']} | {status(row)} | {functions} | {tests} | {row.get('figure', '')} |"
        )
    return "\n".join(lines) + "\n"


def problems():
    """Names that do not exist, rows without proof, and staleness."""
    found = []
    for row in rows():
        if row.get("functions") and not row.get("tests"):
            found.append(f"§{row['section']}: functions without a test")
        for name in row.get("functions", []):
            module, _, attribute = name.rpartition(".")
            if not hasattr(importlib.import_module(module), attribute):
                found.append(f"§{row['section']}: {name} does not exist")
        for test in row.get("tests", []):
            file, _, function = test.partition("::")
            path = ROOT / file
            defined = (
                {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)}
                if path.exists()
                else ()
            )
            if function not in defined:
                found.append(f"§{row['section']}: {test} does not exist")
    target = ROOT / "LECTURE.md"
    if not target.exists() or target.read_text(encoding="utf-8") != render():
        found.append("LECTURE.md is stale; run: python tests/lecture/table.py")
    return found


if __name__ == "__main__":
    if "--check" not in sys.argv:
        (ROOT / "LECTURE.md").write_text(render(), encoding="utf-8")
    if found := problems():
        sys.exit("\n".join(found))
