"""Which room may import which, read from the source: contracts at the bottom, experiments and launchers at the top."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {"types", "operands", "precision", "tree", "setting", "lookup", "keys", "backend"}
ALLOWED = {
    "operands": set(),
    "types": {"operands"},
    "precision": set(),
    "tree": {"lookup"},
    "lookup": set(),
    "backend": set(),
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
    "studies": BASE | {"optim", "nn"},
    "generative": BASE | {"stats", "losses", "nn", "evaluation"},
    "retrieval": BASE | {"stats", "losses", "nn"},
    "visualize": BASE | {"stats", "losses", "nn"},
    "train": BASE | {"optim", "parallel", "data", "nn", "report", "evaluation"},
}
ONLY_IN = {
    "orbax": {"dlcore/train/_checkpoint.py"},
    "tensorflow_datasets": {"dlcore/data"},
    "grain": {"dlcore/data"},
    "flax": {"dlcore/interop"},
    "matplotlib": {"dlcore/report"},
    "tensorflow": set(),
    "torch": set(),
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


def test_importing_touches_no_device_and_costs_little():
    code = (
        "import time, jax; began = time.perf_counter(); import dlcore, dlcore.types; "
        "taken = time.perf_counter() - began; "
        "import dlcore.nn._combine, dlcore.nn.conv, dlcore.nn.embedding, dlcore.nn._norm, dlcore.losses._classification; "
        "import dlcore.train._loop, dlcore.optim.build, dlcore.data._augment, dlcore.parallel.mesh; print(taken)"
    )
    # With a platform that does not exist, starting a backend would fail.
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.2
