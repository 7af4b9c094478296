"""The metrics of the autoencoder experiment against their definitions (lecture 19, 21.3)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec, row_keys
from dlcore.nn import by_row, corruption
from experiments.autoencoder import PRESETS, Config, build, preset

SPEC = DataSpec("blots", (4, 4, 1), 17, 3, ("a", "b", "c"), (400, 5, 9), (0.5,), (0.3,))
IMAGES = np.random.default_rng(0).integers(0, 17, (9, 4, 4, 1)).astype(np.uint8)
KEY = jax.random.key(4)


def measured(config, parts):
    """Metrics of untrained networks, of rows that come in so many batches, each with a row too many."""
    system = build(config, SPEC)
    fit = system.stages["autoencoder"]
    params, state = fit.init(jax.random.key(0), {"image": jnp.zeros((1, 4, 4, 1))})
    sums = []
    for rows in np.array_split(np.arange(9, dtype=np.int32), parts):
        padded = np.append(rows, rows[:1])
        batch = {"image": jnp.asarray(IMAGES[padded]), "row": jnp.asarray(padded)}
        batch = fit.preprocess(batch, key=None, train=False)
        sums.append(fit.evaluate(params, state, {**batch, "where": jnp.arange(len(padded)) < len(rows)}, KEY))
    found = fit.summarize(jax.tree.map(lambda *x: sum(x), *sums))
    return found, lambda name, x: np.asarray(jax.jit(system.functions[name])(params, state, x)), (params, state)


@pytest.mark.slow
def test_a_denoiser_is_judged_by_noisy_images_against_clean_ones():
    config = Config(widths=(6,), latent=3, code="relu", corruption="gaussian", level=0.5)
    found, function, _ = measured(config, 1)
    clean = IMAGES / 16
    noisy = np.asarray(by_row(corruption("gaussian", 0.5), row_keys(KEY, jnp.arange(9)), jnp.asarray(clean)))
    assert found["mse_clean"] == pytest.approx(((function("reconstruct", IMAGES) - clean) ** 2).mean(), rel=1e-5)
    assert found["psnr_noisy"] == pytest.approx(-10 * np.log10(((noisy - clean) ** 2).mean()), rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * np.log10(found["mse"]), rel=1e-6)
    assert found["psnr_gain"] == pytest.approx(found["psnr"] - found["psnr_noisy"])
    codes = function("encode", IMAGES)
    assert found["dead_units"] == (codes == 0).all(0).sum()
    assert found["active_fraction"] == pytest.approx((codes > 0).mean(), rel=1e-6)
    in_parts = measured(config, 4)[0]
    assert in_parts == {name: pytest.approx(value, rel=1e-5) for name, value in found.items()}


@pytest.mark.slow
def test_outputs_of_the_cross_entropy_are_probabilities():
    found, function, _ = measured(Config(widths=(6,), latent=3, loss="bce"), 1)
    shown = function("reconstruct", IMAGES)
    assert shown.min() > 0 and shown.max() < 1
    assert found["mse"] == pytest.approx(((shown - IMAGES / 16) ** 2).mean(), rel=1e-5)
    assert "psnr_gain" not in found


def test_presets_are_what_they_are_called():
    made = {name: preset(name, SPEC) for name in PRESETS}
    assert made["denoising"].corruption == "gaussian" and made["denoising"].level == 0.5
    assert made["sparse"].kl > 0 and made["k_sparse"].keep and made["contractive"].contractive > 0
    assert made["linear"].widths == () and made["linear"].code == "linear" and made["conv"].model == "conv"
    params = measured(made["tied"], 1)[2][0]
    assert all(set(layer) == {"bias"} for layer in params["decoder"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cnn"}, "unknown model 'cnn'"),
        ({"kl": 1.0}, "kl=1.0 needs units between 0 and 1; set code=sigmoid instead of linear"),
        ({"keep": 40}, "keep=40 units of a code of latent=32; keep fewer"),
        ({"tied": True, "activation": "gated"}, "tied=true needs layers that have transposes"),
        ({"model": "conv", "tied": True}, "use model=mlp, and activation=relu"),
        ({"corruption": "noise"}, "unknown corruption 'noise'"),
        ({"loss": "l3"}, "did you mean 'l2'"),
        ({"l1": -1.0}, "l1 must not be negative"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(replace(Config(), **changes), SPEC)
