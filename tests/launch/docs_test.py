"""The pages: everything that they are made from is there and whole; and, slowly, the pages themselves."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import outcomes
import pytest

from docs.making import chapters, docstrings, evidence, reference

ROOT = Path(__file__).parents[2]


def environment():
    """What a program needs to find dlcore, and to compile what others have compiled."""
    flags = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
    cache = str(ROOT / ".cache" / "jax-cli")
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": cache}


def test_an_equation_stands_out_and_nothing_in_it_is_markup():
    lines = docstrings.rst("y = a*b_c |x| for `a` in [1]_.\n\nMore of `dlcore.nn.conv`.\n\n>>> 1 + 1\n2")
    assert lines[0] == ".. rst-class:: formula"
    assert lines[2] == r"y = a\*b\_c \|x\| for \ ``a``\  in [1]\_."
    assert lines[4] == r"More of \ :py:obj:`dlcore.nn.conv`\ ."
    assert lines[6:8] == [">>> 1 + 1", "2"]
    assert docstrings.rst("Plain.")[0] == "Plain."


def test_signatures_are_those_of_the_source():
    def add(x: "Float[Array, ' n']", *, axis: int = -1) -> "Float[Array, '']":
        """A sum."""

    assert docstrings.signature(add)[0] == """(x: "Float[Array, ' n']", *, axis: int=-1)"""
    assert docstrings.signature(3) is None


@pytest.mark.parametrize(
    ("cases", "sign", "said"),
    [
        (
            [["passed", 0.5, "2026-01-02", "abc"], ["passed", 1.0, "2026-01-03", "def"]],
            "✓",
            "2 passed in 1.5 s on 3 Jan",
        ),
        ([["passed", 0.5, "2026-01-02", "abc"], ["failed", 1.0, "2026-01-02", "abc"]], "✗", "1 passed and 1 failed"),
        ([["skipped", 0.0, "2026-01-02", "abc"]], "○", "1 skipped"),
    ],
)
def test_one_failed_case_is_a_failed_proof(cases, sign, said):
    found = chapters.verdict(evidence.gathered(cases))
    assert found[0] == sign and said in found[1]
    assert chapters.verdict(None)[0] == "·"


def test_results_of_a_test_file_that_has_changed_are_dropped(tmp_path, monkeypatch):
    kept = tmp_path / "outcomes.json"
    for root in (outcomes, evidence):
        monkeypatch.setattr(root, "ROOT", tmp_path)
    monkeypatch.setattr(evidence, "OUTCOMES", kept)
    (tmp_path / "a_test.py").write_text("1")
    outcomes.keep(
        {"a_test.py": {"test_a[1]": ("passed", 0.1), "test_a[2]": ("failed", 0.1)}}, kept, "2026-01-02", "abc"
    )
    assert evidence.outcomes()["a_test.py::test_a"][:3] == (1, 1, 0)
    outcomes.keep({"a_test.py": {"test_a[2]": ("passed", 0.1)}}, kept, "2026-01-03", "def")
    assert evidence.outcomes()["a_test.py::test_a"][:3] == (2, 0, 0)
    (tmp_path / "a_test.py").write_text("2")
    assert evidence.outcomes() == {}


@pytest.mark.slow
def test_every_public_name_has_an_entry():
    pages = {name: "\n".join(reference.page(name)) for name in reference.modules("dlcore")}
    assert len(pages) > 30
    for name, page in pages.items():
        for member, source in reference.names(importlib.import_module(name)).items():
            assert source is None or re.search(rf":: {re.escape(name)}\.{member}$", page, re.M), f"{name}.{member}"


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "gallery").glob("plot_*.py")), ids=lambda path: path.stem)
def test_a_program_of_the_gallery_begins_with_a_title(file):
    head = file.read_text(encoding="utf-8").splitlines()
    assert head[0] == '"""' and set(head[2]) == {"="} and len(head[2]) >= len(head[1])


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_runs(file, tmp_path):
    code = f"import matplotlib; matplotlib.use('agg'); import runpy; runpy.run_path({str(file)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_pages_are_made_without_a_warning():
    pytest.importorskip("sphinx", reason="the pages need the extra docs")
    done = subprocess.run([sys.executable, "-m", "launch.docs"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    html = ROOT / "build" / "docs" / "html"
    rows = chapters.table().rows()
    found = "".join(path.read_text(encoding="utf-8") for path in (html / "lecture").glob("chapter_*.html"))
    assert found.count("Exercises</p>") == len(rows)
    assert not re.search(r'(src|href)="https?://[^"]*\.(js|css)"', found), "the pages load something from elsewhere"
