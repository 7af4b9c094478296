"""Every mutation of the source listed in `mutations/*.toml` makes one of the tests named beside it fail.

A test that cannot fail proves nothing: each entry changes one place of the source in a copy of the repository, and the
tests that claim to guard it are run there. Continuous integration runs a share of the list with each commit;
`mutations/record.py` runs all of it, and `mutations/record.json` says which test noticed each.
"""

import os
import subprocess
import sys

import pytest
from mutated import ROOT, Broken, command, copy_repository, digest, mutations
from mutations import record

FAILED = 1
"""pytest's exit code when tests ran and some failed."""

LIST = [pytest.param(entry, id=name) for name, entry in mutations()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository that may be broken."""
    folder = tmp_path_factory.mktemp("mutated")
    copy_repository(folder)
    return folder


@pytest.mark.parametrize("entry", LIST)
def test_names_one_place_and_tests_that_exist(entry):
    assert (ROOT / entry["file"]).read_text(encoding="utf-8").count(entry["old"]) == 1, entry["file"]
    assert entry["old"] != entry["new"] and entry["tests"]
    for test in entry["tests"]:
        path, within, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not within or f"def {name.split('[')[0]}(" in source, test


def test_the_record_tells_killed_from_survived():
    failed = "F\nFAILED tests/a_test.py::test_sum[1] - assert 1 == 2\n1 failed in 0.1s\n"
    assert record.outcome(1, failed) == {"killed_by": "tests/a_test.py::test_sum[1]"}
    for code, output in ((0, "1 passed"), (-9, failed), (2, "ERROR tests/a_test.py"), (4, "not found")):
        assert "survived" in record.outcome(code, output)


def test_the_record_counts_faults_as_they_stand_now():
    (first, fault), (second, other), *rest = mutations()
    known = {first: {"mutation": digest(fault), "killed_by": "x"}, second: {"mutation": "old", "killed_by": "x"}}
    assert record.counts(known) == (1, len(rest) + 2)
    assert record.counts({second: {"mutation": digest(other), "survived": "exit code 0"}})[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("entry", LIST)
def test_is_noticed(entry, copy):
    with Broken(copy, entry):
        environment = {**os.environ, "PYTHONPATH": ""}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = [sys.executable, "-m", "pytest", *command(entry)]
        done = subprocess.run(run, cwd=copy, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == FAILED, done.stdout[-2000:] + done.stderr[-2000:]
