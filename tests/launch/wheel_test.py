"""The wheel: the command `dlcore`, the programs and experiments, and rooms that need little."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launch import cli

ROOT = Path(__file__).parents[2]
PURE = """
import sys
import jax, jax.numpy as jnp
import dlcore
from dlcore import backprop, evaluation, generative, losses, networks, nn, retrieval, stats

for room in (backprop, evaluation, generative, losses, networks, nn, retrieval, stats):
    for name in dir(room):
        getattr(room, name)
model = networks.MLP((4,), outputs=3)
params, state = model.init(jax.random.key(0), jnp.ones((2, 5)))
logits, _ = model.apply(params, state, jnp.ones((2, 5)))
assert losses.softmax_cross_entropy(logits, jnp.array([0, 2])).shape == (2,)
there = {"jax", "jaxtyping", "numpy"}
for other in ("flax", "optax", "orbax", "tensorflow_datasets", "grain", "absl", "sklearn", "matplotlib", "PIL"):
    try:
        __import__(other)
    except ImportError:
        continue
    raise SystemExit(f"{other} is installed, so that nothing is proved")
print("pure", dlcore.__file__)
"""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1500, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = run(
        "git", "-C", ROOT, "ls-files", "dlcore", "experiments", "launch", "pyproject.toml", "README.md", "LICENSE"
    )
    for name in files.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source)
    (found,) = out.glob("dlcore-*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_rooms_programs_and_experiments(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [path for folder in ("dlcore", "experiments", "launch") for path in (ROOT / folder).rglob("*.py")]
    wanted += [*(ROOT / "dlcore").rglob("*.pyi"), ROOT / "dlcore/py.typed"]
    assert {str(path.relative_to(ROOT)) for path in wanted} <= names
    assert not {name for name in names if name.startswith("tests/")}
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert b"dlcore = launch.cli:main" in zipfile.ZipFile(wheel).read(entry)


@pytest.mark.slow
def test_rooms_of_pure_functions_run_beside_jax_jaxtyping_and_numpy_alone(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = (python, "-m", "pip", "install", "-q", "-c", ROOT / "launch/constraints.txt")
    run(*install, "--no-deps", wheel)
    run(*install, "jax", "jaxtyping", "numpy")
    told = run(python, "-c", PURE, cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    assert told.startswith("pure") and str(tmp_path) in told


def command(*arguments, cwd, **environment):
    """The console script, called as its entry point calls it."""
    code = "import sys; sys.argv[0] = 'dlcore'; from launch.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        timeout=600,
    )


def test_the_command_names_its_verbs_and_refuses_others(tmp_path):
    said = command("--help", cwd=tmp_path).stdout
    assert [line.split()[0] for line in said.splitlines()[1:]] == list(cli.VERBS)
    wrong = command("tarin", cwd=tmp_path)
    assert wrong.returncode == 2 and "unknown verb 'tarin'" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    script = (ROOT / "launch/local.sh").read_text(encoding="utf-8")
    assert {*cli.VERBS, "test"} <= set(script.split('verbs="')[1].split('"')[0].split()), "as local.sh"


def test_a_verb_has_its_flags(tmp_path):
    said = command("train", "--help", cwd=tmp_path)
    assert said.stdout.startswith("Train an experiment") and "--experiment" in said.stdout and not said.stderr
    wrong = command("list", "--num=3", cwd=tmp_path)
    assert wrong.returncode != 0 and "num" in wrong.stderr


@pytest.mark.slow
def test_an_experiment_outside_of_the_repository_trains_and_is_reported(tmp_path):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    system = (ROOT / "tests/tiny/classifier.py").read_text(encoding="utf-8")
    (package / "my_system.py").write_text(system)
    own = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = command("train", "--experiment=my_package.my_system", "--workdir=run", cwd=tmp_path, **own)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/summary.json").exists() and "my_package.my_system" in (
        tmp_path / "run/report.html"
    ).read_text()
    listed = command("list", "--experiment=my_package.my_system", cwd=tmp_path, **own)
    assert "train.batch_size: int = 8" in listed.stdout, listed.stderr
    missing = command("train", "--experiment=my_package.other", cwd=tmp_path, **own)
    assert missing.returncode == 1 and "'my_package.other' cannot be imported" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1
    traced = command("train", "--experiment=my_package.other", cwd=tmp_path, DLCORE_TRACEBACK="1", **own)
    assert "Traceback" in traced.stderr, "for the author of a system"
