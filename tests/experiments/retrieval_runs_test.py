"""What pca and hashing find on digits, against scikit-learn and against codes without a network (lecture 20)."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import decomposition

from dlcore.data import load
from dlcore.networks import MLPDecoder, MLPEncoder
from dlcore.nn import serial
from dlcore.retrieval import fit_svd, principal_angles
from experiments import hashing, pca

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_linear_autoencoder_spans_the_subspace_of_the_components():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) * np.array([3, 2, 0.5, 0.3, 0.2, 0.1]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = jnp.float32(x + 1).reshape(200, 2, 3, 1)
    model = serial(MLPEncoder((), 2), MLPDecoder((), (2, 3, 1)))
    params, _ = model.init(jax.random.key(0), x)
    tx = optax.adam(optax.cosine_decay_schedule(0.05, 1000))
    loss = lambda p: jnp.square(model.apply(p, {}, x)[0] - x).mean()  # noqa: E731

    def step(carry, _):
        params, memory = carry
        change, memory = tx.update(jax.grad(loss)(params), memory)
        return (optax.apply_updates(params, change), memory), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=1000)
    decoder = next(leaf for leaf in jax.tree.leaves(params) if leaf.shape == (2, 6))
    angles = principal_angles(decoder, fit_svd(x.reshape(200, 6), 2).components)
    assert float(angles[-1]) < 1e-2


@pytest.mark.slow
def test_errors_of_components_are_those_of_scikit_learn_with_statistics_of_the_training_split():
    data = load("digits")
    config = dataclasses.replace(pca.preset("smoke", data.spec), components=5, compared=(2, 64))
    found = pca.analyse(config, data)
    train, test = (split.all()["image"].reshape(split.size, -1) / 16 for split in (data.train, data.test))
    for k in (2, 5, 64):
        theirs = decomposition.PCA(k, svd_solver="full").fit(train)
        lost = np.square(test - theirs.inverse_transform(theirs.transform(test))).mean()
        assert float(found.arrays["mse"][str(k)]) == pytest.approx(lost, rel=1e-4, abs=1e-9)
    assert float(pca.component_metrics(found.arrays)["explained_ratio"]) < 1


@pytest.mark.parametrize(
    ("module", "setting", "message"),
    [
        (pca, {"components": 65}, "components must be 1 to 64 on digits"),
        (pca, {"compared": ()}, "compared must be 1 to 64"),
        (hashing, {"bits": 65}, "bits must be 1 to 64"),
        (hashing, {"radius": 4}, "radius must be 0 to 3"),
        (hashing, {"bottleneck": "sign"}, "unknown bottleneck 'sign'"),
    ],
)
def test_bad_settings_are_refused_when_a_system_is_built(module, setting, message):
    spec = load("digits").spec
    with pytest.raises(ValueError, match=message):
        module.build(dataclasses.replace(module.preset("smoke", spec), **setting), spec)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["smoke", "supervised"])
def test_trained_codes_find_more_than_principal_signs(preset, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-m", "launch.train", "--experiment=hashing", "--data=digits", f"--preset={preset}"]
    done = subprocess.run([*line, f"--workdir={tmp_path}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert metrics["test/precision_at_100"] > metrics["test/precision_at_100_pca_sign"] + 0.1
    assert metrics["test/precision_at_100"] > (0.9 if preset == "supervised" else 0.6)
