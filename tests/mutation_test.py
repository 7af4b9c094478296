"""Every mutation of the source listed in `mutations/*.toml` makes one of the tests named beside it fail.

A test that cannot fail proves nothing: each entry changes one place of the source in a copy of the repository, and the
tests that claim to guard it are run there. Continuous integration runs a share of the list with each commit.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("dlcore", "experiments", "launch", "tests", "pyproject.toml", "LECTURE.md")
FAILED = 1
"""pytest's exit code when tests ran and some failed."""


def listed():
    for path in sorted((ROOT / "tests" / "mutations").glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]:
            yield pytest.param(entry, id=f"{path.stem}: {entry['name']}")


LIST = list(listed())


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository that may be broken."""
    folder = tmp_path_factory.mktemp("mutated")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / ".cache").symlink_to(ROOT / ".cache")
    return folder


@pytest.mark.parametrize("entry", LIST)
def test_names_one_place_and_tests_that_exist(entry):
    assert (ROOT / entry["file"]).read_text(encoding="utf-8").count(entry["old"]) == 1, entry["file"]
    assert entry["old"] != entry["new"] and entry["tests"]
    for test in entry["tests"]:
        path, within, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not within or f"def {name.split('[')[0]}(" in source, test


@pytest.mark.slow
@pytest.mark.parametrize("entry", LIST)
def test_is_noticed(entry, copy):
    path = copy / entry["file"]
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(entry["old"], entry["new"]), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-m", "", "-p", "no:cacheprovider", "-n", "0", *entry["tests"]]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=600, env=environment)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert done.returncode == FAILED, done.stdout[-2000:] + done.stderr[-2000:]
