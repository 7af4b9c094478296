"""Which room may import which, read from the source: contracts at the bottom, experiments and launchers at the top."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {
    "types",
    "lazy",
    "operands",
    "precision",
    "tree",
    "setting",
    "lookup",
    "keys",
    "backend",
    "norms",
    "tensor_files",
    "addresses",
}
ALLOWED = {
    "operands": set(),
    "types": {"operands"},
    "precision": set(),
    "tree": {"lookup"},
    "lazy": set(),
    "lookup": set(),
    "tensor_files": {"addresses"},
    "addresses": set(),
    "backend": set(),
    "norms": {"backend", "precision"},
    "keys": {"types"},
    "setting": set(),
    "stats": BASE,
    "optim": BASE,
    "nn": BASE,
    "losses": BASE,
    "data": BASE,
    "parallel": BASE,
    "report": BASE,
    "networks": BASE | {"nn"},
    "interop": BASE | {"nn"},
    "backprop": BASE | {"nn"},
    "evaluation": BASE,
    "studies": BASE | {"stats", "optim", "nn", "evaluation"},
    "generative": BASE | {"stats", "losses", "nn", "evaluation"},
    "retrieval": BASE | {"stats", "losses", "nn"},
    "visualize": BASE | {"stats", "losses", "nn"},
    "train": BASE | {"optim", "parallel", "data", "nn", "report", "evaluation"},
}
ONLY_IN = {
    "orbax": {"dlcore/train/_checkpoint.py"},
    "tensorflow_datasets": {"dlcore/data"},
    "grain": {"dlcore/data"},
    "flax": {"dlcore/interop", "launch/speed/flax_"},
    "matplotlib": {"dlcore/report"},
    "tensorflow": set(),
    "torch": {"launch/speed/torch_"},
    "chex": set(),
    "distrax": set(),
    "clu": set(),
}
FILES = sorted(p for folder in ("dlcore", "experiments", "launch") for p in (ROOT / folder).rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    name = str(path.relative_to(ROOT))
    room = path.relative_to(ROOT).parts[1].removesuffix(".py") if name.startswith("dlcore/") else None
    for module in imports(path):
        top, *rest = module.split(".")
        if room and room != "__init__":
            assert top not in ("experiments", "launch", "tests"), f"{name} imports {module}"
            assert top != "dlcore" or rest[0] in ALLOWED[room] | {room}, f"{name} imports {module}"
        if name.startswith("experiments/"):
            assert top != "launch", f"{name} imports {module}"
        assert top not in ONLY_IN or any(name.startswith(place) for place in ONLY_IN[top]), f"{name} imports {module}"
        assert not module.startswith(("jax._src", "jax.experimental")), f"{name} imports {module}"
        assert module not in ("absl.flags",) or name.startswith("launch/"), f"{name} reads flags"


def test_no_pickle_and_no_catch_all_rooms():
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        assert "pickle" not in [m.split(".")[0] for m in imports(path)] and "allow_pickle=True" not in source, path
        assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py"), path


def test_every_public_name_has_a_docstring():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


def private(module):
    return any(part.startswith("_") and not part.startswith("__") for part in module.split("."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_are_entered_by_their_public_names(path):
    place = ".".join(path.relative_to(ROOT).parts)
    for module in imports(path):
        if module.startswith("dlcore.") and private(module):
            room = module.split("._")[0]
            assert place.startswith(f"{room}."), f"{place} imports {module}; take it from {room}"


ROOMS = sorted(path.parent for path in (ROOT / "dlcore").rglob("__init__.pyi"))


def room_name(folder):
    return ".".join(folder.relative_to(ROOT).parts)


@pytest.mark.parametrize("folder", ROOMS, ids=room_name)
def test_what_a_room_lists_is_there_once_and_documented(folder):
    stub = (folder / "__init__.pyi").read_text(encoding="utf-8")
    names = [alias.name for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom) for alias in node.names]
    room = importlib.import_module(room_name(folder))
    assert len(names) == len(set(names)) and sorted(names) == dir(room)
    for name in names:
        found = getattr(room, name)
        assert not inspect.isroutine(found) or found.__doc__, name


def test_every_room_has_a_list():
    packages = {path.parent for path in (ROOT / "dlcore").rglob("__init__.py") if not private(room_name(path.parent))}
    assert packages == set(ROOMS)
    for folder in packages - {ROOT / "dlcore"}:
        assert folder.name in dir(importlib.import_module(room_name(folder.parent))), f"{folder} is not listed above it"


def parts(path):
    """A source's place in dlcore and its name, without the underscores of what is private."""
    return [part.lstrip("_") for part in path.relative_to(ROOT / "dlcore").with_suffix("").parts]


def named_after(path):
    """The tests in a source's room, or in that above it, whose names hold its own: names are unique over the tree."""
    *room, name = parts(path)
    rooms = {ROOT.joinpath("tests", *room), ROOT.joinpath("tests", *(room[:-1] or room))}
    return [test for folder in rooms for test in folder.glob("*_test.py") if f"_{name}_" in f"_{test.stem}"]


SOURCES = [p for p in FILES if (ROOT / "dlcore") in p.parents and p.name != "__init__.py"]
ELSEWHERE = tomllib.loads((ROOT / "tests" / "mirror.toml").read_text(encoding="utf-8"))


def test_tests_mirror_sources():
    alone = {"/".join(parts(path)) for path in SOURCES if not named_after(path)}
    listed = [source for sources in ELSEWHERE.values() for source in sources]
    assert len(listed) == len(set(listed)) and all((ROOT / "tests" / f"{test}_test.py").exists() for test in ELSEWHERE)
    assert not alone - set(listed), "these need a test of the same name in tests/, or a line in tests/mirror.toml"
    assert not set(listed) - alone, "these have a test of their name, or are gone: take them out of tests/mirror.toml"


def test_an_unknown_name_is_said():
    with pytest.raises(AttributeError, match=r"dlcore\.nn has no 'Densse'"):
        importlib.import_module("dlcore.nn").Densse  # noqa: B018


def test_importing_touches_no_device_and_costs_little():
    code = (
        "import time, jax; began = time.process_time(); import dlcore; "
        "from dlcore import generative, losses, nn, optim, stats; "
        "listed = [dir(room) for room in (dlcore, generative, losses, nn, optim, stats)]; "
        "taken = time.process_time() - began; "
        "import dlcore; nn.serial, nn.Conv, nn.Embedding, nn.BatchNorm, losses.softmax_cross_entropy; "
        "dlcore.train.fit, optim.make_optimizer, dlcore.data.views, dlcore.parallel.mesh; print(taken)"
    )
    # With a platform that does not exist, starting a backend would fail.
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.2


PURE = (
    "stats", "nn", "losses", "networks", "generative", "generative.flow", "generative.diffusion", "generative.vae",
    "backprop", "evaluation", "retrieval", "studies", "optim", "visualize",
)  # fmt: skip
"""Rooms of pure functions."""
HEAVY = (
    "flax", "grain", "matplotlib", "orbax", "PIL", "safetensors", "sklearn", "tensorboardX",
    "tensorflow_datasets", "tqdm",
)  # fmt: skip


def test_rooms_of_pure_functions_need_only_jax_and_optax():
    code = f"""
import importlib, sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it fails
for room in {PURE}:
    optax = room in ("optim", "visualize", "studies")
    sys.modules.pop("optax", None) if optax else sys.modules.setdefault("optax", None)
    found = importlib.import_module(f"dlcore.{{room}}")
    for name in dir(found):
        getattr(found, name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


TOP = {".ci", ".gitignore", "CHANGELOG.md", "LECTURE.md", "LICENSE", "README.md", "pyproject.toml"}
TOP |= {"dlcore", "docs", "experiments", "launch", "tests"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: what is kept cannot be told from what is not")
def test_nothing_lies_at_the_top_but_what_belongs_there():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} == TOP
