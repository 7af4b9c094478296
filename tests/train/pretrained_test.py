"""Trained weights as the start of another run: by a flag, and by extending a finished run (lecture 18)."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dlcore.train import export, extended, session

STILL = "optimizer.learning_rate=0"
"""With it params stay where they start."""
SMALL = ["widths=4", "train.steps=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return session.train("classify", preset="mlp", settings=["widths=4", "train.steps=2", "ema=0.5"], folder=folder)


@pytest.fixture(scope="module")
def weights(trained):
    out = trained.folder.parent / "net.safetensors"
    export.write_weights(trained.run, out)
    return out


def train(folder, *settings, seed=1):
    return session.train("classify", preset="mlp", settings=[*SMALL, *settings], folder=folder, seed=seed)


@pytest.mark.slow
def test_a_run_starts_from_the_weights_in_a_file_and_resumes_without_it(trained, weights, tmp_path, capsys):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    found = train(tmp_path / "run", f"train.init_from={copy}", STILL)
    jax.tree.map(np.testing.assert_array_equal, found.params, trained.params)
    assert f"starting from the weights in {copy}" in capsys.readouterr().out
    copy.unlink()
    (found.folder / "summary.json").unlink()
    (found.folder / "classifier" / "result.json").unlink()
    again = session.train(
        "classify", preset="mlp", settings=[*SMALL, f"train.init_from={copy}", STILL], folder=found.folder, seed=1
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)


@pytest.mark.slow
def test_what_is_fresh_starts_anew(trained, weights, tmp_path):
    found = train(tmp_path / "run", f"train.init_from={weights}", "train.init_fresh=dense_1/**", STILL)
    np.testing.assert_array_equal(found.params["dense_0"]["kernel"], trained.params["dense_0"]["kernel"])
    assert (found.params["dense_1"]["kernel"] != trained.params["dense_1"]["kernel"]).all()


def test_all_that_does_not_fit_is_named_and_nothing_is_begun(weights, tmp_path):
    with pytest.raises(ValueError, match=r"does not fit in 3 leaves: .*dense_0/kernel is \[64, 4\], wanted \[64, 5\]"):
        train(tmp_path / "a", f"train.init_from={weights}", "widths=5")
    tensors = load_file(weights)
    del tensors["params/dense_1/bias"]
    save_file({**tensors, "params/more": np.zeros(3, np.float32)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="dense_1/bias is missing; more is left over"):
        train(tmp_path / "b", f"train.init_from={tmp_path / 'b.safetensors'}")
    save_file({"fc.weight": np.zeros(3, np.float32)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"has a tensor 'fc.weight' .* as launch.export writes them"):
        train(tmp_path / "c", f"train.init_from={tmp_path / 'c.safetensors'}")
    whole = load_file(weights)
    whole["params/dense_0/kernel"] = np.ones_like(whole["params/dense_0/kernel"], np.int8)
    save_file(whole, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"params/dense_0/kernel is int8, wanted float32; store the weights as floats"):
        train(tmp_path / "d", f"train.init_from={tmp_path / 'd.safetensors'}")
    whole["params/dense_0/kernel"] = np.full(whole["params/dense_0/kernel"].shape, 1e300)
    save_file(whole, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"params/dense_0/kernel holds values beyond the range of float32"):
        train(tmp_path / "d", f"train.init_from={tmp_path / 'd.safetensors'}")
    (tmp_path / "d.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"d.safetensors is a Git LFS pointer"):
        train(tmp_path / "d", f"train.init_from={tmp_path / 'd.safetensors'}")
    with pytest.raises(ValueError, match=r"nothing.safetensors cannot be read"):
        train(tmp_path / "d", "train.init_from=nothing.safetensors")
    with pytest.raises(ValueError, match=r"says what does not come from train.init_from"):
        train(tmp_path / "e", "train.init_fresh=dense_1/**")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.slow
def test_a_finished_run_is_extended_by_a_new_one(trained, tmp_path):
    made = extended(trained.run, 0.2, settings=[STILL])
    assert made.folder == trained.folder.with_name("run-extend0.2")
    assert made.config.train.epochs == 0.2 and made.config.train.steps == 0 and made.config.ema == 0.5
    found = session.train(made.system, data=made.data, folder=tmp_path / "run")
    assert json.loads((found.folder / "summary.json").read_text())["steps"] == round(0.2 * (1257 // 64))
    # The average of equal numbers is rounded.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.params, trained.params)
    with pytest.raises(ValueError, match="by a number of epochs above 0, got 0"):
        extended(trained.run, 0)
    with pytest.raises(ValueError, match="is not finished; finish it before it is extended"):
        extended(trained.run._replace(folder=tmp_path / "nothing"), 1)
