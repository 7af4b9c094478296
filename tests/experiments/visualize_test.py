"""The experiment of looking inside: what it looks at, what it refuses, and that its stages fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import Data, DataSpec, in_memory
from dlcore.report.explorer import Page
from dlcore.report.panel import draw
from dlcore.train import Result, export, one_of_each, session
from experiments import visualize

SPEC = DataSpec("squares", (16, 16, 1), 256, 3, ("a", "b", "c"), (8, 0, 11), (0.5,), (0.3,))
TINY = {"images": 2, "measured": 3, "samples": 2, "steps": 3, "masks": 3, "curve_steps": 2, "descent": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classifier": "mlp"}, "the classifier has no convolutions"),
        ({"classifier": "defualt"}, "did you mean 'default'"),
        ({"methods": ("grad_cm",)}, "did you mean 'grad_cam'"),
        ({"layer": "stage_4"}, "unknown layer with places 'stage_4'"),
        ({"measured": 0}, "at least 1, got 8 and 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        visualize.build(visualize.Config(**settings), SPEC)


def test_one_of_each_class_in_turn():
    split = in_memory({"label": np.array([2, 2, 0, 1, 0, 2])})
    assert one_of_each(split, 5).tolist() == [2, 3, 0, 4, 1]
    assert one_of_each(split, 9).tolist() == [2, 3, 0, 4, 1, 5]


@pytest.mark.slow
def test_stages_compute_and_draw_on_a_network_that_knows_nothing():
    rng = np.random.default_rng(0)
    rows = {"image": rng.integers(0, 256, (11, 16, 16, 1)).astype(np.uint8), "label": np.arange(11, dtype=np.int32) % 3}
    data = Data(SPEC, in_memory(rows), in_memory(rows), in_memory(rows))
    config = visualize.Config(**TINY)
    model = visualize.make_source(config, SPEC).model
    params, state = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    results = {"classifier": Result(params=jax.device_get(params), state=jax.device_get(state))}
    for stage in visualize.build(config, SPEC).stages.values():
        if stage.cells:
            found = {cell: stage.compute(jax.random.key(1), data, results, cell).arrays for cell in stage.cells}
            arrays = jax.tree.map(np.asarray, found)  # As they come back from files.
            panels = stage.panels(arrays)
        else:
            found = stage.compute(jax.random.key(1), data, results)
            arrays, panels = found.arrays, found.panels
        assert np.isfinite(list(stage.metrics(arrays).values())).all()
        drawn = [draw(one) for one in panels.values()]
        assert drawn and all(one.html if isinstance(one, Page) else one.axes for one in drawn)


def small_run(folder, data, **options):
    """A run of `classify` with a tiny network."""
    settings = ["model=cnn", "widths=4,6", "train.steps=2", "train.batch_size=8"]
    return session.train("classify", data=data, folder=folder, preset="smoke", settings=settings, **options)


@pytest.mark.slow
def test_the_classifier_of_another_run_or_its_export_is_looked_at(tmp_path):
    run = small_run(tmp_path / "source", "digits")
    export.write(run.run, tmp_path / "exported.safetensors")
    spec = run.run.spec
    for source in (tmp_path / "source", tmp_path / "exported.safetensors"):
        config = visualize.Config(source=str(source))
        made = visualize.make_source(config, spec)
        params, state = made.view({})
        x = jax.random.normal(jax.random.key(0), (3, *spec.shape))
        # Compiled and not, the same sums differ by rounding.
        expected = run.functions["predict"](run.params, run.state, x)
        np.testing.assert_allclose(made.model.apply(params, state, x)[0], expected, rtol=1e-4, atol=1e-6)
        system = visualize.build(config, spec)
        assert not system.needs and all(stage.uses == () for stage in system.stages.values())
    moved = spec._replace(mean=(0.1,), std=(2.0,))
    assert visualize.make_source(config, moved).spec.mean == spec.mean, "images are prepared as in training"
    with pytest.raises(ValueError, match=r"was trained on images \(8, 8, 1\) of 10 classes, squares has"):
        visualize.build(config, SPEC)


def test_a_source_that_is_no_classifier_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        visualize.build(visualize.Config(source=str(tmp_path / "nowhere")), SPEC)
