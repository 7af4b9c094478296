"""Augmentations of one image and of many: one rule for ranks, dtypes and ranges, and the identity at zero strength."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from dlcore.data import _augment as a
from dlcore.data import cutmix, mixup
from dlcore.data._arguments import check_count

KEY = jax.random.key(0)
ALL = {
    "shift": lambda k, x: a.random_shift(k, x, 2),
    "crop": lambda k, x: a.random_crop(k, x, 1, fill=3.0),
    "flip": a.random_flip,
    "cutout": lambda k, x: a.cutout(k, x, 3, fill=7.0),
    "rotation": lambda k, x: a.random_rotation(k, x, 30.0),
    "jitter": lambda k, x: a.colour_jitter(k, x, brightness=0.5, contrast=0.5, saturation=0.5),
    "chain": a.chain(a.random_flip, lambda k, x: a.random_shift(k, x, 1)),
}
MOVES = ("shift", "crop", "flip", "cutout", "chain")
IMAGES = jax.random.uniform(jax.random.key(1), (5, 6, 4, 3))
GREY = jnp.zeros((4, 4, 1), jnp.uint8)


@pytest.fixture
def as_users():
    """Without the type checker of the tests, which sees NumPy's arrays and several numbers first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ALL)
def test_one_image_is_a_batch_of_one(name):
    one = ALL[name](KEY, IMAGES[0])
    assert one.shape == IMAGES.shape[1:]
    np.testing.assert_array_equal(one, ALL[name](KEY, IMAGES[:1])[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_one_image_under_vmap(name):
    keys = jax.random.split(KEY, 5)
    mapped = jax.vmap(ALL[name])(keys, IMAGES)
    apart = jnp.stack([ALL[name](key, image) for key, image in zip(keys, IMAGES, strict=True)])
    np.testing.assert_allclose(mapped, apart, rtol=1e-5, atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("images", [IMAGES[:2], IMAGES[0]], ids=["many", "one"])
def test_keys_alone_under_vmap_give_views_of_the_same_images(name, images, as_users):
    """Also of NumPy's arrays and inside jit, as contrastive learning draws its two views."""
    keys = jax.random.split(KEY, 3)
    mapped = jax.jit(jax.vmap(lambda key: ALL[name](key, np.asarray(images))))(keys)
    apart = jnp.stack([ALL[name](key, images) for key in keys])
    np.testing.assert_allclose(mapped, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixtures_of_numpys_arrays_inside_jit_and_vmap(mix, as_users):
    images, targets, keys = np.asarray(IMAGES), np.eye(5, dtype=np.float32), jax.random.split(KEY, 3)
    mapped = jax.jit(jax.vmap(lambda key: mix(key, images, targets, 0.5)))(keys)
    apart = [mix(key, IMAGES, jnp.asarray(targets), 0.5) for key in keys]
    jax.tree.map(lambda m, *x: np.testing.assert_allclose(m, np.stack(x), rtol=1e-5, atol=1e-5), mapped, *apart)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(6,), (6, 4), (2, 5, 6, 4, 3)])
def test_other_ranks_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"images are \(.*\); want \[b, h, w, c\] or \[h, w, c\]"):
        ALL[name](KEY, jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 6, 4, 3)])
def test_other_ranks_of_views_and_turns_are_refused(shape):
    for call in (lambda x: a.views(x, 1, flip=True), lambda x: a.rotate(x, 0.1)):
        with pytest.raises(ValueError, match=r"want \[b, h, w, c\] or \[h, w, c\]"):
            call(jnp.zeros(shape))


def test_views_and_turns_of_one_image():
    for call in (functools.partial(a.views, pixels=1, flip=True), lambda x: a.rotate(x, 0.3)[None]):
        np.testing.assert_array_equal(call(IMAGES[0]), call(IMAGES)[:, 0])


@pytest.mark.sampled
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.uint8, jnp.int32])
def test_the_dtype_is_kept_or_refused(name, dtype):
    images = (IMAGES * 100).astype(dtype)
    if jnp.issubdtype(dtype, jnp.integer) and name not in MOVES:
        with pytest.raises(ValueError, match=r"want real numbers: preprocess\.scale them first"):
            ALL[name](KEY, images)
    else:
        assert ALL[name](KEY, images).dtype == dtype


ZERO = {
    "shift": lambda k, x: a.random_shift(k, x, 0),
    "crop": lambda k, x: a.random_crop(k, x, 0, fill=9.0),
    "flip": lambda k, x: a.random_flip(k, x, 0.0),
    "cutout": lambda k, x: a.cutout(k, x, 0, fill=9.0),
    "rotation": lambda k, x: a.random_rotation(k, x, 0.0, fill=9.0),
    "jitter": a.colour_jitter,
    "mixup": lambda k, x: mixup(k, x, jnp.eye(len(x)), 0.0).images,
    "cutmix": lambda k, x: cutmix(k, x, jnp.eye(len(x)), 0.0).images,
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", ZERO)
@pytest.mark.parametrize("compiled", [False, True])
def test_zero_strength_is_the_identity_for_any_range(name, compiled):
    """To the bit, also for standardised images, which reach below 0 and above 1."""
    images = 5 * jax.random.normal(KEY, (5, 6, 4, 3))
    f = jax.jit(ZERO[name]) if compiled else ZERO[name]
    np.testing.assert_array_equal(f(KEY, images), images)


TRACED = {
    "flip": lambda s, x: a.random_flip(KEY, x, s),
    "rotation": lambda s, x: a.random_rotation(KEY, x, 20 * s),
    "jitter": lambda s, x: a.colour_jitter(KEY, x, brightness=s, contrast=s, saturation=s),
    "mixup": lambda s, x: mixup(KEY, x, jnp.eye(len(x)), s).images,
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", TRACED)
def test_strengths_may_be_traced(name):
    f, images = jax.jit(TRACED[name]), 3 * IMAGES - 1
    np.testing.assert_array_equal(f(0.0, images), images)
    np.testing.assert_allclose(f(0.8, images), TRACED[name](0.8, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: check_count("cutout", "size", 1.5), "cutout: size must be a whole number"),
        (lambda: check_count("cutout", "size", -1), "cutout: size must not be negative, got -1"),
        (lambda: a.views(IMAGES, -1), "views: pixels must not be negative, got -1"),
        (lambda: a.random_flip(KEY, IMAGES, 1.5), r"random_flip: probability must lie in \[0, 1\], got 1.5"),
        (lambda: a.random_flip(KEY, IMAGES, -0.5), r"random_flip: probability must lie in \[0, 1\], got -0.5"),
        (lambda: a.random_rotation(KEY, IMAGES, float("nan")), "random_rotation: degrees must be finite"),
        (lambda: a.colour_jitter(KEY, IMAGES, saturation=-0.1), r"saturation must lie in \[0, 1\], got -0.1"),
        (lambda: a.cutout(KEY, jnp.zeros((4, 4, 1), jnp.uint8), 2, fill=0.5), "fill 0.5 does not fit uint8"),
        (lambda: a.random_crop(KEY, jnp.zeros((4, 4, 1), jnp.uint8), 2, fill=256), "fill 256 does not fit uint8"),
        (lambda: mixup(KEY, IMAGES, jnp.eye(5), float("inf")), "mixup: alpha must be finite, got inf"),
        (lambda: cutmix(KEY, IMAGES, jnp.eye(5), np.ones(5)), r"alpha must be a single number, got shape \(5,\)"),
        (lambda: a.random_flip(KEY, IMAGES, np.ones(5)), r"probability must be a single number, got shape \(5,\)"),
        (lambda: a.cutout(KEY, IMAGES, 2, fill=[0.0, 1.0, 0.0]), r"fill must be a single number, got shape \(3,\)"),
        (lambda: a.rotate(IMAGES, 0.1, np.ones(3)), r"rotate: fill must be a single number, got shape \(3,\)"),
        (lambda: jax.jit(lambda f: a.rotate(IMAGES, 0.1, f))(0.5), "rotate: fill must be known before compiling"),
        (lambda: a.cutout(KEY, GREY, 2, fill=float("nan")), "fill nan does not fit uint8"),
        (lambda: a.cutout(KEY, GREY > 0, 2, fill=0.5), "fill 0.5 does not fit bool images; use 0 to 1"),
        (lambda: a.random_crop(KEY, GREY.astype(jnp.float16), 2, fill=1e6), "does not fit float16"),
        (lambda: check_count("random_shift", "pixels", True), "pixels must be a whole number, got True"),
        (lambda: a.random_crop(KEY, GREY, 2, fill=float("inf")), "fill inf does not fit uint8"),
    ],
)
def test_strengths_out_of_range_are_refused(call, text, as_users):
    with pytest.raises(ValueError, match=text):
        call()


TARGETS = {
    "labels": (jnp.arange(5), r"targets are \(5,\) for images \(5, 6, 4, 3\); .*: pass jax\.nn\.one_hot\(labels"),
    "real labels": (jnp.arange(5.0), r"pass jax\.nn\.one_hot"),
    "a column of labels": (jnp.arange(5)[:, None], "targets are int32; want probabilities"),
    "one-hot integers": (jnp.eye(5, dtype=jnp.int32), "targets are int32; want probabilities"),
    "one row": (jnp.ones((1, 4)), r"targets are \(1, 4\) for images \(5, 6, 4, 3\)"),
    "too many rows": (jnp.ones((6, 4)), r"targets are \(6, 4\) for images"),
    "maps": (jnp.ones((5, 6, 4)), r"targets are \(5, 6, 4\) for images"),
    "a scalar": (jnp.ones(()), r"targets are \(\) for images"),
}  # fmt: skip


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_targets_that_would_broadcast_or_truncate_are_refused(mix, kind, alpha):
    targets, text = TARGETS[kind]
    with pytest.raises(ValueError, match=text):
        mix(KEY, IMAGES, targets, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_images_that_cannot_be_mixed(mix):
    with pytest.raises(ValueError, match=r"images are \(6, 4, 3\); want \[b, h, w, c\]"):
        mix(KEY, IMAGES[0], jnp.ones((6, 2)), 0.5)
    grey = (IMAGES * 255).astype(jnp.uint8)
    if mix is mixup:
        with pytest.raises(ValueError, match="mixup: images are uint8; want real numbers"):
            mix(KEY, grey, jnp.eye(5), 0.5)
    else:
        assert mix(KEY, grey, jnp.eye(5), 0.5).images.dtype == jnp.uint8
    half = mix(KEY, IMAGES.astype(jnp.bfloat16), jnp.eye(5), 0.5)
    assert half.images.dtype == jnp.bfloat16 and half.targets.dtype == jnp.float32


def test_each_colour_change_has_a_factor_of_its_own():
    """Factors found from what each change scales, all under one key."""
    images = jnp.tile(0.4 + 0.2 * jax.random.uniform(KEY, (1, 6, 4, 3)), (64, 1, 1, 1))
    change = lambda **s: np.asarray(a.colour_jitter(KEY, images, **s), np.float64)  # noqa: E731
    source = np.asarray(images, np.float64)
    bright = (change(brightness=0.5) / source).mean((1, 2, 3))
    spread = lambda x, axis: x - x.mean(axis, keepdims=True)  # noqa: E731
    contrast = (spread(change(contrast=0.5), (1, 2, 3)) / spread(source, (1, 2, 3))).mean((1, 2, 3))
    saturation = (spread(change(saturation=0.5), -1) / spread(source, -1)).mean((1, 2, 3))
    for factors in (bright, contrast, saturation):
        assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5
    assert np.abs(np.corrcoef([bright, contrast, saturation]) - np.eye(3)).max() < 0.5


def test_a_flip_mirrors_left_and_right_only():
    image = jnp.arange(12.0).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(a.random_flip(KEY, image, 1.0), np.asarray(image)[:, :, ::-1])
    mirrored = a.views(image, flip=True)
    np.testing.assert_array_equal(mirrored[1], np.asarray(image)[:, :, ::-1])


def test_a_flip_may_be_certain_or_out_of_the_question():
    np.testing.assert_array_equal(a.random_flip(KEY, IMAGES, 1), IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(a.random_flip(KEY, IMAGES, 0), IMAGES)
    infinite = a.cutout(KEY, IMAGES, 2, fill=float("inf"))
    assert np.isinf(infinite).any()


def test_views_move_up_down_left_and_right():
    image = np.arange(12.0).reshape(3, 4)
    moved = np.asarray(a.views(jnp.asarray(image)[..., None], 1))[..., 0]
    padded = np.pad(image, 1, mode="edge")
    expected = [image, padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]]
    np.testing.assert_array_equal(moved, expected)


def test_shifts_reach_as_far_as_they_may_on_every_side():
    image = jnp.arange(35.0).reshape(5, 7)
    moved = np.asarray(a.random_shift(KEY, jnp.tile(image[None, ..., None], (300, 1, 1, 1)), 1))
    centres, counts = np.unique(moved[:, 2, 3, 0], return_counts=True)
    np.testing.assert_array_equal(centres, sorted(17 + 7 * y + x for y in (-1, 0, 1) for x in (-1, 0, 1)))
    assert counts.min() > 10
