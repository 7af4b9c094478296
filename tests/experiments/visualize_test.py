"""The experiment of looking inside: what it looks at, what it refuses, and that its stages fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import Data, DataSpec, in_memory
from dlcore.report.panel import draw
from dlcore.train import Result, one_of_each
from experiments import visualize

SPEC = DataSpec("squares", (16, 16, 1), 256, 3, ("a", "b", "c"), (8, 0, 11), (0.5,), (0.3,))
TINY = {"images": 2, "measured": 3, "samples": 2, "steps": 3, "masks": 3, "curve_steps": 2, "descent": 2}


def test_the_layers_are_those_of_the_classifier():
    network = visualize.make_network(visualize.Config(), SPEC)
    assert network.stages == ("stage_1", "stage_2", "stage_3") and network.layer == "stage_3"
    assert network.patch_layer == "stage_2" and network.kernel == "stage_1/conv_0/kernel"
    assert network.groups == ("head", "stage_3", "stage_2", "stage_1")
    chosen = visualize.make_network(visualize.Config(layer="stage_1/conv_0"), SPEC)
    assert chosen.layer == "stage_1/conv_0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classifier": "mlp"}, "classifier=mlp has no convolutions"),
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
    model = visualize.make_network(config, SPEC).model
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
        assert len(panels) > 1 and all(draw(one).axes for one in panels.values())
