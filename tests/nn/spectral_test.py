"""Spectral normalisation against singular value decompositions of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.nn import Activation, BatchNorm, Conv, Dense, Flatten, SpectralNorm, activations, serial, spectral_norm
from dlcore.nn.init import constant, zeros
from dlcore.train import chain, create, ema_update, gradient_update, make_train_step, view_of
from dlcore.types import Aux, Model


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, (-1, np.shape(kernel)[-1])), compute_uv=False)[0]


def network():
    return serial(Conv(5, 3, stride=2), Activation("leaky_relu"), Flatten(), Dense(4))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (3, 3, 2, 5), (1, 4)])
def test_norm_is_the_largest_singular_value(float64, shape):
    rng = np.random.default_rng(0)
    kernel, start = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=shape[-1]))
    sigma, vector = spectral_norm(kernel, start, 500)
    np.testing.assert_allclose(sigma, largest(kernel), rtol=1e-8)
    assert float(jnp.linalg.norm(vector)) == pytest.approx(1)
    rough = [float(spectral_norm(kernel, start, n)[0]) for n in (1, 2, 5)]
    assert rough == sorted(rough) and rough[-1] <= largest(kernel) * (1 + 1e-12)


@pytest.mark.slow
def test_gradient_is_the_outer_product_of_singular_vectors(float64):
    rng = np.random.default_rng(1)
    kernel, start = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=4))
    gradient = jax.grad(lambda k: spectral_norm(k, start, 500)[0])(kernel)
    u, _, v = np.linalg.svd(kernel)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-7)


@pytest.mark.slow
def test_every_kernel_is_divided_by_its_norm():
    model, x = network(), jax.random.normal(jax.random.key(0), (3, 6, 6, 2))
    wrapped = SpectralNorm(model, iterations=200)
    params, state = wrapped.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: 7.0 * p + 0.1, params)
    out, state = wrapped.apply(params, state, x, train=True)
    scaled = {
        part: {**leaves, "kernel": leaves["kernel"] / largest(leaves["kernel"])} for part, leaves in params.items()
    }
    np.testing.assert_allclose(out, model.apply(scaled, {}, x)[0], rtol=1e-4, atol=1e-5)
    assert state["vector"].keys() == {"conv_0/kernel", "dense_0/kernel"}


@pytest.mark.slow
def test_training_iterates_and_evaluation_has_the_norm_of_its_kernel():
    x = jnp.ones((2, 5))
    wrapped = SpectralNorm(Dense(4))
    params, state = wrapped.init(jax.random.key(0), x)
    params = {**params, "kernel": jax.random.normal(jax.random.key(3), (5, 4))}
    exact = x @ params["kernel"] / largest(params["kernel"])
    first, moved = wrapped.apply(params, state, x, train=True)
    again, same = wrapped.apply(params, moved, x)
    np.testing.assert_array_equal(moved["vector"]["kernel"], same["vector"]["kernel"])
    assert (np.abs(first) > 1.1 * np.abs(exact)).all(), "one iteration from the vector of another kernel is not enough"
    np.testing.assert_allclose(again, exact, rtol=1e-3)
    assert not np.allclose(state["vector"]["kernel"], moved["vector"]["kernel"])
    for _ in range(300):
        _, moved = wrapped.apply(params, moved, x, train=True)
    np.testing.assert_allclose(wrapped.apply(params, moved, x, train=True)[0], exact, rtol=1e-5)
    np.testing.assert_allclose(wrapped.apply(params, moved, x)[0], exact, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", [zeros, constant(1e-20), constant(1e-30)])
def test_a_kernel_of_zeros_has_a_finite_gradient_and_recovers(start):
    x = jnp.asarray([[1.0, 2.0, 3.0]])
    wrapped = SpectralNorm(Dense(2, kernel_init=start))
    params, state = wrapped.init(jax.random.key(0), x)
    for train in (True, False):
        loss = lambda p: wrapped.apply(p, state, x, train=train)[0].sum()  # noqa: B023, E731
        value, gradient = jax.value_and_grad(loss)(params)
        assert abs(float(value)) < 1e-12
        np.testing.assert_array_equal(gradient["kernel"], np.repeat([[1.0], [2.0], [3.0]], 2, axis=1))
    _, state = wrapped.apply(params, state, x, train=True)
    np.testing.assert_allclose(jnp.linalg.norm(state["vector"]["kernel"]), 1, rtol=1e-6)
    params = {**params, "kernel": jnp.asarray([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])}
    np.testing.assert_allclose(wrapped.apply(params, state, x)[0], [[1.0, 2 / 3]], rtol=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1e-11, 1.0, 1e11, 1e30])
def test_the_norm_is_found_at_any_size_of_kernel_and_vector(size):
    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for length in (1e-30, 1.0, 1e30):
        sigma, vector = spectral_norm(jnp.asarray(kernel * size, jnp.float32), jnp.float32(length) * jnp.ones(4), None)
        np.testing.assert_allclose(sigma / size, largest(kernel), rtol=1e-3)
        np.testing.assert_allclose(jnp.linalg.norm(vector), 1, rtol=1e-6)


@pytest.mark.parametrize("shape", [(200, 100), (3, 3, 16, 32), (8, 300)])
def test_iteration_until_the_norm_stands_still_is_exact_to_a_thousandth(shape):
    rng = np.random.default_rng(0)
    for _ in range(3):
        kernel, start = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape, shape[-1:]))
        sigma, _ = jax.jit(spectral_norm, static_argnums=2)(kernel, start, None)
        assert (1 - 2e-3) * largest(kernel) < float(sigma) < (1 + 1e-5) * largest(kernel)


def test_no_gradient_passes_through_the_iteration(float64):
    """Far from convergence: ∂σ/∂W is u vᵀ of the estimate itself, not the derivative of how it was found."""
    rng = np.random.default_rng(2)
    kernel, start = rng.normal(size=(6, 4)), rng.normal(size=4)
    u = kernel @ (start / np.linalg.norm(start))
    v = u @ kernel / np.linalg.norm(u @ kernel)
    u = kernel @ v / np.linalg.norm(kernel @ v)
    sigma, gradient = jax.value_and_grad(lambda k: spectral_norm(k, jnp.asarray(start), 1)[0])(jnp.asarray(kernel))
    np.testing.assert_allclose(sigma, u @ kernel @ v, rtol=1e-12)
    np.testing.assert_allclose(gradient, np.outer(u, v), rtol=1e-12)
    wrapped, x = SpectralNorm(Dense(4, bias=False)), jnp.asarray(rng.normal(size=(3, 6)))
    state = {"vector": {"kernel": jnp.asarray(start)}}
    found = jax.grad(lambda k: wrapped.apply({"kernel": k}, state, x, train=True)[0].sum())(jnp.asarray(kernel))
    pull = np.asarray(x).sum(0)[:, None] * np.ones(4)
    expected = pull / sigma - (pull * kernel).sum() / sigma**2 * np.outer(u, v)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.slow
def test_the_average_of_a_discriminator_is_lipschitz():
    """Alternating updates that turn the kernels quickly: averages of unit vectors are shorter."""
    wrapped = SpectralNorm(serial(Dense(8, bias=False), Dense(6, bias=False), Dense(1, bias=False)))
    x = jax.random.normal(jax.random.key(0), (16, 5))
    tx = optax.adam(0.2)

    def objective(params, state, batch, *, key, train, step):
        fake = params["fake"]["x"]
        real, state_d = wrapped.apply(params["judge"], state, batch["x"], train=train)
        scores, state_d = wrapped.apply(params["judge"], state_d, fake, train=train)
        return scores.mean() - real.mean(), Aux(state_d, {})

    def forge(params, state, batch, *, key, train, step):
        return -objective(params, state, batch, key=key, train=train, step=step)[0], Aux(state, {})

    def init(key):
        params, state = wrapped.init(key, x)
        return {"judge": params, "fake": {"x": jnp.ones((16, 5))}}, state

    update = chain(
        judge=gradient_update(objective, tx, only="judge/**"),
        fake=gradient_update(forge, tx, only="fake/**"),
        ema=ema_update(0.9),
    )
    step = jax.jit(make_train_step(update))
    state = create(jax.random.key(1), init, update)
    for i in range(30):
        state, _ = step(state, {"x": jax.random.normal(jax.random.key(i), (16, 5)) * jnp.arange(1.0, 6)})
    seen = view_of(update, state)
    average = seen.params["judge"]
    short = [float(jnp.linalg.norm(v)) for v in seen.state["vector"].values()]
    assert min(short) < 0.95, "the loop is too tame to show anything"
    gain = jnp.eye(5)
    whole = wrapped.apply(average, seen.state, gain)[0]
    layers = [jnp.asarray(part["kernel"] / largest(part["kernel"])) for part in average.values()]
    np.testing.assert_allclose(whole, layers[0] @ layers[1] @ layers[2], rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["float32", "bfloat16"])
def test_vectors_and_kernels_keep_their_dtypes(shape):
    x = jnp.ones((2, 3), shape)
    seen = []
    spy = Model(
        lambda key, x: ({"kernel": jnp.ones((3, 2), shape)}, {}),
        lambda p, s, x, *, train=False, key=None: (seen.append(p["kernel"].dtype) or x @ p["kernel"], s),
    )
    with jax.enable_x64(True):
        wrapped = SpectralNorm(spy)
        params, state = wrapped.init(jax.random.key(0), x)
        _, new = wrapped.apply(params, state, x, train=True)
    assert seen == [jnp.dtype(shape)] * 2
    assert state["vector"]["kernel"].dtype == new["vector"]["kernel"].dtype == jnp.float32


@pytest.mark.slow
def test_normalised_layers_are_lipschitz_from_the_start():
    wrapped = SpectralNorm(serial(Dense(30), Activation("relu"), Dense(1)))
    a, b = jax.random.normal(jax.random.key(0), (2, 200, 8))
    params, state = wrapped.init(jax.random.key(1), a)
    params = {name: {"kernel": 50 * part["kernel"], "bias": part["bias"]} for name, part in params.items()}
    difference = jnp.abs(wrapped.apply(params, state, a)[0] - wrapped.apply(params, state, b)[0])[:, 0]
    assert (difference <= 1.05 * jnp.linalg.norm(a - b, axis=-1)).all() and float(difference.max()) > 0.1


@pytest.mark.slow
def test_state_of_the_model_passes_through_and_paths_stay():
    x = jax.random.normal(jax.random.key(0), (8, 3))
    wrapped = SpectralNorm(serial(Dense(4), BatchNorm(), Dense(2)))
    params, state = wrapped.init(jax.random.key(1), x)
    assert state.keys() == {"vector", "model"} and params.keys() == {"dense_0", "batch_norm_0", "dense_1"}
    _, new = wrapped.apply(params, state, x, train=True)
    assert (new["model"]["batch_norm_0"]["mean"] != 0).any()
    out, found = activations(wrapped, params, state, x)
    assert set(found) == {"dense_0", "batch_norm_0", "dense_1"}
    np.testing.assert_array_equal(out, wrapped.apply(params, state, x)[0])


def test_errors():
    with pytest.raises(ValueError, match="iterations"):
        SpectralNorm(Dense(2), iterations=0)
    with pytest.raises(ValueError, match="no leaf called kernel or embedding"):
        SpectralNorm(Flatten()).init(jax.random.key(0), jnp.ones((2, 3)))
