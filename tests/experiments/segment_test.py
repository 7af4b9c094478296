"""segment on masks of one's own: ignored pixels count for nothing, and other data is refused (lecture 25)."""

import dataclasses

import jax
import numpy as np
import pytest

from dlcore import evaluation
from dlcore.data import IGNORED, Data, DataSpec, in_memory
from dlcore.train import main_fit
from experiments import segment

RNG = np.random.default_rng(0)
NAMES = ("ground", "leaf", "stone")


def own_masks(sides=(10, 7)):
    def split(size):
        masks = RNG.integers(0, 3, (size, *sides)).astype(np.uint8)
        masks[:, :2] = IGNORED
        return in_memory({"image": (80 * (masks % 4))[..., None].astype(np.uint8), "mask": masks})

    spec = DataSpec("own", (*sides, 1), 256, None, NAMES, (12, 4, 6), (0.3,), (0.3,), mask_classes=3)
    return Data(spec, split(12), split(4), split(6))


def system(data, **settings):
    config = dataclasses.replace(segment.preset("smoke", data.spec), widths=(4, 6), **settings)
    return segment.build(config, data.spec)


@pytest.fixture(scope="module")
def measured():
    """Sums over the test pictures with ignored pixels as they are, and with other pictures behind them."""
    data = own_masks()
    fit = main_fit(system(data))[1]
    rows = jax.device_put({**data.test.arrays, "row": np.arange(6), "where": np.arange(6) < 5})
    shown = fit.preprocess(rows, key=None, train=False)
    params, state = fit.init(jax.random.key(0), shown)
    # The last kernel starts at 0; everything would be ground.
    params["out"]["kernel"] = jax.random.normal(jax.random.key(1), params["out"]["kernel"].shape)
    evaluate = jax.jit(fit.evaluate)
    return fit, evaluate(params, state, shown, jax.random.key(0)), rows


@pytest.mark.slow
def test_ignored_pixels_and_rows_that_do_not_count_are_in_no_sum(measured):
    fit, sums, rows = measured
    counted = int((rows["mask"][:5] != IGNORED).sum())
    assert int(sums["confusion"].sum()) == int(sums["nll_nats"].count) == counted
    assert int(sums["image_iou"].count) == 5
    found = fit.summarize(jax.device_get(sums))
    assert set(found) >= {"miou", "pixel_accuracy", "image_iou", "boundary_f", "nll_nats"}
    assert all(0 <= found[name] <= 1 for name in ("miou", "pixel_accuracy", "image_iou", "boundary_f"))
    assert evaluation.iou_by_name(np.asarray(sums["confusion"]), NAMES).keys() <= {f"iou_{name}" for name in NAMES}


def test_flips_take_the_mask_along():
    data = own_masks((6, 6))
    fit = main_fit(system(data, flip=True))[1]
    rows = jax.device_put({**data.train.arrays, "row": np.arange(12)})
    shown = fit.preprocess(rows, key=jax.random.key(0), train=True)
    back = np.round((np.asarray(shown["image"][..., 0]) * 0.3 + 0.3) * 255).astype(np.uint8)
    np.testing.assert_array_equal(back, (80 * (np.asarray(shown["mask"]) % 4)).astype(np.uint8))
    flipped = (np.asarray(shown["mask"]) != rows["mask"]).any((1, 2))
    assert 0 < flipped.sum() < 12


def test_settings_that_cannot_be_are_refused():
    data = own_masks()
    with pytest.raises(ValueError, match="sum of ce"):
        system(data, loss="jaccard")
    with pytest.raises(ValueError, match="one for each of 3 classes"):
        system(data, class_weights=(1.0, 1.0))
    points = DataSpec("moons", (2,), None, 2, ("a", "b"), (9, 3, 3), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="moons has neither"):
        segment.class_names(points)
    digits = DataSpec("digits", (8, 8, 1), 17, 10, tuple("0123456789"), (90, 9, 9), (0.3,), (0.3,))
    with pytest.raises(ValueError, match="canvas=6 is smaller than the objects"):
        segment.make_preprocess(segment.Config(canvas=6), digits)
    with pytest.raises(ValueError, match="enlarge must be at least 1, got 0"):
        segment.make_preprocess(segment.Config(enlarge=0), digits)
    for name, value in (("visible", 1.5), ("visible", -0.1), ("opaque", 1.0)):
        with pytest.raises(ValueError, match=f"{name} must lie in"):
            segment.make_preprocess(segment.Config(**{name: value}), digits)
    presets = [segment.preset("default", digits._replace(shape=(side, side, 1))) for side in (8, 28, 96)]
    assert [(preset.canvas, preset.enlarge) for preset in presets] == [(64, 3), (64, 1), (216, 1)]
