"""Methods by name are the functions themselves, and what is told of them is what the measures say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Activation, Conv, Dense, GlobalAvgPool, serial
from dlcore.visualize import METHODS, Question, Settings, attribution, compared, measures, probability
from dlcore.visualize import _cam as cam
from dlcore.visualize import _metrics as metrics
from dlcore.visualize import _occlusion as occlusion
from dlcore.visualize import _saliency as saliency

NET = serial(body=serial(Conv(3, 3, stride=2), Activation("silu")), pool=GlobalAvgPool(), head=Dense(3))
X = jax.random.normal(jax.random.key(0), (3, 6, 4, 2))
QUESTION = Question(NET, *NET.init(jax.random.key(1), X), X, jnp.array([1, 2, 0]))
SETTINGS = Settings("body", std=0.2, samples=3, steps=4, window=2, stride=2, masks=5, grid=2, block=8)
BASELINE, KEY = jnp.full((6, 4, 2), -0.5), jax.random.key(3)


@pytest.mark.slow
def test_names_are_the_functions_with_these_settings():
    expected = {
        "saliency": np.abs(saliency.gradient(*QUESTION)).max(-1),
        "integrated_gradients": saliency.integrated_gradients(*QUESTION, baseline=BASELINE, steps=4).sum(-1),
        "occlusion": occlusion.occlusion(*QUESTION, window=2, stride=2, fill=BASELINE),
        "rise": occlusion.rise(*QUESTION, key=KEY, masks=5, grid=2, fill=BASELINE),
        "grad_cam": jax.image.resize(cam.grad_cam(*QUESTION, "body"), (3, 6, 4), "linear"),
    }
    for name, maps in expected.items():
        found = attribution(name, QUESTION, SETTINGS, baseline=BASELINE, key=KEY)
        np.testing.assert_allclose(found, maps, rtol=1e-5, atol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="did you mean 'grad_cam'"):
        attribution("gradcam", QUESTION, SETTINGS, baseline=BASELINE, key=KEY)


@pytest.mark.slow
def test_every_method_gives_a_number_per_pixel_and_a_row_is_that_image_alone():
    for name in METHODS:
        found = attribution(name, QUESTION, SETTINGS, baseline=BASELINE, key=KEY)
        first = QUESTION._replace(x=X[:1], target=QUESTION.target[:1])
        alone = attribution(name, first, SETTINGS, baseline=BASELINE, key=KEY)
        assert found.shape == (3, 6, 4) and np.isfinite(found).all(), name
        np.testing.assert_allclose(found[:1], alone, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_comparison_is_made_of_the_measures():
    options = {"baseline": BASELINE, "groups": ("head", "body"), "curve_steps": 3, "key": KEY}
    shown = QUESTION._replace(x=X[:2], target=QUESTION.target[:2])
    found = compared("integrated_gradients", shown, QUESTION, SETTINGS, **options)
    whole = saliency.integrated_gradients(*QUESTION, baseline=BASELINE, steps=4)
    np.testing.assert_allclose(found["maps"], whole[:2].sum(-1), rtol=1e-4, atol=1e-6)
    curve = metrics.deletion(*QUESTION, whole.sum(-1), steps=3, fill=BASELINE, score=probability).mean(0)
    np.testing.assert_allclose(found["deletion"], curve, rtol=1e-5)
    assert found["kept"].shape == (2,) and np.abs(found["kept"]).max() <= 1
    told = measures({"integrated_gradients": found})
    error = np.median(metrics.completeness_error(*QUESTION, whole, baseline=BASELINE))
    np.testing.assert_allclose(told["completeness_error"], error, rtol=0.1, atol=1e-5)
    np.testing.assert_allclose(told["deletion_integrated_gradients"], np.trapezoid(curve, dx=1 / 3), rtol=1e-5)
    assert told["randomized_integrated_gradients"] == pytest.approx(found["kept"][-1])
