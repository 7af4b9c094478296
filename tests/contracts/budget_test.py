"""Budgets of the presets: the same number of steps on every data set, and few evaluations but some."""

import importlib
import math

import pytest
from contract_table import EXPERIMENTS

from dlcore.data import DataSpec
from dlcore.train import LoopConfig, Progress, budget, cadence, override

SPEED = {"speed94": 1070, "speed95": 2568, "speed96": 6420}
SMALL = {
    "autoencoder": {
        **dict.fromkeys(("default", "linear", "tied", "sparse", "k_sparse", "denoising"), 3000),
        **{"smoke": 300, "full": 12000, "contractive": 750, "conv": 1500},
    },
    "bagging": {"smoke": 380, "default": 3800, "full": 7600},
    "bias_variance": {"smoke": 380, "default": 1900, "full": 3800},
    "capacity": {"smoke": 380, "default": 1900, "full": 5700},
    "classify": {"smoke": 95, "default": 1520, "full": 4560, "mlp": 1520, "mlp_full": 4560, "features": 570} | SPEED,
    "diffusion": {"smoke": 950, "default": 1900, "full": 9500},
    "flow": {"smoke": 190, "default": 1140, "full": 4560, "real_nvp": 1140},
    "gan": {"smoke": 1170, "default": 11700, "full": 58500},
    "generative_classifier": {"smoke": 475, "default": 3800, "full": 15200},
    "hashing": {"smoke": 190, "default": 1900, "full": 9500, "supervised": 1900},
    "initialisation": {"smoke": 114, "default": 570, "full": 1140},
    "optimizers": {"smoke": 190, "default": 1140, "full": 1140},
    "pca": {"smoke": 570, "default": 5700, "full": 28500},
    "pixelcnn": {"smoke": 114, "default": 1140, "full": 4560, "masked": 1140},
    "segment": {"smoke": 175, "default": 3500, "full": 14000},
    "stacked": {"smoke": 100, "default": 1000, "full": 2000},
    "vae": {
        "smoke": 950,
        "default": 4750,
        "full": 23750,
        "manifold": 4750,
        "conv": 1188,
        "hierarchical": 1188,
        "eight_bit": 1188,
    },
}
"""Steps on images of up to 16 pixels: those of the epochs of `digits` that the presets were tuned at."""
LARGE = {
    "autoencoder": {
        **dict.fromkeys(("default", "linear", "tied", "sparse", "k_sparse"), 8580),
        **{"smoke": 172, "denoising": 6503, "full": 34320, "contractive": 2145, "conv": 4290},
    },
    "bagging": {"smoke": 344, "default": 10308, "full": 20616},
    "bias_variance": {"smoke": 1718, "default": 8590, "full": 17180},
    "capacity": {"smoke": 1718, "default": 8590, "full": 25770},
    "classify": {"smoke": 86, "default": 4290, "full": 10725, "mlp": 5350, "mlp_full": 12840, "features": 1287} | SPEED,
    "diffusion": {"smoke": 172, "default": 8590, "full": 171800},
    "flow": {"smoke": 2863, "default": 17180, "full": 68720, "real_nvp": 17180},
    "gan": {"smoke": 3436, "default": 34360, "full": 171800},
    "generative_classifier": {"smoke": 975, "default": 7800, "full": 31200},
    "hashing": {"smoke": 429, "default": 4290, "full": 21450, "supervised": 4290},
    "initialisation": {"smoke": 129, "default": 2577, "full": 5154},
    "optimizers": {"smoke": 8590, "default": 51540, "full": 51540},
    "pca": {"smoke": 516, "default": 5160, "full": 25800},
    "pixelcnn": {"smoke": 2406, "default": 24062, "full": 96248, "masked": 24062},
    "segment": {"smoke": 175, "default": 3500, "full": 14000},
    "stacked": {"smoke": 429, "default": 4290, "full": 8580},
    "vae": {
        "smoke": 1560,
        "default": 7800,
        "full": 39000,
        "manifold": 7800,
        "conv": 1950,
        "hierarchical": 1950,
        "eight_bit": 10000,
    },
}
"""Steps on larger images: those of the epochs of Fashion-MNIST that the presets were tuned at."""
BENCHMARK = {"smoke": 6240, "default": 31200, "full": 156000, "manifold": 31200, "conv": 7800, "hierarchical": 7800}
"""Steps of the VAE on the binarised benchmark."""
SIZES = {"own": 2206, "tiny": 37, "one": 1, "huge": 1_281_167}


def spec(side, examples):
    levels, classes = (17 if side == 8 else 256), 10
    names, sizes = tuple("abcdefghij"), (examples, max(examples // 10, 1), max(examples // 5, 1))
    return DataSpec("drawn", (side, side, 1), levels, classes, names, sizes, (0.5,), (0.3,))


def train_config(name, preset, side, examples):
    return importlib.import_module(f"experiments.{name}").preset(preset, spec(side, examples)).train


def test_every_preset_is_in_the_table():
    assert set(EXPERIMENTS) == set(SMALL) == set(LARGE)
    for name in SMALL:
        assert set(importlib.import_module(f"experiments.{name}").PRESETS) == set(SMALL[name]) == set(LARGE[name])


@pytest.mark.parametrize("examples", [1257, 55_000, *SIZES.values()])
@pytest.mark.parametrize("name", SMALL)
def test_a_preset_takes_as_many_steps_on_any_number_of_examples(name, examples):
    for side, expected in ((8, SMALL), (28, LARGE)):
        for preset, steps in expected[name].items():
            train = train_config(name, preset, side, examples)
            assert train.batch_size <= examples
            assert train.total_steps(examples) == steps, preset


@pytest.mark.parametrize("examples", [50_000, 2206])
def test_the_binarised_benchmark_keeps_its_long_protocol(examples):
    from experiments import vae

    for preset, steps in BENCHMARK.items():
        config = vae.preset(preset, spec(28, examples)._replace(name="fashion_mnist"))
        assert (config.train.total_steps(examples), config.train.batch_size) == (steps, 128)


@pytest.mark.parametrize("name", SMALL)
def test_evaluations_are_some_and_few(name):
    for examples in SIZES.values():
        for preset in SMALL[name]:
            train = train_config(name, preset, 28, examples)
            when = cadence(train, examples, 1)
            assert when.evaluate == 0 or when.total / 50 <= when.evaluate <= when.total, (preset, examples)
            if train.patience:
                assert train.patience >= when.total / when.evaluate, "the run takes its budget, and then the best"


@pytest.mark.parametrize("examples", [1257, 2206, 37])
def test_the_warm_up_of_the_divergence_is_the_same_part_of_every_run(examples):
    from experiments import vae

    for side, part in ((8, 50), (28, 16)):
        config = vae.preset("default", spec(side, examples))
        epoch, total = config.train.steps_per_epoch(examples), config.train.total_steps(examples)
        assert round(config.warmup_epochs * epoch) == round(total / part)


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    assert budget(37, batch_size=128, steps=100, every=10).batch_size == 32
    assert budget(128, batch_size=128, steps=100, every=10).batch_size == 128
    assert budget(1, batch_size=128, steps=100, every=10).batch_size == 1
    with pytest.raises(ValueError, match="0 examples to train on"):
        budget(0, batch_size=128, steps=100, every=10)


def test_epochs_and_steps_of_the_command_line_count_over_the_preset():
    train = budget(2206, batch_size=128, steps=31_200, every=3_900)
    assert override(train, "epochs", "3").total_steps(2206) == 3 * (2206 // 128)
    assert override(train, "steps", "12").total_steps(2206) == 12


def test_a_scaled_loop_keeps_its_proportions():
    base = budget(1000, batch_size=10, steps=1200, every=100, restore_best=True)
    assert (base.total_steps(1000), base.patience) == (1200, 12)
    assert base.scaled(1 / 3) == LoopConfig(10, epochs=4.0, eval_every=1.0, patience=4)
    assert base.scaled(2, every=4) == LoopConfig(10, epochs=24.0, eval_every=4.0, patience=6)
    assert base.scaled(1, every=0) == LoopConfig(10, epochs=12.0, eval_every=0.0)


def test_a_patience_of_all_evaluations_never_stops_and_keeps_the_best():
    train = budget(1000, batch_size=10, steps=1000, every=150, restore_best=True)
    progress = Progress({}, {})
    for i in range(math.ceil(1000 / 150)):
        progress.judge(float(i), 150 * (i + 1), "min", train.patience)
    assert not progress.stopped_early and progress.best_step == 150


def test_the_opening_line_says_steps_epochs_and_examples():
    assert LoopConfig(128, epochs=10).describe(55_000) == "4,290 steps of 128 = 10 epochs of 55,000 examples"
    line = budget(2206, batch_size=128, steps=31_200, every=3_900).describe(2206)
    assert line == "31,200 steps of 128 = 1,835 epochs of 2,206 examples"
    assert LoopConfig(4, steps=100).describe(55_000) == "100 steps of 4 = 0.0073 epochs of 55,000 examples"
