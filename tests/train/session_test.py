"""Runs from a program or a notebook: trained, opened, evaluated; what they need is trained once and shared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dlcore.data import Data, DataSpec, in_memory
from dlcore.train import Findings, RunSpec, Study, System, read_json, run, session, stages

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-cli"),
}
SETTINGS = ["widths=4", "train.steps=3", "ema=0.5"]


def split(size, seed):
    x = np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32)
    return in_memory({"point": x, "label": (x.sum(-1) > 0).astype(np.int32)})


SPEC = DataSpec("plane", (2,), None, 2, ("a", "b"), (16, 6, 5), (0.0, 0.0), (1.0, 1.0))
DATA = Data(SPEC, *(split(size, i) for i, size in enumerate(SPEC.sizes)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return session.train("classify", data="digits", preset="mlp", settings=SETTINGS, folder=folder)


def test_a_trained_run_is_at_hand(trained):
    assert trained.metrics == read_json(trained.folder / "summary.json")["metrics"]
    assert trained.config.widths == (4,) and trained.step == 3
    for name, value in trained.evaluate("test").items():
        assert trained.metrics[f"test/{name}"] == pytest.approx(value, rel=1e-5)
    assert trained.evaluate("validation").keys() == trained.evaluate("train").keys()
    # The accuracy of what predicts, counted by hand.
    rows, spec = trained.run.data.test.all(), trained.run.spec
    images = (rows["image"] / (spec.levels - 1) - np.asarray(spec.mean)) / np.asarray(spec.std)
    logits = trained.functions["predict"](trained.params, trained.state, images.astype(np.float32))
    accuracy = (np.asarray(logits).argmax(-1) == rows["label"]).mean()
    assert accuracy == pytest.approx(trained.metrics["test/accuracy"])
    with pytest.raises(ValueError, match="classify is not a generative model"):
        trained.sample(3)


FRESH = """
import json, sys
import numpy as np
from dlcore.train import session
run = session.open_run(sys.argv[1], with_data=False)
logits = run.functions["predict"](run.params, run.state, np.ones((2, 8, 8, 1), np.float32))
print(json.dumps([run.step, run.metrics, np.asarray(logits).tolist()]))
"""


@pytest.mark.slow
def test_a_run_is_opened_without_data_in_a_fresh_interpreter(trained):
    line = [sys.executable, "-c", FRESH, str(trained.folder)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    step, metrics, logits = json.loads(done.stdout.splitlines()[-1])
    images = np.ones((2, 8, 8, 1), np.float32)
    expected = trained.functions["predict"](trained.params, trained.state, images)
    assert step == 3 and metrics == trained.metrics
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_params_are_read_inside_a_traced_function_too(trained):
    opened, images = session.open_run(trained.folder, with_data=False), np.ones((2, 8, 8, 1), np.float32)
    found = jax.jit(lambda x: opened.functions["predict"](opened.params, opened.state, x))(images)
    expected = trained.functions["predict"](trained.params, trained.state, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(opened.params))
    np.testing.assert_allclose(opened.functions["predict"](opened.params, opened.state, images), expected, rtol=1e-5)


def test_a_run_without_its_data_says_what_it_lacks(trained):
    opened = session.open_run(trained.folder, with_data=False)
    with pytest.raises(ValueError, match="is not loaded; open the run with its data"):
        opened.evaluate("validation")
    assert session.open_run(trained.folder).evaluate("validation") == trained.evaluate("validation")


def test_an_interrupted_run_is_opened_at_its_newest_checkpoint(trained, tmp_path):
    settings = [*SETTINGS, "train.steps_per_dispatch=1", "train.checkpoint_seconds=0"]
    made = run.named("classify", preset="mlp", settings=settings, folder=tmp_path / "cut")
    asked = iter([False, True])
    assert not stages.execute(made, lambda: next(asked))
    for opened in (session.open_run(made.folder), session.open_run(made.folder, with_data=False)):
        assert opened.step == 2 and opened.metrics == {}
        logits = opened.functions["predict"](opened.params, opened.state, np.ones((2, 8, 8, 1), np.float32))
        assert np.isfinite(logits).all()
    with pytest.raises(ValueError, match=r"holds another run .*train.steps: 3 in the folder, 4 asked for"):
        session.train("classify", preset="mlp", settings=[*settings, "train.steps=4"], folder=made.folder)
    again = session.train("classify", preset="mlp", settings=settings, folder=made.folder)
    assert again.step == 3 and again.metrics == pytest.approx(trained.metrics, rel=1e-4)
    for name in ("classifier", "nothing"):
        with pytest.raises(ValueError, match="not a run folder" if name == "nothing" else "has no config.json"):
            session.open_run(made.folder / name)


def test_folders_of_layout_1_are_refused():
    old = ROOT / "tests" / "train" / "layout_1"
    before = sorted(old.rglob("*"))
    for way in (session.open_run, lambda folder: session.train("classify", preset="mlp", folder=folder)):
        with pytest.raises(ValueError, match=r"layout 1, of an earlier version of dlcore; this one reads and writes"):
            way(old)
    assert sorted(old.rglob("*")) == before


def test_names_of_folders_tell_what_is_not_by_default():
    names = {"experiment": "mine.flow", "preset": "full", "data": "npz:a/b.npz", "image_size": 32}
    assert run.folder_name(names, 0, ()) == "flow-npz-a_b.npz-full-32"
    assert run.folder_name(names, 3, ("a.b=1", "c=x,y")) == "flow-npz-a_b.npz-full-32-seed3-a.b=1-c=x,y"
    long = [run.folder_name(names, 0, (f"path={'x' * 100}{i}",)) for i in range(2)]
    assert len(set(long)) == 2 and max(map(len, long)) < 60 and "/" not in run.folder_name(names, 0, ("path=/a",))


def with_need(metric="accuracy") -> System:
    """A system that measures by a classifier that runs share."""

    def compute(key, data, results):
        found = results["judge"]
        logits = found.functions["logits"](found.params, found.state, data.test.arrays["point"])
        return Findings({metric: (np.asarray(logits).argmax(-1) == data.test.arrays["label"]).mean()})

    study = Study(compute, lambda arrays: dict(arrays), uses=("judge",))
    return System({"measured": study}, needs={"judge": RunSpec("tiny.classifier")})


def test_a_needed_run_is_trained_once_and_shared(tmp_path, monkeypatch):
    runs, execute = [], stages.execute
    monkeypatch.setattr(stages, "execute", lambda made, *a: runs.append(made.folder) or execute(made, *a))
    first = session.train(with_need(), data=DATA, folder=tmp_path / "a")
    session.train(with_need(), data=DATA, folder=tmp_path / "b", seed=5)
    (shared,) = (tmp_path / "shared").iterdir()
    assert runs == [tmp_path / "a", shared, tmp_path / "b"] and shared.name.startswith("classifier-")
    assert first.metrics == read_json(shared / "summary.json")["metrics"]
    # On other data it is another one.
    other = DATA._replace(spec=SPEC._replace(fingerprint={"points": {"examples": 3}}))
    session.train(with_need(), data=other, folder=tmp_path / "c")
    assert len(list((tmp_path / "shared").iterdir())) == 2


TWO = """
import sys
sys.path.insert(0, sys.argv[2])
from session_test import DATA, with_need
from dlcore.train import session
session.train(with_need(), data=DATA, folder=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_that_need_the_same_run_train_it_once(tmp_path):
    lines = [[sys.executable, "-c", TWO, str(tmp_path / name), str(Path(__file__).parent)] for name in "ab"]
    options = {"env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(line, **options) for line in lines]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "".join(said).count("which this run needs") == 1 and len(list((tmp_path / "shared").iterdir())) == 1
    one, other = (read_json(tmp_path / name / "summary.json") for name in "ab")
    assert one["metrics"] == other["metrics"] and one["state_sha256"] == other["state_sha256"]
