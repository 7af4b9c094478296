"""Stacked pretraining: what each stage learns from, what the classifier begins with, and stops (lecture 21.4)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import Data, DataSpec, in_memory
from dlcore.train import LoopConfig, read_json, run, session, stages
from dlcore.types import Carry
from experiments.stacked import Config, build

pytestmark = pytest.mark.slow

SPEC = DataSpec(
    "blots", (4, 4, 1), 17, 3, ("a", "b", "c"), (48, 9, 9), (0.5,), (0.3,), fingerprint={"x": {"blots": 66}}
)
LOOP = LoopConfig(batch_size=8, steps=6, log_every=2, checkpoint_seconds=0.0, steps_per_dispatch=2)
CONFIG = Config(widths=(6, 5), pretrain=LOOP, train=LOOP, labels=(12,), seeds=2, tune_steps=4, tune_every=2, level=0.5)


def split(size, seed):
    images = np.random.default_rng(seed).integers(0, 17, (size, 4, 4, 1)).astype(np.uint8)
    return in_memory({"image": images, "label": (np.arange(size) % 3).astype(np.int32)})


DATA = Data(SPEC, *(split(size, i) for i, size in enumerate(SPEC.sizes)))


def sigmoid(a):
    return 1 / (1 + np.exp(-np.asarray(a, np.float64)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return session.train(build(CONFIG, SPEC), data=DATA, folder=tmp_path_factory.mktemp("stacked") / "run")


def code(trained, images):
    dense = trained.result("layer_1").params["encoder"]["dense"]
    return sigmoid(images.reshape(len(images), -1) / 16 @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]))


def results_of(trained):
    return {name: trained.result(name) for name in ("layer_1", "layer_2")}


def test_a_stage_learns_from_the_clean_codes_of_the_one_before(trained):
    second = build(CONFIG, SPEC).stages["layer_2"]
    assert second.uses == ("layer_1",)
    found = second.data(DATA, results_of(trained))
    for part, given in zip(found[1:], DATA[1:], strict=True):
        np.testing.assert_allclose(part.arrays["point"], code(trained, given.arrays["image"]), rtol=1e-5)
        np.testing.assert_array_equal(part.arrays["label"], given.arrays["label"])


def test_a_stage_has_its_own_layer_alone_and_tied_kernels_once(trained):
    shapes = [{k: v.shape for k, v in trained.result(f"layer_{i}").params["encoder"]["dense"].items()} for i in (1, 2)]
    assert shapes == [{"kernel": (16, 6), "bias": (6,)}, {"kernel": (6, 5), "bias": (5,)}]
    assert [set(trained.result(f"layer_{i}").params["decoder"]) for i in (1, 2)] == [{"bias"}, {"bias"}]


def test_all_masked_the_code_is_the_sigmoid_of_the_bias(trained):
    """The loss of a training step that sees nothing is that of decoding σ(b), whatever the clean codes are."""
    stage = build(replace(CONFIG, level=1.0), SPEC).stages["layer_2"]
    params = trained.result("layer_2").params
    state = {"encoder": {}, "decoder": {}}
    carry = Carry(params, state, stage.update.init(params, state))
    point = code(trained, DATA.train.arrays["image"][:8])
    batch = {"point": jnp.asarray(point, jnp.float32), "image": jnp.asarray(point, jnp.float32)}
    _, metrics = stage.update.apply(carry, batch, key=jax.random.key(0), step=jnp.int32(0))
    dense, bias = params["encoder"]["dense"], params["decoder"]["bias"]
    p = sigmoid(sigmoid(dense["bias"]) @ np.asarray(dense["kernel"]).T + np.asarray(bias))
    nats = -(point * np.log(p) + (1 - point) * np.log(1 - p)).sum() / 8
    assert float(metrics["loss"].value()) == pytest.approx(nats, rel=1e-5)


def test_the_classifier_begins_with_every_stage_to_the_bit(trained):
    fit = build(CONFIG, SPEC).stages["classifier"]
    params, state = fit.init(jax.random.key(7), {"image": jnp.zeros((1, 16))})
    begun, _ = fit.start(params, state, results_of(trained))
    for name in ("layer_1", "layer_2"):
        jax.tree.map(np.testing.assert_array_equal, begun[name], trained.result(name).params["encoder"])
    jax.tree.map(np.testing.assert_array_equal, begun["head"], params["head"])
    moved = trained.result("classifier").params
    assert (np.asarray(moved["layer_1"]["dense"]["kernel"]) != np.asarray(begun["layer_1"]["dense"]["kernel"])).any()


def test_the_classifier_is_trained_without_noise(trained):
    fit = build(CONFIG, SPEC).stages["classifier"]
    batch = fit.preprocess(jax.tree.map(jnp.asarray, DATA.train.read(np.arange(8))), key=None, train=True)
    params, state = fit.init(jax.random.key(7), batch)
    carry = Carry(params, state, fit.update.init(params, state))
    step = jax.jit(lambda key: fit.update.apply(carry, batch, key=key, step=jnp.int32(0))[0].params)
    jax.tree.map(np.testing.assert_array_equal, step(jax.random.key(0)), step(jax.random.key(1)))


def test_without_pretraining_both_starts_are_the_random_one(tmp_path):
    config = replace(CONFIG, pretrain=replace(LOOP, steps=0, epochs=0.0), labels=(12,))
    system = build(config, SPEC)
    assert list(system.stages) == ["classifier", "few_labels"] and system.stages["classifier"].start is None
    found = session.train(system, data=DATA, folder=tmp_path / "run").result("few_labels").arrays["labels_12"]
    jax.tree.map(np.testing.assert_array_equal, found["random"], found["pretrained"])


def digests(folder):
    names = ("layer_1", "layer_2", "classifier", "few_labels")
    return {name: read_json(folder / name / "result.json")["sha256"] for name in names}


def test_stops_in_every_stage_change_no_bit(tmp_path):
    config = replace(CONFIG, labels=(12, 24))
    trained = session.train(build(config, SPEC), data=DATA, folder=tmp_path / "whole")
    asked, stopped = iter([False, True] * 20), set()
    made = run.Run(tmp_path / "stopped", build(config, SPEC), DATA, SPEC, 0, {})
    while not stages.execute(made, lambda: next(asked)):
        stopped.add(next(name for name in made.system.stages if not stages.done(made, name)))
    assert stopped == set(made.system.stages), "in each of the three fits, and between two cells"
    assert digests(made.folder) == digests(trained.folder)
    whole = [read_json(folder / "summary.json")["state_sha256"] for folder in (made.folder, trained.folder)]
    assert whole[0] == whole[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (100,)}, r"labels must lie in 1 … 48, the training images, got \(100,\)"),
        ({"seeds": 1}, "seeds must be at least 2"),
        ({"widths": ()}, "widths must name at least one layer"),
        ({"corruption": "maskin"}, "did you mean 'masking'"),
        ({"level": 1.5}, r"rate must lie in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(replace(CONFIG, **changes), SPEC)
