"""Shapes that would broadcast, times outside the schedule and settings out of range are refused, also inside jit.

The type checker of the tests sees most of these shapes first: here it is off, as for users.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import _likelihood as likelihood
from dlcore.evaluation import _sample_quality as sample_quality
from dlcore.evaluation import collapse
from dlcore.generative import autoregressive, decoder, gan, vae
from dlcore.generative.diffusion import bound, objective, process, samplers, schedule
from dlcore.generative.flow import (
    ActNorm,
    Affine,
    AffineCoupling,
    Flatten,
    InvertibleConv,
    InvertibleConvPLU,
    Logit,
    Permutation,
    Squeeze,
    actnorm,
    affine_coupling,
    affine_coupling_inverse,
    bounded,
    chain,
    density,
    dequantize,
    split,
)
from dlcore.networks import MLP, GatedPixelCNN, MLPConditioner
from dlcore.nn import Dense
from dlcore.types import Bijector, Model

ROWS = 4
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("as_users")


def z(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def b(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


SHORT = schedule.respace(schedule.linear(100), 5)
REVERSE = bound.Reverse(SHORT, "eps", "beta")
FAMILIES = {
    "bernoulli": decoder.bernoulli(),
    "gaussian": decoder.gaussian(0.3),
    "gaussian_learned": decoder.gaussian_learned(),
    "categorical": decoder.categorical(3),
    "logistic": decoder.discretized_logistic(3, 2),
}
PAIRS = [
    (shape, other)
    for shape, other in itertools.permutations([(4, 3), (4, 1), (1, 3), (3,), (4,), (4, 3, 1), (4, 4, 3), (1, 1)], 2)
]


@pytest.mark.sampled
@pytest.mark.parametrize(("shape", "other"), PAIRS, ids=str)
def test_two_arrays_that_belong_together_must_have_one_shape(shape, other):
    """Every function of two arrays of one shape, over pairs of shapes most of which would broadcast."""
    t = i(shape[0])
    functions = {
        "coupling scale": lambda x, y: affine_coupling(x, y, x),
        "coupling shift": lambda x, y: affine_coupling(x, x, y),
        "inverse scale": lambda x, y: affine_coupling_inverse(x, y, x),
        "inverse shift": lambda x, y: affine_coupling_inverse(x, x, y),
        "interpolate": lambda x, y: gan.interpolate(KEY, x, y),
        "guided": lambda x, y: objective.guided(x, y, 2.0),
        "reparameterize": lambda x, y: vae.reparameterize(KEY, x, y),
        "grey nll": lambda x, y: bound.discretized_gaussian_nll(x, y, jnp.float32(0.1), 5),
        "nats": lambda x, y: likelihood.Nats.of(x, y > 0),
        "dequantize": lambda x, y: dequantize(x.astype(jnp.int32), y, 4),
    }
    timed = {
        "diffuse": lambda x, y, t: process.diffuse(SHORT, x, t, y),
        "target": lambda x, y, t: process.target(SHORT, "v", x, t, y),
        "denoise": lambda x, y, t: process.denoise(SHORT, "v", x, t, y),
        "posterior": lambda x, y, t: process.q_posterior(SHORT, x, y, t),
        "error": lambda x, y, t: objective.error(SHORT, "x0", x, y, t, y),
    }
    for name, function in functions.items():
        with pytest.raises(ValueError, match=r"shape") as error:
            jax.eval_shape(function, z(*shape), z(*other))
        assert str(shape) in str(error.value) and str(other) in str(error.value), name
    for name, function in timed.items():
        with pytest.raises(ValueError, match=r"shape") as error:
            jax.eval_shape(function, z(*shape), z(*other), t)
        assert str(shape) in str(error.value), name


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((4, 2, 2, 3), s) for s in [(4, 2, 2, 1), (1, 2, 2, 3), (4, 2, 3), (2, 2, 3), (4, 1, 2, 3), (4, 4, 2, 2, 3)]]
    + [((4, 3), (3,)), ((4,), (1,)), ((4, 1), (1, 1)), ((1, 3), (4, 3))],
    ids=str,
)
def test_outputs_of_a_decoder_must_fit_its_images(name, shape, outputs):
    family = FAMILIES[name]
    given = (*outputs[:-1], outputs[-1] * family.channels)
    with pytest.raises(ValueError, match=name.split("_")[0]) as error:
        jax.eval_shape(family.nll, z(*given), z(*shape))
    assert str(given) in str(error.value) and str(shape) in str(error.value)
    fitting = (*shape[:-1], shape[-1] * family.channels)
    assert jax.eval_shape(family.nll, z(*fitting), z(*shape)).shape == shape


def system():
    return vae.VAE(MLP((4,), 4), MLP((4,), 6), decoder.bernoulli())


def bad_log_det(shape):
    return Bijector(lambda key, x: {}, lambda p, x: (x, jnp.zeros(shape)), lambda p, x: (x, jnp.zeros(shape)))


def of_vae(function):
    def run(*args, **options):
        params, state = vae.init(KEY, system(), jnp.zeros((ROWS, 6)))
        return function(system(), params, state, *args, **options)

    return run


def adversaries(outputs=1, conditional=False):
    networks = (MLP((4,), 2), MLP((4,), outputs))
    if conditional:
        networks = tuple(
            Model(lambda key, x, y, m=m: m.init(key, x), lambda p, s, x, y, m=m, **o: m.apply(p, s, x, **o))
            for m in networks
        )
    return gan.GAN(*networks, latent=3, conditional=conditional)


def trained(objective, system, batch):
    params, state = gan.init(KEY, system, jnp.zeros((ROWS, 2)), jnp.zeros(ROWS, jnp.int32))
    return objective(params, state, batch, key=KEY, train=True)


def pixels(*label, classes=0, **given):
    network = GatedPixelCNN(2, features=4, windows=(3,), classes=classes)
    shape = (ROWS, 2, 2, 1)
    right = (jnp.zeros(ROWS, jnp.int32),) if classes else ()
    params, _ = network.model.init(KEY, jnp.zeros(shape), *right)
    return autoregressive.sample(KEY, network, decoder.categorical(2), params, shape, *label, **given)


def labelled(*label, classes=3):
    network = GatedPixelCNN(2, features=4, windows=(3,), classes=classes)
    shape = (ROWS, 2, 2, 1)
    params, state = network.model.init(KEY, jnp.zeros(shape), jnp.zeros(ROWS, jnp.int32))
    return autoregressive.nll(network.model, decoder.categorical(2), params, state, jnp.zeros(shape), *label)


def started(bijector, start, x, direction="forward"):
    params = bijector.init(KEY, jnp.zeros(start))
    return getattr(bijector, direction)(params, x)


SHAPES = {
    "actnorm bias": lambda: actnorm(jnp.ones((4, 3)), jnp.ones(1), jnp.ones(3)),
    "actnorm log_scale": lambda: actnorm(jnp.ones((4, 3)), jnp.ones(3), jnp.ones(1)),
    "actnorm rows": lambda: actnorm(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.ones((4, 3))),
    "actnorm of one channel": lambda: started(ActNorm(), (4, 1), jnp.ones((4, 3))),
    "actnorm inverse": lambda: started(ActNorm(), (4, 1), jnp.ones((4, 3)), "inverse"),
    "conv": lambda: started(InvertibleConv(), (4, 3), jnp.ones((4, 2))),
    "conv inverse": lambda: started(InvertibleConv(), (4, 3), jnp.ones((4, 2)), "inverse"),
    "plu": lambda: started(InvertibleConvPLU(4), (1, 4), jnp.ones((4, 2, 2))),
    "plu inverse": lambda: started(InvertibleConvPLU(4), (1, 4), jnp.ones((2, 2, 2)), "inverse"),
    "permutation of more": lambda: started(Permutation([1, 0]), (4, 2), jnp.ones((4, 3))),
    "permutation of fewer": lambda: started(Permutation([2, 1, 0]), (4, 3), jnp.ones((4, 2))),
    "permutation inverse": lambda: started(Permutation([1, 0]), (4, 2), jnp.ones((4, 3)), "inverse"),
    "flatten inverse": lambda: started(Flatten((2, 2)), (4, 2, 2), jnp.ones((8, 2)), "inverse"),
    "split inverse long": lambda: started(split(ActNorm(), (4,)), (4, 4), jnp.ones((4, 6)), "inverse"),
    "split inverse short": lambda: started(split(ActNorm(), (4,)), (4, 4), jnp.ones((4, 2)), "inverse"),
    "squeeze odd": lambda: Squeeze().forward({}, jnp.ones((1, 3, 2, 1))),
    "checkerboard of points": lambda: started(
        AffineCoupling(MLPConditioner((3,), 8), mask="checkerboard"), (4, 4), jnp.ones((4, 4))
    ),
    "chain log-det column": lambda: chain(part=bad_log_det((4, 1))).forward({}, jnp.ones((4, 2))),
    "chain log-det scalar": lambda: chain(part=bad_log_det(())).inverse({}, jnp.ones((4, 2))),
    "density log-det": lambda: density.log_prob(bad_log_det((4, 1)), {}, jnp.ones((4, 2))),
    "flow objective": lambda: density.negative_log_likelihood(bad_log_det((1,)))(
        {}, {}, {"image": jnp.ones((4, 2))}, key=KEY, train=True
    ),
    "elbo noise shared by images": lambda: of_vae(vae.elbo_terms)(jnp.zeros((4, 6)), jnp.zeros((2, 1, 2))),
    "elbo noise shared by dims": lambda: of_vae(vae.elbo_terms)(jnp.zeros((4, 6)), jnp.zeros((2, 4, 1))),
    "weights noise without k": lambda: of_vae(vae.log_weights)(jnp.zeros((4, 6)), jnp.zeros((4, 2))),
    "one code for many images": lambda: of_vae(vae.reconstruction_nll)(jnp.zeros((4, 6)), jnp.zeros((3, 1, 2))),
    "one key for many images": lambda: of_vae(vae.log_likelihood)(jnp.zeros((4, 6)), KEY[None], samples=2, chunk=1),
    "iwae without weights": lambda: vae.iwae_bound(jnp.zeros((0, 3))),
    "iwae scalar": lambda: vae.iwae_bound(jnp.zeros(())),
    "activity mask": lambda: vae.activity(jnp.ones((4, 2)), jnp.ones((4, 1), bool)),
    "critic of two logits": lambda: gan.gradient_penalty(lambda x: x, jnp.ones((4, 2))),
    "critic r1": lambda: gan.r1_penalty(lambda x: x[:1].sum(-1), jnp.ones((4, 2))),
    "discriminator of two logits": lambda: trained(
        gan.discriminator_objective(adversaries(2), gan.hinge()), adversaries(2), {"image": jnp.ones((ROWS, 2))}
    ),
    "fakes of another shape": lambda: trained(
        gan.discriminator_objective(adversaries(), gan.hinge()),
        adversaries(),
        {"image": jnp.ones((ROWS, 3))},
    ),
    "labels of the discriminator": lambda: trained(
        gan.discriminator_objective(adversaries(1, True), gan.hinge()),
        adversaries(1, True),
        {"image": jnp.ones((ROWS, 2)), "label": jnp.zeros((ROWS, 1), jnp.int32)},
    ),
    "labels of the generator": lambda: trained(
        gan.generator_objective(adversaries(1, True), gan.hinge()),
        adversaries(1, True),
        {"image": jnp.ones((ROWS, 2)), "label": jnp.zeros(1, jnp.int32)},
    ),
    "completion of one image for all": lambda: pixels(known=jnp.zeros((1, 2, 2, 1)), where=jnp.ones((2, 2), bool)),
    "completion mask": lambda: pixels(known=jnp.zeros((ROWS, 2, 2, 1)), where=jnp.ones((2, 1), bool)),
    "one label for all draws": lambda: pixels(jnp.zeros(1, jnp.int32), classes=3),
    "no label": lambda: pixels(classes=3),
    "a label too many": lambda: pixels(jnp.zeros(ROWS, jnp.int32)),
    "one label for all images": lambda: labelled(jnp.zeros(1, jnp.int32)),
    "labels in a column": lambda: labelled(jnp.zeros((ROWS, 1), jnp.int32)),
    "one time for many": lambda: process.diffuse(SHORT, jnp.ones((4, 2)), jnp.ones(1, jnp.int32), jnp.ones((4, 2))),
    "times in a column": lambda: process.q_marginal(SHORT, jnp.ones((4, 4)), jnp.ones((4, 1), jnp.int32)),
    "variance without axes": lambda: process.draw(KEY, process.Gaussian(jnp.ones((3, 3)), jnp.ones(3))),
    "std without axes": lambda: bound.discretized_gaussian_nll(jnp.ones((3, 3)), jnp.ones((3, 3)), jnp.ones(3), 4),
    "shares": lambda: bound.estimate(REVERSE, lambda x, t: x, jnp.ones((4, 2)), jax.random.split(KEY, 4), jnp.ones(1)),
    "a prediction in one row": lambda: bound.term(
        REVERSE, lambda x, t: x[:1], jnp.ones((4, 2)), jnp.full(4, 2), jnp.ones((4, 2))
    ),
    "labels in the objective": lambda: objective.simple(Dense(2), SHORT, labels="label")(
        {}, {}, {"image": jnp.ones((4, 2)), "label": jnp.zeros((4, 1), jnp.int32)}, key=KEY, train=True
    ),
    "rule of another schedule": lambda: samplers.make_sampler(
        lambda x, t: x, SHORT, samplers.ddim(schedule.linear(4)), kind="eps"
    ),
    "histogram of other images": lambda: likelihood.histogram_bits(
        np.zeros((5, 2, 2, 1), np.uint8), np.zeros((5, 2, 1, 1), np.uint8), 4
    ),
    "per-example guidance": lambda: objective.guided(jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.ones((4, 1))),
    "std per channel": lambda: decoder.gaussian(jnp.ones(3)),
    "bound per channel": lambda: bounded(jnp.ones((4, 3)), jnp.ones(3)),
    "mmd": lambda: collapse.squared_mmd(np.ones(4), np.ones(1), 5),
    "modes": lambda: collapse.mode_hits(jnp.ones((4, 1)), jnp.ones((3, 2)), 0.1),
    "frequencies": lambda: collapse.fourier_features(jnp.ones((4, 3)), jnp.ones((2, 5))),
    "diversity": lambda: collapse.diversity(np.ones((4, 2)), np.ones((4, 1))),
    "neighbours": lambda: collapse.nearest_neighbour(np.ones((4, 1)), np.ones((4, 2))),
    "shares of classes": lambda: collapse.covered(np.ones(4), np.ones(1)),
    "features": lambda: sample_quality.covered(np.ones((9, 2)), np.ones((9, 1))),
    "features in one row": lambda: sample_quality.moments(np.ones(5)),
    "frechet": lambda: sample_quality.frechet_distance(np.ones(1), np.eye(2), np.ones(2), np.eye(2)),
    "frechet covariance": lambda: sample_quality.frechet_distance(np.ones(2), np.eye(2), np.ones(2), np.eye(1)),
    "kernel": lambda: sample_quality.kernel_distance(np.ones((5, 2)), np.ones((5, 1))),
    "quality": lambda: sample_quality.quality(np.ones((9, 2)), np.ones((9, 3)), np.ones((9, 2))),
    "classes of samples": lambda: sample_quality.covered_classes(np.array([0, 3]), np.array([0, 1]), 2),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit_are_refused(name):
    with pytest.raises(ValueError, match=r"shape|must|cannot|made|label|channels|schedule"):
        SHAPES[name]()


TIMED = {
    "diffuse": (0, lambda t, x: process.diffuse(SHORT, x, t, x)),
    "marginal": (0, lambda t, x: process.q_marginal(SHORT, x, t).mean),
    "target": (0, lambda t, x: process.target(SHORT, "v", x, t, x)),
    "step": (1, lambda t, x: process.q_step(SHORT, x, t).mean),
    "posterior": (1, lambda t, x: process.q_posterior(SHORT, x, x, t).mean),
    "denoise eps": (1, lambda t, x: process.denoise(SHORT, "eps", x, t, x).x0),
    "denoise x0": (1, lambda t, x: process.denoise(SHORT, "x0", x, t, x).eps),
    "denoise v": (1, lambda t, x: process.denoise(SHORT, "v", x, t, x).x0),
    "error": (0, lambda t, x: objective.error(SHORT, "v", x, x, t, x)),
    "reverse": (1, lambda t, x: bound.reverse_step(REVERSE, x, t, x).mean),
    "term": (1, lambda t, x: bound.term(REVERSE, lambda x, t: x, x, t, x)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", TIMED)
def test_times_outside_the_schedule_are_refused_and_nan_inside_jit(name):
    first, function = TIMED[name]
    x = jnp.linspace(0.1, 1, ROWS)[:, None] * jnp.ones((ROWS, 3))
    for wrong in (SHORT.steps + 1, first - 1, 100, -1):
        t = jnp.array([1, wrong, 2, SHORT.steps])
        with pytest.raises(ValueError, match=rf"[01] … {SHORT.steps}"):
            function(t, x)
        found = np.asarray(jax.jit(function)(t, x)).reshape(ROWS, -1)
        assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2, 3]]).all()
    assert np.isfinite(function(jnp.full(ROWS, SHORT.steps), x)).all()
    assert np.isfinite(function(jnp.full(ROWS, first), x)).all()


def test_times_to_tell_are_those_of_the_schedule_only():
    np.testing.assert_array_equal(schedule.told(SHORT, jnp.arange(1, 6)), [20, 40, 60, 80, 100])
    for wrong in (0, 6, -1):
        with pytest.raises(ValueError, match="1 … 5"):
            schedule.told(SHORT, jnp.array([wrong]))
        assert int(jax.jit(lambda t: schedule.told(SHORT, t))(jnp.array([wrong]))[0]) == -1


VALUES = {
    "grey level too high": lambda: dequantize(jnp.array([16]), jnp.zeros(1), 16),
    "grey level negative": lambda: dequantize(jnp.array([-1]), jnp.zeros(1), 16),
    "histogram levels": lambda: likelihood.histogram_bits(np.full((2, 4), 9, np.uint8), np.zeros((2, 4), np.uint8), 9),
    "no images": lambda: likelihood.summary(likelihood.Nats.of(jnp.ones(2), jnp.zeros(2, bool)), 4),
    "no dimensions": lambda: likelihood.bits_per_dim(3.0, 0),
    "half a dimension": lambda: likelihood.bits_per_dim(3.0, 1.5),
    "std": lambda: decoder.gaussian(0.0),
    "std NaN": lambda: decoder.gaussian(float("nan")),
    "likelihood temperature": lambda: decoder.bernoulli().sample(KEY, jnp.zeros((2, 2)), -1.0),
    "gumbel": lambda: vae.gumbel_softmax(KEY, jnp.zeros(3), jnp.float32(-1)),
    "beta": lambda: vae.negative_elbo(system(), beta=-1.0),
    "free bits": lambda: vae.negative_elbo(system(), free_bits=-0.1),
    "flow temperature": lambda: density.sample(KEY, Affine(2.0), {}, (2, 2), temperature=-1.0),
    "codes' temperature": lambda: of_vae(lambda *a: vae.sample(KEY, *a, (2, 2), temperature=-1.0))(),
    "GAN temperature": lambda: gan.sample(KEY, adversaries(), {}, {}, 3, temperature=-1.0),
    "penalty": lambda: gan.discriminator_objective(adversaries(), gan.hinge(), gradient_penalty_weight=-1.0),
    "r1": lambda: gan.discriminator_objective(adversaries(), gan.hinge(), r1_weight=np.float32(-1)),
    "eta": lambda: samplers.ddim(SHORT, jnp.float32(1.5)),
    "eta NaN": lambda: samplers.ddim(SHORT, float("nan")),
    "guidance": lambda: objective.guided(jnp.ones(2), jnp.ones(2), float("inf")),
    "drop": lambda: objective.drop_labels(KEY, jnp.zeros(3, jnp.int32), 9, jnp.float32(-0.1)),
    "alpha": lambda: Logit(jnp.float32(0.5)),
    "scale": lambda: Affine(jnp.float32(0.0)),
    "coupling bound": lambda: AffineCoupling(Dense(2), bound=jnp.float32(0.0)),
    "features NaN": lambda: sample_quality.moments(np.array([[1.0], [np.nan]])),
    "quality NaN": lambda: sample_quality.covered(np.ones((9, 2)), np.full((9, 2), np.inf)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_out_of_range_are_refused_where_they_are_known(name):
    with pytest.raises(ValueError, match=r"must|lie|levels|counted|finite"):
        VALUES[name]()


def test_grey_levels_out_of_range_are_nan_inside_jit():
    y = jax.jit(lambda x: dequantize(x, jnp.zeros(4), 16))(jnp.array([-1, 0, 15, 16]))
    np.testing.assert_array_equal(np.isnan(y), [True, False, False, True])
    for name in ("categorical", "logistic"):
        x = jnp.array([[-0.5], [0.0], [1.0], [1.5]])
        nats = jax.jit(FAMILIES[name].nll)(jnp.zeros((4, FAMILIES[name].channels)), x)
        np.testing.assert_array_equal(np.isnan(nats[:, 0]), [True, False, False, True])
