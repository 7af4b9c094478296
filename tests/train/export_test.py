"""An exported model is the trained one: its numbers, its program, and whatever opens it."""

import struct

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dlcore.train import export, loaded, session
from dlcore.tree import named_leaves

PROGRAMS = ("predict", "features")
X = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module", params=["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = [f"model={request.param}", "widths=4", "train.steps=2", "ema=0.5"]
    return session.train("classify", preset="mlp", settings=settings, folder=folder)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "net.safetensors"
    assert export.write(trained.run, out) == [out, *(out.with_suffix(f".{name}.stablehlo") for name in PROGRAMS)]
    return out


def test_the_file_holds_what_evaluation_uses(trained, exported):
    found = load_file(exported)
    expected = dict(named_leaves({"params": trained.params, "state": trained.state}))
    assert found.keys() == expected.keys() and any("kernel" in name for name in found)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf)
    assert not list(exported.parent.glob(".*"))


def test_the_exported_program_predicts(trained, exported):
    run, held = export.read(exported)
    program = export.program(run, held.view)
    written = exported.with_suffix(".predict.stablehlo").read_bytes()
    assert written.startswith(b"ML\xefR") and b"StableHLO" in written and b"stablehlo" in program.mlir_module().encode()
    assert {"cpu", "cuda", "tpu"} <= set(program.platforms)
    for x in (X, X[:1]):
        expected = trained.functions["predict"](trained.params, trained.state, x)
        found = program.call(held.view.params, held.view.state, x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert export.program(run, held.view, "nothing") is None


def test_a_start_for_another_task_is_loaded_from_folder_and_file(trained, exported, tmp_path):
    for path in (trained.folder, str(exported)):
        found = loaded(path, lambda path: ({"read": path}, {}))
        jax.tree.map(np.testing.assert_array_equal, found, (trained.params, trained.state))
    other = tmp_path / "other.safetensors"
    save_file({"weight": X}, other)
    assert loaded(other, lambda path: ({"read": path}, {})) == ({"read": other}, {})
    with pytest.raises(ValueError, match="holds tensors, but no run"):
        loaded(other)
    other.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"is no whole .safetensors file"):
        loaded(other, lambda path: ({"read": path}, {}))


def test_an_exported_run_opens_like_its_folder(trained, exported):
    opened = session.open_run(exported)
    assert opened.config == trained.config and opened.metrics == trained.metrics and opened.step == 2
    jax.tree.map(np.testing.assert_array_equal, (opened.params, opened.state), (trained.params, trained.state))
    predicted = [one.functions["predict"](one.params, one.state, X) for one in (opened, trained)]
    np.testing.assert_array_equal(*predicted)
    with pytest.raises(ValueError, match="is not loaded"):
        opened.evaluate("test")
    with pytest.raises(ValueError, match="not a generative model"):
        opened.sample(3)


EIGHT_BITS = (
    struct.pack("<Q", len(HEADER := b'{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}')) + HEADER + b"ab"
)
"""A `.safetensors` file of two numbers of eight bits."""


def test_other_files_are_refused(trained, exported, tmp_path):
    other = tmp_path / "other.safetensors"
    with pytest.raises(ValueError, match=r"other.safetensors cannot be read"):
        session.open_run(other)
    other.write_bytes(exported.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"other.safetensors is no whole .safetensors file"):
        session.open_run(other)
    other.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"other.safetensors is a Git LFS pointer"):
        session.open_run(other)
    other.write_bytes(EIGHT_BITS)
    with pytest.raises(ValueError, match="holds tensors, but no run: it lacks 'config'"):
        session.open_run(other)
    save_file({"a": X}, other)
    with pytest.raises(ValueError, match="holds tensors, but no run: it lacks 'config'"):
        session.open_run(other)
    with pytest.raises(ValueError, match=r"ends in .safetensors, got .*; name it net.safetensors"):
        export.write(trained.run, tmp_path / "net.npz")
