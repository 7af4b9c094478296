"""Batch norm's sums in one pass, as a GPU computes them, against the textbook in float64 (lecture 15)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import _norm, _one_pass, batch_norm, row_moments
from dlcore.nn._one_pass import affine, moments_in_one_pass


def drawn(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def blank_first(x):
    return x.at[0].set(0.0)


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (64, 3), (4, 7, 3)])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 4096, lambda x: blank_first(x + 64)])
def test_moments_lose_no_digits_wherever_the_mean_is(shape, change):
    x = change(drawn(*shape))
    exact, axes = np.asarray(x, np.float64), tuple(range(len(shape) - 1))
    mean, variance = jax.jit(moments_in_one_pass)(x)
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axes), rtol=5e-5)


def test_equal_rows_have_variance_zero():
    _, variance = jax.jit(moments_in_one_pass)(jnp.full((5, 7, 7, 2), 0.1))
    assert (variance >= 0).all() and (variance < 1e-12).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_added_up_in_float32(dtype):
    x, dy = drawn(8, 16, 16, 4, dtype=dtype), drawn(8, 16, 16, 4, seed=1, dtype=dtype)
    v = jnp.ones(4), jnp.zeros(4)
    y, pull = jax.vjp(lambda *v: affine(x, *v), *v)
    factor, shift = pull(dy.astype(jnp.float32))
    wide = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    assert y.dtype == factor.dtype == jnp.float32
    np.testing.assert_allclose(factor, (wide[0] * wide[1]).sum((0, 1, 2)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(shift, wide[1].sum((0, 1, 2)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(moments_in_one_pass(x)[1], wide[0].var((0, 1, 2)), rtol=1e-5)


def layer(x, scale, bias):
    return batch_norm(x, *row_moments(x), scale, bias)


ARRAYS = drawn(4, 3, 3, 2), drawn(2, seed=1), drawn(2, seed=2)


@pytest.fixture
def assert_both_agree(monkeypatch):
    """A function of the layer's is the same in the two ways."""

    def ways(make, *arrays):
        found = []
        for one in (False, True):
            monkeypatch.setattr(_norm, "in_one_pass", lambda one=one: one)
            found.append(jax.jit(lambda *a: make(*a))(*arrays))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)

    return ways


def test_stacks_of_layers_and_of_batches(assert_both_agree):
    x, scale, bias = ARRAYS
    loss = lambda *a: jnp.sin(layer(*a)).sum()  # noqa: E731
    assert_both_agree(jax.vmap(jax.grad(loss, (0, 1, 2)), (0, None, None)), jnp.stack([x, 2 * x, x**2]), scale, bias)
    assert_both_agree(
        jax.vmap(jax.grad(loss, (0, 1, 2)), (None, 0, 1)), x, jnp.stack([scale] * 3), jnp.stack([bias] * 3, 1)
    )


def test_inside_scan_and_remat_and_along_a_tangent(assert_both_agree):
    def loss(x, scale, bias):
        body = jax.checkpoint(lambda x, _: (layer(x, scale, bias), None))
        return jnp.sin(jax.lax.scan(body, x, None, length=2)[0]).sum()

    assert_both_agree(jax.grad(loss, (0, 1, 2)), *ARRAYS)
    assert_both_agree(lambda *a: jax.jvp(loss, a, tuple(jnp.cos(x) for x in a)), *ARRAYS)
    assert_both_agree(
        lambda *a: jax.jvp(lambda scale: jax.grad(loss, 2)(a[0], scale, a[2]), (a[1],), (a[1],))[1], *ARRAYS
    )
    assert_both_agree(jax.grad(loss, 1), *ARRAYS)


def test_a_gradient_reads_its_rows_in_two_reductions_of_two_sums(monkeypatch):
    monkeypatch.setattr(_norm, "in_one_pass", lambda: True)
    program = jax.jit(jax.grad(lambda *a: jnp.sin(layer(*a)).sum(), (0, 1, 2))).lower(*ARRAYS).as_text()
    whole = "4x3x3x2xf32"
    sums = [line for line in program.split("\n") if "stablehlo.reduce" in line and f"tensor<{whole}>" in line]
    assert sum(line.count(f"tensor<{whole}>") == 2 for line in sums) == 2


def test_only_one_gpu_takes_it(monkeypatch):
    assert not _one_pass.in_one_pass()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not _one_pass.in_one_pass(), "of a batch over several devices XLA adds up"
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert _one_pass.in_one_pass()
