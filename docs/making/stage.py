"""The sources of the pages, gathered in a folder of the build: what is written, and what is made."""

import os
import shutil
from pathlib import Path

import jupytext

from docs.making import evidence, reference, strip
from docs.making.chapters import Chapters

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CLUSTERS = {"slurm": "SLURM", "kubernetes": "Kubernetes", "tpu": "TPU"}


def prepare(build: Path) -> Path:
    """Evidence and sources in a folder of the build; returns that of the sources."""
    evidence.forget_others(build / "runs")
    source = build / "source"
    for part in ("lecture", "api", "notebooks"):
        shutil.rmtree(source / part, ignore_errors=True)
    copied = shutil.ignore_patterns("making", "notebooks", "__pycache__", "*.png")
    shutil.copytree(DOCS, source, ignore=copied, dirs_exist_ok=True)

    pages = Chapters(source / "lecture", build / "runs")
    rows = pages.table.rows()
    evidence.train_all(sorted({name for row in rows for name in pages.table.figures(row)}), build / "runs")
    evidence.prove(sorted({test for row in rows for test in row["tests"]}))
    Chapters(source / "lecture", build / "runs").write()

    strip.draw(build / "runs", source / "strip.png")
    reference.write(source / "api")
    (source / "clusters.rst").write_text("\n".join(clusters(source)) + "\n", encoding="utf-8")
    notebooks(source / "notebooks")
    return source


def clusters(source: Path) -> list[str]:
    """The page for clusters: what the README says, and every file of launch/ for one, with what it says itself."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    said = [line for line in readme if line.startswith(("- Clusters:", "- GPU and TPU:"))]
    (source / "clusters_readme.md.txt").write_text("\n".join(said) + "\n", encoding="utf-8")
    lines = ["Clusters", "========", "", ".. include:: clusters_readme.md.txt", "   :parser: myst_parser.sphinx_", ""]
    for folder in (path for path in sorted((ROOT / "launch").iterdir()) if path.name in CLUSTERS):
        title = CLUSTERS[folder.name]
        lines += [title, "-" * len(title), ""]
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            language = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".md": "text"}.get(file.suffix, "bash")
            lines += [f".. literalinclude:: {os.path.relpath(file, source)}", f"   :language: {language}"]
            lines += [f"   :caption: launch/{folder.name}/{file.name}", ""]
    return lines


def notebooks(target: Path) -> None:
    """The notebooks, which are programs in the percent format, as Jupyter reads them, and a page that lists them."""
    target.mkdir(parents=True, exist_ok=True)
    files = sorted((DOCS / "notebooks").glob("*.py"))
    for file in files:
        jupytext.write(jupytext.read(file), target / f"{file.stem}.ipynb")
    names = "\n".join(f"   {file.stem}" for file in files)
    text = f"Notebooks\n=========\n\n.. toctree::\n   :maxdepth: 1\n\n{names}\n"
    (target / "index.rst").write_text(text, encoding="utf-8")
