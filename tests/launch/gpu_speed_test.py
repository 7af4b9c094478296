"""The suite of a GPU, at tiny size on a CPU: what it measures, what it leaves out, and what survives its end."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn._count import _equation_flops, equations
from dlcore.tree import named_leaves
from launch.speed import gpu, gpu_lines, gpu_rows, gpu_side
from launch.speed.dlcore_side import batch_of, started, update_of
from launch.speed.gpu_cases import CASES, DTYPES
from launch.speed.gpu_task import Task, read

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "tiny"),
    [*((name, True) for name in CASES), *(pytest.param(n, False, marks=pytest.mark.slow) for n in CASES)],
)
def test_a_step_of_a_gpu_multiplies_in_its_dtype(name, tiny, dtype, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    network = CASES[name].network(dtype, tiny)
    update = update_of(network)
    batch = jax.eval_shape(lambda: batch_of(network, 2))
    state = jax.eval_shape(lambda batch: started(network, update, batch), batch)
    traced = gpu_side.traced_step(update, state, batch)
    assert like(traced.out_info[0]) == like(state), "a step keeps the shapes of the state"
    assert all(x.dtype != jnp.bfloat16 for x in jax.tree.leaves(state)), "params and memory stay in float32"
    products = {str(d): 0 for d in DTYPES}
    for equation, count, function in equations(traced.jaxpr):
        if work := _equation_flops(equation, function):
            products[equation.invars[1].aval.dtype.name] += count * work
    mixing = 0.05 if name == "flow" else 0.0  # densities, and with them the mixing of channels, stay in float32
    assert products[dtype] >= (1 - mixing) * sum(products.values()) > 0


def like(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def test_batches_grow_until_memory_ends_or_little_is_gained():
    def tried(images):
        if images > 64:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return {"images": images, "seconds": 1.0}

    plenty = list(gpu_side.growing(16, tried, lambda: 100.0))
    assert [(t["images"], t.get("out_of_memory", False)) for t in plenty] == [
        (16, False),
        (32, False),
        (64, False),
        (128, True),
    ]
    slow = list(gpu_side.growing(16, lambda n: {"images": n, "seconds": n / 100 if n > 32 else 1.0}, lambda: 100.0))
    assert [t["images"] for t in slow] == [16, 32, 64, 128], "64 images are twice as fast as 32, 128 no faster than 64"
    assert [t["images"] for t in gpu_side.growing(16, tried, lambda: 0.0)] == [16], "the first is always tried"

    def broken(images):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(gpu_side.growing(16, broken, lambda: 100.0))


def test_the_plan_begins_with_what_is_worth_most():
    parts = gpu.plan(["resnet50", "cnn"], torch=["resnet50"])
    assert [tuple(part) for part in parts] == [
        ("train", "resnet50", "bfloat16"),
        ("torch", "resnet50", "bfloat16"),
        ("train", "cnn", "bfloat16"),
        ("deterministic", "cnn", "bfloat16"),
        ("train", "resnet50", "float32"),
        ("train", "cnn", "float32"),
        ("deterministic", "resnet50", "bfloat16"),
        ("torch", "resnet50", "float32"),
    ]


CHILD = """
import sys, time
print('noise', flush=True)
print('answer {"first_step": true, "compile_seconds": 2}', flush=True)
print('answer {"trials": [{"images": 4, "seconds": 0.5}]}', flush=True)
time.sleep(float(sys.argv[1].split('"seconds": ')[1].split(',')[0]))
print('answer {"images": 4, "seconds": 0.5}', flush=True)
sys.exit(int(sys.argv[1].split('"images": ')[1].split(',')[0]))
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A module that answers as a row does, after `seconds`, and ends with the code `images`."""
    (tmp_path / "answering.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "answering"


@pytest.mark.slow
def test_facts_come_one_by_one_and_a_process_is_ended_in_time(child):
    came = []
    for told in gpu_rows.facts(child, Task("train", seconds=60.0, until=time.time() + 5.0)):
        came.append((time.time(), told))
    (_, first), (_, second), (_, last) = came
    assert 0 < first["ready_seconds"] < 5 and first["compile_seconds"] == 2 and "first_step" not in first
    assert second == {"trials": [{"images": 4, "seconds": 0.5}]}
    assert 5 <= int(re.fullmatch(r"after (\d+) s", last["cut"])[1]) < 20


def test_a_process_has_the_card_and_no_cache(monkeypatch):
    for name in gpu_rows.MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_one=1")
    told = gpu_rows.environment("--xla_two=2")
    assert told["XLA_FLAGS"] == "--xla_one=1 --xla_two=2" and told["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert told["XLA_CLIENT_MEM_FRACTION"] == "0.92" and gpu_rows.environment("")["XLA_FLAGS"] == "--xla_one=1"
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    assert "XLA_CLIENT_MEM_FRACTION" not in gpu_rows.environment(""), "the user's own choice stays alone"


def test_a_process_that_fails_is_told(child):
    told = list(gpu_rows.facts(child, Task("train", seconds=0.0, images=7, until=time.time() + 60)))
    assert told[-2:] == [{"images": 4, "seconds": 0.5}, {"failed": "exit code 7"}]
    told = list(gpu_rows.facts(child, Task("train", seconds=0.0, until=time.time() + 60)))
    assert told[-1] == {"images": 4, "seconds": 0.5}


@pytest.mark.slow
def test_the_record_keeps_every_fact_at_once(child, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gpu.PARTS, "train", child)
    record, part = gpu.Record(tmp_path / "out", tiny=True), gpu.Part("train", "mlp", "bfloat16")
    record.found["product_flops_per_second"] = {"bfloat16": 1e9}
    saved = []
    monkeypatch.setattr(record, "save", lambda: (gpu.Record.save(record), saved.append(record.path.read_text())))
    gpu.measure(record, part, Task("train", "mlp", "bfloat16", seconds=60.0, until=time.time() + 5.0))
    rows = [json.loads(text)["rows"][0] for text in saved]
    assert "trials" not in rows[0] and rows[0]["compile_seconds"] == 2
    assert rows[1]["trials"] == [{"images": 4, "seconds": 0.5}] and "cut" in rows[2]
    assert "nothing measured: cut after " in capsys.readouterr().out
    gpu.measure(record, part._replace(program="torch"), Task("torch", until=time.time() + 3.0))
    assert json.loads(record.path.read_text())["left_out"] == [
        {
            "program": "torch",
            "workload": "mlp",
            "dtype": "bfloat16",
            "why": "dlcore's own part found no batch",
        }
    ]


ROW = {
    "workload": "mlp",
    "dtype": "bfloat16",
    "images": 100,
    "seconds": 0.5,
    "product_flops": 1e9,
    "host_share": 0.25,
    "peak_bytes": 2**30,
    "compile_seconds": 3.0,
    "ready_seconds": 7.0,
    "trials": [{"images": 100, "seconds": 0.5}, {"images": 200, "out_of_memory": True}],
    "scan": {"steps": 10, "times_single": 1.5},
    "torch": {"compiled_seconds": 0.75, "compiled_first_step_seconds": 20.0, "cut": "after 9 s"},
    "deterministic": {"digests": ["a", "a", "a", "b"], "steps": 20, "images": 10, "seconds": 0.1},
}


def test_rows_in_words():
    told = "\n".join(gpu_lines.lines(ROW, "train", {"bfloat16": 4e9}))
    pieces = "100 at once", "200 images/s", "50% of the product", "host  25%", "compile 3.0 s", "first step 7.0 s after"
    for piece in pieces:
        assert piece in told
    assert "100: 200, 200: no memory; 10 steps a call 1.50 × as fast" in told
    told = "\n".join(gpu_lines.lines(ROW, "torch", {}))
    assert "1.50 × torch.compile (133 images/s, first step 20.0 s)" in told and "PyTorch cut after 9 s" in told
    told = "\n".join(gpu_lines.lines(ROW, "deterministic", {}))
    assert "4 trainings of 20 steps NOT equal, 100 images/s" in told
    found = {"product_flops_per_second": {"bfloat16": 4e9}, "rows": [ROW, {"workload": "cnn", "dtype": "float32"}]}
    assert list(gpu.shown(found)) == [
        ("fraction of the product", "mlp bfloat16", 0.5),
        ("times torch.compile", "mlp bfloat16", 1.5),
    ]


def test_a_task_survives_the_command_line():
    task = Task("train", "mlp", "float32", tiny=True, until=12.5, weights="/a b/c.npz")
    assert read(task.text()) == task


@pytest.mark.slow
def test_a_row_measured_here(tmp_path, capsys):
    weights = tmp_path / "w.npz"
    task = Task("train", "mlp", "bfloat16", tiny=True, seconds=0.01, images=4, weights=str(weights))
    told = list(gpu_side.training(task))
    assert "first_step" in capsys.readouterr().out
    row = {name: value for part in told for name, value in part.items()}
    # 784-16-16-10: three products forward, five backward, as the image needs no gradient
    products = 2 * 4 * (3 * (16 * 16 + 16 * 10) + 2 * 784 * 16)
    assert row["product_flops"] == products and row["parameters"] == 784 * 16 + 16 + 16 * 16 + 16 + 160 + 10
    assert row["images"] == 4 and 0 < row["host_share"] <= 1 and row["scan"]["seconds"] > 0
    with np.load(weights) as file:
        assert file["params/dense_0/kernel"].shape == (784, 16) and file["batch/image"].shape == (2, 28, 28, 1)


@pytest.mark.slow
def test_two_trainings_end_alike():
    told = list(gpu_side.deterministic(Task("deterministic", "mlp", "float32", tiny=True, seconds=0.01)))
    first, second = told[0]["digests"]
    assert first == second and len(first) == 64
    network = CASES["mlp"].network("float32", True)
    start = started(network, update_of(network), batch_of(network, 2))
    assert dict(named_leaves(start)), "a digest of something"


WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('launch.bench', run_name='__main__')"


def bench(*flags, program=("-c", WITHOUT_TORCH)):
    command = [sys.executable, *program, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590, env=os.environ | QUICK)


QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_experimental_ynn_fusion_type=-reduce"}


@pytest.mark.slow
def test_a_cpu_is_refused(tmp_path):
    done = bench("--suite=gpu", f"--out={tmp_path}")
    assert done.returncode == 1
    assert "error: --suite=gpu measures a GPU, and JAX finds none here; --tiny tries" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_command_end_to_end(tmp_path):
    done = bench("--suite=gpu", "--tiny", "--workloads=mlp,cnn", "--seconds=0.1", "--budget=560", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["workload"], row["dtype"]): row for row in told["rows"]}
    assert set(rows) == {(name, dtype) for name in ("mlp", "cnn") for dtype in DTYPES} and told["left_out"] == []
    assert all({"seconds", "scan", "compile_seconds", "ready_seconds", "trials"} <= set(row) for row in rows.values())
    assert len(rows["cnn", "bfloat16"]["deterministic"]["digests"]) == 4
    assert len(set(rows["cnn", "bfloat16"]["deterministic"]["digests"])) == 1
    assert "4 trainings of 20 steps equal to the bit" in done.stdout and (tmp_path / "gpu.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.long
def test_pytorch_stands_beside(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    told = ("--suite=gpu", "--tiny", "--workloads=mlp", "--seconds=0.1", "--row_budget=250", "--budget=560")
    done = bench(*told, f"--out={tmp_path}", program=("-m", "launch.bench"))
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "gpu.json").read_text())["rows"][0]
    assert row["torch"]["parameters"] == row["parameters"]
    assert row["torch"]["eager_seconds"] > 0 and row["torch"]["compiled_seconds"] > 0
    assert "× torch.compile" in done.stdout and "× eager PyTorch" in done.stdout
