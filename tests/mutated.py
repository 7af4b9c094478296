"""A copy of the repository in which one place after the other is broken, and the tests run that claim to notice it."""

import hashlib
import json
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("dlcore", "experiments", "launch", "tests", "pyproject.toml", "LECTURE.md")


def mutations():
    """(list: name, entry) of every mutation, in the order of the files."""
    for path in sorted((ROOT / "tests" / "mutations").glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]:
            yield f"{path.stem}: {entry['name']}", entry


def digest(entry):
    """Which fault it is, and which tests are to notice it."""
    told = json.dumps([entry[name] for name in ("file", "old", "new", "tests")])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def copy_repository(folder):
    """A copy of what the tests need, with the compile cache of the repository."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / ".cache").symlink_to((ROOT / ".cache").resolve())


class Broken:
    """Context in which the copy in `folder` has the fault `entry`."""

    def __init__(self, folder, entry):
        self.path, self.entry = folder / entry["file"], entry
        self.whole = self.path.read_text(encoding="utf-8")

    def write(self, text):
        # Bytecode is known by the second of its source, and two faults may be planted within one.
        for stale in self.path.parent.glob(f"__pycache__/{self.path.stem}.*"):
            stale.unlink()
        self.path.write_text(text, encoding="utf-8")

    def __enter__(self):
        self.write(self.whole.replace(self.entry["old"], self.entry["new"]))

    def __exit__(self, *_):
        self.write(self.whole)


def command(entry):
    """The arguments of pytest that run the tests of a mutation, until one fails."""
    return ["-x", "-m", "", "-p", "no:cacheprovider", "-n", "0", *entry["tests"]]
