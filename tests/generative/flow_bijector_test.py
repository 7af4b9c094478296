"""Every bijection in one table: round trip, log-determinant against autodiff, composition (lecture 28)."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.flow import (
    MAF,
    ActNorm,
    Affine,
    AffineCoupling,
    Autoregressive,
    ConditionalAffine,
    Flatten,
    Glow,
    InvertibleConv,
    InvertibleConvPLU,
    Logit,
    Permutation,
    RealNVP,
    SplineCoupling,
    Squeeze,
    affine,
    affine_coupling,
    affine_coupling_inverse,
    bounded,
    chain,
    invert,
    log_scales,
    rational_quadratic,
    split,
)
from dlcore.generative.flow import _linear as linear
from dlcore.networks import MADE, ConvConditioner, MLPConditioner
from dlcore.nn import BatchNorm, Conv, Dense, depth_to_space, serial, space_to_depth
from dlcore.types import Bijector

BATCH = 3


class Case(NamedTuple):
    bijector: Bijector
    shape: tuple[int, ...]
    pixels: bool = False
    """Whether the domain is [0, 1]."""
    condition: tuple[int, ...] = ()
    """Shape of a condition, per example, of a bijector that takes one."""


def conv(outputs, **options):
    return ConvConditioner(5, outputs, activation="silu", **options)


def network(shape, outputs):
    # Dense layers act on each site alone: enough for a composition, and quick to compile.
    return MLPConditioner((5,), outputs, activation="tanh")


def told(shape, outputs):
    factory = conv if len(shape) == 3 else mlp
    return factory(outputs, conditional=True)


def mlp(outputs, **options):
    return MLPConditioner((6, 6), outputs, activation="tanh", **options)


def made(shape, outputs):
    return MADE(shape[0], (7, 7), outputs, activation="tanh")


def made_told(shape, outputs):
    return MADE(shape[0], (7, 7), outputs, activation="tanh", conditional=True)


SPLINE = rational_quadratic(bins=4, bound=2.0)
GIVEN = {"conditional": True}


CASES = {
    "coupling_points": Case(AffineCoupling(mlp(4)), (4,)),
    "coupling_points_odd": Case(AffineCoupling(mlp(6)), (5,)),
    "coupling_points_odd_flipped": Case(AffineCoupling(mlp(4), flip=True), (5,)),
    "coupling_channel": Case(AffineCoupling(conv(4), bound=1.0), (3, 2, 4)),
    "coupling_channel_flipped": Case(AffineCoupling(conv(4), flip=True), (2, 3, 4)),
    "coupling_checkerboard": Case(AffineCoupling(conv(2), mask="checkerboard"), (4, 3, 1)),
    "coupling_checkerboard_flipped": Case(AffineCoupling(conv(4), mask="checkerboard", flip=True), (3, 3, 2)),
    "coupling_given_a_code": Case(AffineCoupling(mlp(4, **GIVEN), **GIVEN), (4,), condition=(3,)),
    "coupling_given_an_image": Case(
        AffineCoupling(conv(2, **GIVEN), mask="checkerboard", **GIVEN), (3, 4, 1), condition=(3, 4, 2)
    ),
    "coupling_spline": Case(SplineCoupling(mlp(22), bins=4, bound=2.0), (4,)),
    "coupling_spline_flipped": Case(SplineCoupling(mlp(16), bins=3, bound=1.5, flip=True), (5,)),
    "coupling_spline_checkerboard": Case(
        SplineCoupling(conv(11, **GIVEN), bins=4, bound=2.0, mask="checkerboard", **GIVEN), (3, 4, 1), condition=(2,)
    ),
    "autoregressive": Case(Autoregressive(made((4,), 8), affine()), (4,)),
    "autoregressive_spline": Case(Autoregressive(made((3,), 33), SPLINE), (3,)),
    "maf": Case(MAF(4, made_told, steps=2, **GIVEN), (4,), condition=(3,)),
    "iaf": Case(invert(MAF(3, made, steps=2)), (3,)),
    "base_given_a_class": Case(ConditionalAffine(mlp(8)), (4,), condition=(3,)),
    "permutation": Case(Permutation([2, 0, 3, 1]), (2, 2, 4)),
    "reversal": Case(Permutation(linear.reversed_order(5)), (5,)),
    "random_order": Case(Permutation(linear.random_order(jax.random.key(0), 6)), (6,)),
    "conv": Case(InvertibleConv(), (3, 2, 4)),
    "conv_points": Case(InvertibleConv(), (6,)),
    "conv_plu": Case(InvertibleConvPLU(4), (3, 2, 4)),
    "conv_plu_points": Case(InvertibleConvPLU(5, seed=3), (5,)),
    "conv_plu_unmixed": Case(InvertibleConvPLU(4, rotate=False), (2, 2, 4)),
    "act_norm": Case(ActNorm(), (3, 2, 4)),
    "act_norm_points": Case(ActNorm(), (5,)),
    "squeeze": Case(Squeeze(), (4, 2, 3)),
    "squeeze_by_three": Case(Squeeze(3), (3, 6, 1)),
    "flatten": Case(Flatten((2, 3, 2)), (2, 3, 2)),
    "logit": Case(Logit(0.02), (2, 3, 1), pixels=True),
    "affine": Case(Affine(-2.5, 0.3), (2, 3, 2)),
    "chain": Case(chain(ActNorm(), InvertibleConv(), ActNorm(), mix=InvertibleConvPLU(4)), (2, 2, 4)),
    "invert": Case(invert(chain(ActNorm(), AffineCoupling(mlp(4)), InvertibleConv())), (4,)),
    "split": Case(split(chain(ActNorm(), Flatten((2, 3, 2))), (2, 3, 4)), (2, 3, 4)),
    "split_points": Case(split(AffineCoupling(mlp(4)), (8,)), (8,)),
    "real_nvp": Case(RealNVP((4, 4, 1), network, scales=2, steps=2), (4, 4, 1)),
    "real_nvp_points": Case(RealNVP((3,), network, steps=3), (3,)),
    "glow": Case(Glow((4, 4, 1), network, scales=2, steps=2), (4, 4, 1)),
    "glow_spline_points": Case(Glow((4,), network, steps=1, transform=SPLINE), (4,)),
    "glow_given_a_class": Case(Glow((4, 4, 1), told, steps=1, **GIVEN), (4, 4, 1), condition=(3,)),
    "real_nvp_points_given_a_class": Case(RealNVP((3,), told, steps=2, **GIVEN), (3,), condition=(3,)),
    "glow_plain_undivided": Case(Glow((4, 4, 1), network, steps=1, permutation="plain", factor_out=False), (4, 4, 1)),
    "glow_reverse_points": Case(Glow((4,), network, steps=2, permutation="reverse"), (4,)),
    "pixels_to_latent": Case(
        chain(Logit(0.05), Affine(0.5), body=Glow((2, 2, 1), network, scales=1, steps=2)), (2, 2, 1), pixels=True
    ),
}
TABLE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def examples(case, dtype=jnp.float32, key=0):
    rng = np.random.default_rng(key)
    draw = rng.random if case.pixels else rng.standard_normal
    return jnp.asarray(draw((BATCH, *case.shape)), dtype)


def given(case, dtype=jnp.float32):
    rng = np.random.default_rng(9)
    return tuple(jnp.asarray(rng.standard_normal((BATCH, *case.condition)), dtype) for _ in case.condition[:1])


def trained(case, x):
    """Params away from their start, so that nothing is zero, one or orthogonal any more."""
    params = jax.jit(case.bijector.init)(jax.random.key(1), x.astype(jnp.float32), *given(case))
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p) + 0.1 * rng.standard_normal(p.shape), x.dtype), params)


@functools.cache
def compiled(case):
    """Forward, its gradients and back, in float32, as one program."""

    @jax.jit
    def run(params, x):
        def loss(params, x):
            z, log_det = case.bijector.forward(params, x, *given(case))
            return jnp.square(z).sum() - log_det.sum(), (z, log_det)

        grads, (z, log_det) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return grads, z, log_det, *case.bijector.inverse(params, z, *given(case))

    return run


@pytest.mark.slow
@TABLE
def test_round_trip_in_float32(case):
    x = examples(case)
    _, z, forward, back, inverse = compiled(case)(trained(case, x), x)
    assert z.dtype == back.dtype == forward.dtype == jnp.float32 and forward.shape == inverse.shape == (BATCH,)
    assert float(jnp.abs(back - x).max()) <= 1e-5
    np.testing.assert_allclose(inverse, -forward, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@TABLE
def test_round_trip_and_determinant_of_the_jacobian_in_float64(case):
    with jax.enable_x64(True):
        x = examples(case, jnp.float64)

        def all_of_it(params, x):
            def moved(v, *condition):
                return case.bijector.forward(params, v[None], *(c[None] for c in condition))[0].ravel()

            jacobian = jax.vmap(jax.jacfwd(moved))(x, *given(case, x.dtype))
            return *there_and_back(case, params, x), jacobian

        z, forward, back, inverse, jacobian = jax.jit(all_of_it)(trained(case, x), x)
        assert z.dtype == back.dtype == forward.dtype == jnp.float64
        assert float(jnp.abs(back - x).max()) <= 1e-10
        _, expected = np.linalg.slogdet(np.asarray(jacobian).reshape(BATCH, x[0].size, x[0].size))
        np.testing.assert_allclose(forward, expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(inverse, -expected, rtol=0, atol=1e-8)


def there_and_back(case, params, x):
    condition = given(case, x.dtype)
    z, forward = case.bijector.forward(params, x, *condition)
    return z, forward, *case.bijector.inverse(params, z, *condition)


@pytest.mark.sampled
@TABLE
def test_examples_do_not_touch_each_other_and_gradients_are_finite(case):
    x = examples(case)
    params, run = trained(case, x), compiled(case)
    grads, whole, log_det, *_ = run(params, x)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    _, z, other, *_ = run(params, x.at[0].set(0.5).at[2].set(0.25))
    np.testing.assert_allclose(whole[1], z[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_det[1], other[1], rtol=1e-5, atol=1e-5)


def test_affine_coupling_by_hand():
    x, s, t = (np.random.default_rng(i).normal(size=(2, 3, 4)).astype(np.float32) for i in range(3))
    y, log_det = affine_coupling(*map(jnp.asarray, (x, s, t)))
    np.testing.assert_allclose(y, x * np.exp(s) + t, rtol=1e-6)
    np.testing.assert_allclose(log_det, [s[0].sum(), s[1].sum()], rtol=1e-5)
    back, negative = affine_coupling_inverse(y, jnp.asarray(s), jnp.asarray(t))
    np.testing.assert_allclose(back, x, atol=1e-6)
    np.testing.assert_array_equal(negative, -log_det)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("coupling")])
def test_what_passes_a_coupling_stays_to_the_bit_and_the_rest_moves(name):
    case = CASES[name]
    x = examples(case)
    if case.bijector.kind == "spline_coupling":
        x = jnp.clip(x, -1.4, 1.4)  # A spline leaves what is far out as it is.
    z, _ = case.bijector.forward(trained(case, x), x, *given(case))
    if "checkerboard" in name or "image" in name:
        rows, columns = np.indices(case.shape[:2])
        passes = np.broadcast_to(((rows + columns) % 2 == ("flipped" in name))[..., None], case.shape)
    else:
        first = np.arange(case.shape[-1]) < case.shape[-1] // 2
        passes = np.broadcast_to(first != ("flipped" in name), case.shape)
    same = np.asarray(z == x).all(0)
    np.testing.assert_array_equal(same, passes)


def test_a_coupling_starts_as_the_identity_and_its_log_scale_is_bounded():
    bijector = AffineCoupling(mlp(4), bound=0.7)
    x = jax.random.normal(jax.random.key(0), (BATCH, 4))
    params = bijector.init(jax.random.key(1), x)
    z, log_det = bijector.forward(params, x)
    assert (z == x).all() and (log_det == 0).all()
    wild = jax.tree.map(lambda p: p + 100.0, params)
    _, log_det, scales = log_scales(bijector, wild, x)
    assert scales.keys() == {"log_scale"} and float(jnp.abs(scales["log_scale"]).max()) == pytest.approx(0.7)
    np.testing.assert_allclose(log_det, 1.4, rtol=1e-5)
    assert bounded(jnp.float32(1e-4), 2.0) == pytest.approx(1e-4, rel=1e-5)


@pytest.mark.slow
def test_log_scales_are_found_by_path_through_chains_and_splits():
    case = CASES["glow"]
    x = examples(case)
    params = trained(case, x)
    z, log_det, scales = log_scales(case.bijector, params, x)
    assert {"step_0/coupling/log_scale", "rest/step_1/coupling/log_scale"} <= scales.keys() and len(scales) == 4
    for one, other in zip((z, log_det), case.bijector.forward(params, x), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 5), (16, 4, 3, 5)])
def test_actnorm_starts_at_mean_0_and_variance_1(shape):
    """Measured in the dtype of the data, and kept in single precision as all params are."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=shape) * rng.uniform(0.01, 9, size=5) + rng.normal(size=5) * 7)
        bijector = chain(InvertibleConv(), norm=ActNorm(epsilon=0.0))
        z, _ = bijector.forward(bijector.init(jax.random.key(0), x), x)
        np.testing.assert_allclose(z.reshape(-1, 5).mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(z.reshape(-1, 5).var(0), 1, rtol=1e-6)


@pytest.mark.slow
def test_a_chain_starts_every_part_on_what_reaches_it():
    x = 5 * jax.random.normal(jax.random.key(0), (256, 4, 4, 1)) + 3
    bijector = Glow((4, 4, 1), network, scales=2, steps=2)
    params = bijector.init(jax.random.key(1), x)
    z, _ = bijector.forward(params, x)
    # Couplings start as the identity and mixings as rotations: whitened channels stay white on average.
    assert float(z.mean()) == pytest.approx(0, abs=0.02) and float(z.var()) == pytest.approx(1, abs=0.02)
    assert not np.allclose(params["step_0"]["act_norm"]["bias"], 0, atol=0.5)


def test_plu_is_a_rotation_at_its_start_with_the_same_map_as_its_matrix():
    with jax.enable_x64(True):
        bijector = InvertibleConvPLU(6, seed=2)
        params = bijector.init(jax.random.key(0), jnp.zeros((1, 6)))
        matrix = np.asarray(bijector.forward(params, jnp.eye(6))[0])
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=1e-6)
        assert abs(float(params["log_scale"].sum())) < 1e-6
    order = np.asarray(InvertibleConvPLU(6, rotate=False).forward(params, jnp.eye(6))[0])
    assert order.shape == (6, 6)
    unmixed = InvertibleConvPLU(6, rotate=False)
    start = unmixed.forward(unmixed.init(jax.random.key(0), jnp.zeros((1, 6))), jnp.eye(6))[0]
    assert sorted(np.asarray(start.argmax(-1)).tolist()) == list(range(6)) and float(start.sum()) == 6


def test_squeeze_by_hand():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype(np.float32)
    z = np.asarray(space_to_depth(jnp.asarray(x), 2))
    assert z.shape == (2, 2, 3, 12)
    for i, j, di, dj, c in itertools.product(range(2), range(3), range(2), range(2), range(3)):
        assert (z[:, i, j, 6 * di + 3 * dj + c] == x[:, 2 * i + di, 2 * j + dj, c]).all()
    np.testing.assert_array_equal(depth_to_space(jnp.asarray(z), 2), x)


def test_split_keeps_the_second_half_as_it_is():
    bijector = split(chain(Affine(3.0), flatten=Flatten((2, 2, 1))), (2, 2, 2))
    x = jax.random.normal(jax.random.key(0), (BATCH, 2, 2, 2))
    z, log_det = bijector.forward(bijector.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(z[:, :4], 3 * x[..., 0].reshape(BATCH, 4), rtol=1e-6)
    np.testing.assert_array_equal(z[:, 4:], x[..., 1].reshape(BATCH, 4))
    np.testing.assert_allclose(log_det, 4 * math.log(3), rtol=1e-6)


def test_chain_adds_up_and_numbers_its_parts():
    bijector = chain(ActNorm(), InvertibleConv(), ActNorm(), last=InvertibleConv())
    x = jax.random.normal(jax.random.key(0), (BATCH, 4))
    params = bijector.init(jax.random.key(1), x)
    assert list(params) == ["act_norm_0", "invertible_conv_0", "act_norm_1", "last"]
    z, total = x, jnp.zeros(BATCH)
    for name, part in zip(params, (ActNorm(), InvertibleConv(), ActNorm(), InvertibleConv()), strict=True):
        z, log_det = part.forward(params[name], z)
        total = total + log_det
    np.testing.assert_allclose(bijector.forward(params, x)[0], z, rtol=1e-6)
    np.testing.assert_allclose(bijector.forward(params, x)[1], total, rtol=1e-5, atol=1e-6)
    assert chain(Squeeze()).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1))) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineCoupling(mlp(4), mask="stripes"), "channel, checkerboard"),
        (lambda: AffineCoupling(mlp(4), bound=0.0), "bound must be positive"),
        (lambda: run(AffineCoupling(mlp(5)), (4,)), r"must give \(3, 4\)"),
        (lambda: run(AffineCoupling(serial(Dense(4), BatchNorm())), (4,)), "has state"),
        (lambda: run(AffineCoupling(conv(2)), (2, 2, 1)), "one channel"),
        (lambda: Permutation([0, 2]), "once"),
        (lambda: run(Permutation([1, 0]), (3,)), "3 channels"),
        (lambda: run(InvertibleConvPLU(3), (4,)), "made for 3"),
        (lambda: run(Squeeze(), (3, 4, 1)), "cannot be cut into blocks"),
        (lambda: depth_to_space(jnp.zeros((1, 2, 2, 6)), 2), "cannot be laid out"),
        (lambda: split(Flatten((2, 2, 1)), (2, 2, 3)), "3 channels"),
        (lambda: run(split(Affine(2.0), (2, 2, 2)), (2, 2, 2)), "end it with Flatten"),
        (lambda: run(Flatten((2, 2)), (4,)), "made for"),
        (lambda: Logit(0.5), "alpha"),
        (lambda: Affine(0.0), "cannot be inverted"),
        (lambda: Glow((4, 4, 1), network, permutation="none"), "plu, plain, reverse"),
        (lambda: Glow((4, 4, 1), network, scales=3), "lower scales"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def run(bijector, shape):
    x = jnp.ones((3, *shape))
    return bijector.forward(bijector.init(jax.random.key(0), x), x)


@pytest.mark.slow
def test_a_convolutional_conditioner_knows_where_it_is():
    model = serial(conv(2), Conv(1, 1))
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 7, 7, 1)))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(3), p.shape), params)
    out = model.apply(params, state, jnp.zeros((1, 7, 7, 1)))[0]
    # Without a bias per position, sites whose window does not reach the border would be alike.
    assert float(jnp.abs(out[0, 3, 3] - out[0, 3, 4]).max()) > 1e-3


def test_a_split_starts_its_rest_on_the_half_that_the_rest_gets():
    x = jax.random.normal(jax.random.key(0), (500, 4)) * jnp.asarray([3.0, 5.0, 0.1, 0.2]) + jnp.asarray([7.0, 1, 0, 0])
    bijector = split(ActNorm(), (4,))
    z, _ = bijector.forward(bijector.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(z[:, :2].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z[:, :2].std(0), 1, rtol=1e-3)
    np.testing.assert_array_equal(z[:, 2:], x[:, 2:])
