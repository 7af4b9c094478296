"""What the README says is so: its numbers stand in RESULTS, its systems are those there are, its examples run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "experiments" / "RESULTS.md").read_text(encoding="utf-8")
SYSTEMS = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", README, re.M)


def test_the_table_has_every_system_once():
    files = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))
    assert sorted(name for name, _, _ in SYSTEMS) == files


@pytest.mark.parametrize(("name", "measured"), [(name, measured) for name, _, measured in SYSTEMS])
def test_a_number_of_the_table_stands_in_results(name, measured):
    for number in re.findall(r"(?<![\w.])−?\d*\.\d+(?: ± \d*\.\d+)?", measured):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", RESULTS), f"{name}: {number} is not in RESULTS.md"


def test_files_that_it_links_exist():
    prose = re.sub(r"```.*?```|`[^`]*`", "", README, flags=re.S)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (ROOT / target).exists(), target


def test_the_first_example_of_the_library_runs():
    code = re.search(r"## As a library\n\n```python\n(.*?)```", README, re.S)[1]
    assert len(code.splitlines()) <= 10
    found = {}
    exec(compile(code, "README.md", "exec"), found)
    assert float(found["metrics"]["loss"].value()) > 0 and int(found["train_state"].step) == 1
