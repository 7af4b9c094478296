"""Settings of all rooms: numbers of every make are taken, and what is none is refused where things are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typecheck

from dlcore import networks, nn, optim, retrieval, stats, visualize
from dlcore.evaluation import confusion_matrix, top_k_correct
from dlcore.generative import decoder, flow, gan, vae
from dlcore.generative.diffusion import schedule as noise
from dlcore.generative.diffusion.process import diffuse
from dlcore.generative.diffusion.weighting import p2
from dlcore.generative.vae import categorical, prior
from dlcore.losses import huber, sigmoid_focal, softmax_cross_entropy, softmax_focal
from dlcore.optim import clip_by_global_norm, clip_by_value, muon, schedules, solve_ridge, transforms
from dlcore.setting import number
from dlcore.train import ema_update, gradient_update, repeated, reported
from dlcore.types import Model

COUNTS = (2.5, 2.0, True, np.bool_(True), -1, 0, "3", None, np.float32(2), [], np.nan)
"""What counts nothing."""
NUMBERS = ("0.1", None, [0.1, 0.2], np.ones(2), np.nan, np.inf, 1j, True, np.bool_(False), np.array("a"))
"""What is no number, or no finite one."""
BELOW = (*NUMBERS, -0.5)
BEYOND = (*BELOW, 1.5)
LOGITS, LABELS = jnp.eye(2), jnp.array([0, 1])
CODES = jnp.zeros((3, 1), jnp.uint32)
EMA, KEY, IMAGE = ema_update(0.5), jax.random.key(0), jnp.ones((1, 2, 2, 1))
LINE = Model(lambda key, x: ({}, {}), lambda params, state, x, **_: (x, state))
ASKED = (LINE, {}, {}, IMAGE, LABELS[:1])
CODES_OF = vae.VAE(LINE, LINE, decoder.gaussian(1.0))


def minimized(steps):
    return optim.minimize(optim.genetic(1.0), jnp.sum, jnp.ones(2), steps=steps, key=KEY)


def maximized(**settings):
    return visualize.maximize(*ASKED[:3], LABELS[:1], picture=visualize.Picture((2, 2, 1)), key=KEY, **settings)


def restarted(**settings):
    return optim.minimize_with_restarts(jnp.sum, jnp.ones(2), **{"sigma": 0.1, "key": KEY, **settings})


MAKERS = {
    "Dense: features": (COUNTS, lambda v: nn.Dense(v)),
    "Conv: window": (COUNTS, lambda v: nn.Conv(4, v)),
    "Conv: stride": (COUNTS, lambda v: nn.Conv(4, 3, stride=v)),
    "Conv: dilation": (COUNTS, lambda v: nn.Conv(4, 3, dilation=(1, v))),
    "Conv: groups": (COUNTS, lambda v: nn.Conv(4, 3, groups=v)),
    "Conv: padding": ((1.0, True, -1, "full", None, (1, 2.0)), lambda v: nn.Conv(4, 3, padding=v)),
    "ConvTranspose: stride": (COUNTS, lambda v: nn.ConvTranspose(4, 3, stride=v)),
    "ConvTranspose: padding": ((1.0, True, -1, "full", None), lambda v: nn.ConvTranspose(4, 3, padding=v)),
    "BlockConv: padding": ((1.0, True, -1, "full", None), lambda v: nn.BlockConv(4, 2, stride=2, padding=v)),
    "Conv: stride of ConvNorm": (COUNTS, lambda v: nn.ConvNorm(4, 3, stride=v)),
    "MaxPool: window": (COUNTS, lambda v: nn.MaxPool(v)),
    "MaxPool: stride": ((2.0, True, 0, "2"), lambda v: nn.MaxPool(2, stride=v)),
    "AvgPool: padding": ((1.0, True, -1, "full", None), lambda v: nn.AvgPool(2, padding=v)),
    "MaxPoolCeil: stride": (COUNTS, lambda v: nn.MaxPoolCeil(2, v)),
    "AdaptiveAvgPool: size": (COUNTS, lambda v: nn.AdaptiveAvgPool(v)),
    "AdaptiveMaxPool: size": (COUNTS, lambda v: nn.AdaptiveMaxPool(v)),
    "BatchNorm: momentum": (BEYOND, lambda v: nn.BatchNorm(momentum=v)),
    "BatchNorm: epsilon": (BELOW, lambda v: nn.BatchNorm(epsilon=v)),
    "LayerNorm: epsilon": (BELOW, lambda v: nn.LayerNorm(epsilon=v)),
    "GroupNorm: epsilon": (BELOW, lambda v: nn.GroupNorm(2, epsilon=v)),
    "InstanceNorm: epsilon": (BELOW, lambda v: nn.InstanceNorm(epsilon=v)),
    "dropout rate": (BEYOND, lambda v: nn.Dropout(v)),
    "Dropout: broadcast_axes": ((1, 1.0, "12", None), lambda v: nn.Dropout(0.5, broadcast_axes=v)),
    "dropout rate of StochasticDepth": (BEYOND, lambda v: nn.StochasticDepth(v)),
    "dropout rate of linear_rates": (BEYOND, lambda v: nn.linear_rates(v, 3)),
    "linear_rates: count": ((2.0, None, -1), lambda v: nn.linear_rates(0.1, v)),
    "noise: std": (BELOW, lambda v: nn.Noise(v)),
    "noise: std of weights": (BELOW, lambda v: nn.weight_noise(nn.Dense(3), v)),
    "mask: rate": (BEYOND, lambda v: nn.mask(KEY, IMAGE, v)),
    "corruption gaussian: the level": (BELOW, lambda v: nn.corruption("gaussian", v)),
    "LayerScale: start": (NUMBERS, lambda v: nn.LayerScale(v)),
    "SpatialAttention: heads": (COUNTS, lambda v: nn.SpatialAttention(4, v)),
    "SpectralNorm: iterations": (COUNTS, lambda v: nn.SpectralNorm(nn.Dense(3), iterations=v)),
    "scan: length": (COUNTS, lambda v: nn.scan(nn.Dense(4), v)),
    "concat: axis": ((1.5, "a", None, True), lambda v: nn.concat(nn.Dense(3), axis=v)),
    "Reshape: shape": ((2.5, None, "a", (2.0,), (-1,)), lambda v: nn.Reshape(v)),
    "upsample: factor": (COUNTS, lambda v: nn.upsample(IMAGE, v)),
    "padded: factor": (COUNTS, lambda v: nn.padded(nn.Dense(3), v)),
    "cropped: height": (COUNTS, lambda v: nn.cropped(nn.Dense(3), v, 3)),
    "normal: std": (BELOW, lambda v: nn.init.normal(v)),
    "uniform: scale": (BELOW, lambda v: nn.init.uniform(v)),
    "constant: value": (NUMBERS, lambda v: nn.init.constant(v)),
    "orthogonal: gain": (NUMBERS, lambda v: nn.init.orthogonal(v)),
    "linear: steps": (COUNTS, lambda v: noise.linear(v)),
    "cosine: steps": (COUNTS, lambda v: noise.cosine(v)),
    "cosine: offset": (BELOW, lambda v: noise.cosine(5, v)),
    "sigmoid: sharpness": (BELOW, lambda v: noise.sigmoid(5, v)),
    "respace: steps": ((*COUNTS, 6), lambda v: noise.respace(noise.linear(5), v)),
    "respace: power": (BELOW, lambda v: noise.respace(noise.linear(5), 5, v)),
    "p2: k": (BELOW, lambda v: p2(noise.linear(5), k=v)),
    "t must": ((1.0, "a", None, np.ones(1), np.array([True])), lambda v: diffuse(noise.linear(5), IMAGE, v, IMAGE)),
    "t must be told": ((1.0, "a", None, np.ones(1)), lambda v: noise.told(noise.linear(5), v)),
    "constant: rate": (BELOW, lambda v: schedules.constant(v)),
    "linear: rate": (BELOW, lambda v: schedules.linear(v, 10)),
    "linear: steps of a rate": (BELOW, lambda v: schedules.linear(0.1, v)),
    "cosine: floor": (BELOW, lambda v: schedules.cosine(0.1, 10, v)),
    "step_decay: factor": (BELOW, lambda v: schedules.step_decay(0.1, 10, v)),
    "one_cycle: rise": (BEYOND, lambda v: schedules.one_cycle(0.1, 10, rise=v)),
    "sgd: rate": (BELOW, lambda v: transforms.sgd(v)),
    "momentum: alpha": (BEYOND, lambda v: transforms.momentum(0.1, v)),
    "adam: b1": (BEYOND, lambda v: transforms.adam(0.1, v)),
    "adam: delta": (BELOW, lambda v: transforms.adam(0.1, delta=v)),
    "adamw: weight_decay": (BELOW, lambda v: transforms.adamw(0.1, weight_decay=v)),
    "muon: momentum": (BEYOND, lambda v: muon(0.1, v)),
    "muon: epsilon": (BELOW, lambda v: muon(0.1, epsilon=v)),
    "rmsprop: decay": (BEYOND, lambda v: transforms.rmsprop(0.1, v)),
    "clip_by_value: the threshold": ((0.0, -1.0, None, "1", [1.0]), lambda v: clip_by_value(v)),
    "clip_by_global_norm: the threshold": ((0.0, np.nan, True), lambda v: clip_by_global_norm(v)),
    "backtracking: shrink": (BEYOND, lambda v: optim.backtracking(shrink=v)),
    "backtracking: most": (COUNTS, lambda v: optim.backtracking(most=v)),
    "strong_wolfe: c1": (BEYOND, lambda v: optim.strong_wolfe(c1=v)),
    "strong_wolfe: most": (COUNTS, lambda v: optim.strong_wolfe(most=v)),
    "cma: sigma": (BELOW, lambda v: optim.cma(v)),
    "cma: population": ((2.0, True, -1, 3, "8", None), lambda v: optim.cma(0.1, population=v)),
    "genetic: scale": (BELOW, lambda v: optim.genetic(v)),
    "genetic: population": (COUNTS, lambda v: optim.genetic(1.0, population=v)),
    "genetic: rivals": (COUNTS, lambda v: optim.genetic(1.0, rivals=v)),
    "grid: counts": (COUNTS, lambda v: optim.grid([0.0], [1.0], [v])),
    "random_search: block": (COUNTS, lambda v: optim.random_search([0.0], [1.0], block=v)),
    "random_search: an end of the box": (NUMBERS, lambda v: optim.random_search([0.0], [v])),
    "stochastic_descent: decay": (BEYOND, lambda v: optim.stochastic_descent(transforms.sgd(0.1), decay=v)),
    "proximal: alpha": (BELOW, lambda v: optim.proximal(transforms.sgd(0.1), 0.1, v, bool)),
    "magnitude_masks: sparsity": (BEYOND, lambda v: optim.magnitude_masks({"w": IMAGE}, v, bool)),
    "layer_decay: decay": (BELOW, lambda v: optim.layer_decay(transforms.sgd(0.1), ("**",), v)),
    "lanczos: steps": (COUNTS, lambda v: optim.lanczos(lambda x: x, IMAGE, steps=v, key=KEY)),
    "minimize: steps": ((2.0, True, -1, "1", None), lambda v: minimized(v)),
    "U-Net: outputs": (COUNTS, lambda v: networks.UNet(v, (8,))),
    "U-Net: blocks": (COUNTS, lambda v: networks.TimeUNet(2, (8,), blocks=v)),
    "U-Net: patch": (COUNTS, lambda v: networks.UNet(2, (8,), patch=v)),
    "sinusoidal: features": ((*COUNTS, 2), lambda v: networks.sinusoidal(LABELS, v)),
    "MADE: size": (COUNTS, lambda v: networks.MADE(v, (4,), 8)),
    "MADE: a width": (COUNTS, lambda v: networks.MADE(4, (v,), 8)),
    "MADE: outputs": (COUNTS, lambda v: networks.MADE(4, (4,), v)),
    "DCGenerator: a width": (COUNTS, lambda v: networks.DCGenerator((8, 8, 1), (v, 8))),
    "DCGenerator: a size": (COUNTS, lambda v: networks.DCGenerator((8, v, 1), (8,))),
    "PixelCNN: features": (COUNTS, lambda v: networks.PixelCNN(4, features=v)),
    "GatedPixelCNN: features": (COUNTS, lambda v: networks.GatedPixelCNN(4, features=v)),
    "GatedPixelCNN: a window": (COUNTS, lambda v: networks.GatedPixelCNN(4, windows=(3, v))),
    "GatedPixelCNN: colours": (COUNTS, lambda v: networks.GatedPixelCNN(4, colours=v)),
    "ConvConditioner: blocks": ((2.0, True, -1, "1", None), lambda v: networks.ConvConditioner(4, 2, blocks=v)),
    "Whitening: window": (COUNTS, lambda v: networks.Whitening(v)),
    "Whitening: epsilon": (BELOW, lambda v: networks.Whitening(3, v)),
    "search: k": (COUNTS, lambda v: retrieval.search(CODES, CODES, v)),
    "search: block": (COUNTS, lambda v: retrieval.search(CODES, CODES, 1, block=v)),
    "label_smoothing": (BEYOND, lambda v: softmax_cross_entropy(LOGITS, LABELS, label_smoothing=v)),
    "huber: delta": (BELOW[:5], lambda v: huber(LOGITS, LOGITS, v)),
    "softmax_focal: gamma": (BELOW, lambda v: softmax_focal(LOGITS, LABELS, gamma=v)),
    "top_k_correct: k": ((1.0, True, "1", None, 0, 3), lambda v: top_k_correct(LOGITS, LABELS, v)),
    "confusion_matrix: classes": (COUNTS, lambda v: confusion_matrix(LABELS, LABELS, v)),
    "solve_ridge: alpha": (BELOW, lambda v: solve_ridge(LOGITS, LOGITS[0], v)),
    "Squeeze: factor": (COUNTS, lambda v: flow.Squeeze(v)),
    "ActNorm: epsilon": (BELOW, lambda v: flow.ActNorm(epsilon=v)),
    "Affine: scale": (NUMBERS[:4], lambda v: flow.Affine(v, 0.0)),
    "rational_quadratic: bins": ((*COUNTS, 1), lambda v: flow.rational_quadratic(v)),
    "categorical: levels": ((*COUNTS, 1), lambda v: decoder.categorical(v)),
    "discretized_logistic: components": (COUNTS, lambda v: decoder.discretized_logistic(8, v)),
    "microbatches": (COUNTS, lambda v: gradient_update(None, transforms.sgd(0.1), microbatches=v)),
    "repeated: times": (COUNTS, lambda v: repeated(EMA, v)),
    "decay": (BEYOND, lambda v: ema_update(v)),
    "smooth_grad: samples": (COUNTS, lambda v: visualize.smooth_grad(*ASKED, key=KEY, std=0.1, samples=v)),
    "smooth_grad: std": (BELOW, lambda v: visualize.smooth_grad(*ASKED, key=KEY, std=v)),
    "block of smooth_grad": (COUNTS, lambda v: visualize.smooth_grad(*ASKED, key=KEY, std=0.1, block=v)),
    "integrated_gradients: steps": (COUNTS, lambda v: visualize.integrated_gradients(*ASKED, steps=v)),
    "occlusion: window": (COUNTS, lambda v: visualize.occlusion(*ASKED, window=v)),
    "occlusion: stride": (COUNTS, lambda v: visualize.occlusion(*ASKED, window=2, stride=v)),
    "rise: masks": (COUNTS, lambda v: visualize.rise(*ASKED, key=KEY, masks=v)),
    "rise: grid": (COUNTS, lambda v: visualize.rise(*ASKED, key=KEY, grid=v)),
    "rise: fraction": (BEYOND, lambda v: visualize.rise(*ASKED, key=KEY, fraction=v)),
    "infidelity: samples": (
        COUNTS,
        lambda v: visualize.infidelity(*ASKED, IMAGE, key=KEY, std=0.1, samples=v),
    ),
    "deletion: steps": (COUNTS, lambda v: visualize.deletion(*ASKED, IMAGE[..., 0], steps=v)),
    "insertion: steps": (COUNTS, lambda v: visualize.insertion(*ASKED, IMAGE[..., 0], steps=v)),
    "Picture: a side of the shape": ((0, -1), lambda v: visualize.Picture((2, v, 1))),
    "Picture: std": ((-0.5, np.nan, np.inf), lambda v: visualize.Picture((2, 2, 1), std=v)),
    "steps of maximize": (COUNTS, lambda v: maximized(steps=v)),
    "jitter": ((2.0, True, -1, "1", None, 2), lambda v: maximized(jitter=v)),
    "learning_rate": (BELOW, lambda v: maximized(learning_rate=v)),
    "variation": (BELOW, lambda v: maximized(variation=v)),
    "top_patches: count": ((*COUNTS, 2), lambda v: visualize.top_patches(LINE, {}, {}, [], "", count=v)),
    "strongest: count": (COUNTS, lambda v: visualize.strongest(IMAGE[0], v)),
    "negative_elbo: samples": (COUNTS, lambda v: vae.negative_elbo(CODES_OF, samples=v)),
    "negative_elbo: warmup_steps": (
        (2.0, True, -1, "1", None),
        lambda v: vae.negative_elbo(CODES_OF, warmup_steps=v),
    ),
    "negative_iwae: samples": (COUNTS, lambda v: vae.negative_iwae(CODES_OF, samples=v)),
    "log_likelihood: samples": (
        COUNTS,
        lambda v: vae.log_likelihood(CODES_OF, {}, {}, IMAGE, KEY[None], samples=v, chunk=1),
    ),
    "log_likelihood: chunk": (
        COUNTS,
        lambda v: vae.log_likelihood(CODES_OF, {}, {}, IMAGE, KEY[None], samples=4, chunk=v),
    ),
    "categorical: categories": ((*COUNTS, 1), lambda v: categorical.categorical(v)),
    "uniform: categories": ((*COUNTS, 1), lambda v: prior.uniform(v)),
    "vamp: components": (COUNTS, lambda v: prior.vamp(v)),
    "annealed: steps": ((2.0, True, -1, "1", None), lambda v: categorical.annealed(1.0, 0.5, v)),
    "sample: num": (COUNTS, lambda v: gan.sample(KEY, gan.GAN(LINE, LINE, 3), {}, {}, v)),
    "RealNVP: steps": (COUNTS, lambda v: flow.RealNVP((2,), None, steps=v)),
    "scales of RealNVP": (COUNTS, lambda v: flow.RealNVP((4, 4, 1), None, scales=v)),
    "Glow: steps": (COUNTS, lambda v: flow.Glow((2,), None, steps=v)),
    "MAF: steps": (COUNTS, lambda v: flow.MAF(2, None, steps=v)),
    "InvertibleConvPLU: channels": (COUNTS, lambda v: flow.InvertibleConvPLU(v)),
    "minimize_with_restarts: restarts": ((2.0, True, -1, "1", None), lambda v: restarted(restarts=v)),
    "minimize_with_restarts: evaluations": (COUNTS, lambda v: restarted(evaluations=v)),
    "minimize_with_restarts: population": ((2.0, True, -1, "1", None), lambda v: restarted(population=v)),
    "minimize_with_restarts: sigma": (BELOW, lambda v: restarted(sigma=v)),
    "reported: decay": (BEYOND, lambda v: reported(EMA, "loss", decay=v)),
}


@pytest.mark.parametrize("setting", MAKERS)
def test_what_is_no_setting_is_refused_where_it_is_set(setting):
    wrong, make = MAKERS[setting]
    for value in wrong:
        with typecheck.unchecked(), pytest.raises(ValueError, match="must") as refused:
            make(value)
        assert str(refused.value).startswith(setting.split(" of ")[0].removesuffix(" be told")), (value, refused.value)


def test_numbers_of_every_make_are_taken():
    for one in (1, 1.0, np.int64(1), np.float32(1), np.array(1.0), jnp.ones(()), jnp.ones((), jnp.bfloat16)):
        assert number(one, "n", "[0, 1]") is one and number(one, "n", "[1, 2)") is one
        for beside in ("(1, ∞)", "[0, 1)", "(-∞, 0]"):
            with pytest.raises(ValueError, match="n must lie in"):
                number(one, "n", beside)
    assert jax.jit(lambda x: number(x, "n", "[0, 1]"))(7.0) == 7
    with pytest.raises(ValueError, match="single number"):
        jax.eval_shape(lambda x: number(x, "n"), jnp.ones(2))


NUMBER, TIMES = jnp.ones(()) / 2, jnp.array([1, 2])
LOOKED_AT = {
    "attribution": lambda x: visualize.saliency(LINE, {}, {}, x, LABELS),
    "times": lambda x: diffuse(noise.linear(5), x, TIMES, x),
    "focal loss": lambda x: sigmoid_focal(x, x, alpha=NUMBER),
    "consistency": lambda x: stats.consistency(KEY, jax.random.normal, jnp.mean, 0.0, (2,), NUMBER, 3),
    "table": lambda x: (
        stats.table.condition(stats.table.make_table(jnp.eye(2) / 2, ("a", "b")), a=TIMES[0]).probabilities
    ),
    "density": lambda x: stats.density.condition(FLAT, a=NUMBER).values,
    "search": lambda x: retrieval.search(CODES + 1, CODES, 1),
}
FLAT = stats.density.make_density(jnp.ones(3), (jnp.linspace(0, 1, 3),), ("a",))


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_is_known_can_be_looked_at_while_something_else_is_traced(name):
    inside, outside = (function(jnp.eye(2)) for function in (jax.jit(LOOKED_AT[name]), LOOKED_AT[name]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), inside, outside)


def test_times_of_every_make_are_the_same():
    expected = diffuse(noise.linear(5), jnp.ones((2, 3)), jnp.array([1, 2]), jnp.zeros((2, 3)))
    with typecheck.unchecked():
        for t in ([1, 2], np.array([1, 2]), np.array([1, 2], np.uint8)):
            found = diffuse(noise.linear(5), jnp.ones((2, 3)), t, jnp.zeros((2, 3)))
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(noise.told(noise.linear(5), 3), 3)
