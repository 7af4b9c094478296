"""What looks at a leaf as one matrix sees the layers of a stack one by one: scanned, ensembled, or both."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses import group_lasso, l1, l2
from dlcore.networks import MLP, ResNet, ResNetConfig, fold_linear, permute_units
from dlcore.nn import Conv, Dense, SpectralNorm, compose, restack, scan, serial, starting_at, unstack
from dlcore.nn.init import he_normal, orthogonal
from dlcore.optim import (
    OptimizerConfig,
    clip_adaptively,
    copy_by_copy,
    decay_mask,
    group_threshold,
    magnitude_masks,
    make_optimizer,
    proximal,
    soft_threshold,
)
from dlcore.train import ensemble, member
from dlcore.tree import by_layer, is_weight, named_leaves, stack_axes

COPIES = 3
KERNELS = {"dense": (5, 4), "conv": (3, 2, 4)}


def copies(shape, seed=0):
    """Layers of very different sizes, as trees of their own."""
    rng = np.random.default_rng(seed)
    return [
        {"kernel": jnp.asarray(rng.normal(size=shape) * 10**i), "bias": jnp.asarray(rng.normal(size=shape[-1]) * 10**i)}
        for i in range(COPIES)
    ]


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def close(found, expected, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, expected)


def updated(tx, grads, params):
    return tx.update(grads, tx.init(params), params)[0]


TRANSFORMS = {
    "clip": lambda: clip_adaptively(0.1),
    "group": lambda: proximal(optax.sgd(0.1), 0.1, 0.3, decay_mask, group_threshold),
    "soft": lambda: proximal(optax.sgd(0.1), 0.1, 0.3, decay_mask, soft_threshold),
}
"""Transformations of gradients that look at leaves, or at units of theirs."""


def test_the_penalty_of_a_stack_by_hand():
    kernel = jnp.ones((3, 5, 4)) * jnp.asarray([1.0, 2.0, 3.0])[:, None, None]
    # Four outputs each with five weights of 1, 2 or 3: 4 · √5 · √5 · (1 + 2 + 3).
    assert float(group_lasso({"rest": {"stacked": {"kernel": kernel}}})) == pytest.approx(120)
    # As the kernel of a convolution: four outputs with fifteen weights each.
    assert float(group_lasso({"kernel": kernel})) == pytest.approx(4 * np.sqrt(15) * np.sqrt(5 * (1 + 4 + 9)))


@pytest.mark.slow
@pytest.mark.parametrize("shape", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_stack_is_its_layers(shape, depth):
    layers, grads = copies(shape), copies(shape, seed=1)
    apart = {str(i): layer for i, layer in enumerate(layers)}, {str(i): layer for i, layer in enumerate(grads)}
    together = {"stacked": stack(layers)}, {"stacked": stack(grads)}
    row = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree["stacked"])  # noqa: E731
    if depth == 2:
        together = tuple({"stacked": jax.tree.map(lambda leaf: leaf[None], tree)} for tree in together)
        row = lambda tree, i: jax.tree.map(lambda leaf: leaf[0, i], tree["stacked"]["stacked"])  # noqa: E731
    for penalty in (group_lasso, l1, l2):
        close(penalty(together[0]), penalty(apart[0]))
        slope, each = jax.grad(penalty)(together[0]), jax.grad(penalty)(apart[0])
        close([row(slope, i) for i in range(COPIES)], list(each.values()))
    for name, make in TRANSFORMS.items():
        found, each = (jax.jit(updated, static_argnums=0)(make(), *both[::-1]) for both in (together, apart))
        close([row(found, i) for i in range(COPIES)], list(each.values())), name
    for globally in (False, True):
        found, each = (magnitude_masks(tree, 0.4, is_weight, globally=globally) for tree in (together[0], apart[0]))
        close([row(found, i) for i in range(COPIES)], list(each.values()))


OF_OPTAX = {"lamb": (), "lars": (), "adafactor": ("min_dim_size_to_factor=2",), "adam": ()}
"""Optimisers of optax that look at the norm of a leaf or at its rows and columns, and one that does not."""


def side_by_side(trees):
    """Layers as a stack, and as branches of their own."""
    head = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    return {"head": head, "rest": {"stacked": stack(trees)}}, {"head": head, "rest": dict(enumerate(trees))}


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("lars", "**/bias"),
        *(pytest.param(name, (), marks=pytest.mark.slow) for name in OF_OPTAX),
        pytest.param("lars", "rest/**", marks=pytest.mark.slow),
    ],
)
def test_an_optimiser_of_optax_sees_the_layers_of_a_stack(name, frozen):
    config = OptimizerConfig(f"optax.{name}", OF_OPTAX[name], learning_rate=0.1, freeze=frozen and (frozen,))

    @jax.jit
    def twice(params, grads):
        tx = make_optimizer(config, 10)
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    both = zip(side_by_side(copies((5, 4))), side_by_side(copies((5, 4), seed=1)), strict=True)
    (found, expected) = (twice(*pair) for pair in both)
    close(found["head"], expected["head"], 1e-9)
    close(found["rest"]["stacked"], stack(list(expected["rest"].values())), 1e-9)


def test_what_an_optimiser_asks_for_is_a_function_of_what_it_sees():
    """Such as the value at other params, for a line search, and the gradient there."""
    params, loose = side_by_side(copies((5, 4)))
    loss = lambda p: sum(jnp.sum(leaf * leaf * leaf) for leaf in jax.tree.leaves(p))  # noqa: E731

    def update(grads, state, params, *, grad, value_fn, grad_fn):
        there = jax.tree.map(lambda w, g: w - 0.1 * g, params, grad)
        return jax.tree.map(lambda g: g * value_fn(there), grad_fn(there)), state

    asking = optax.GradientTransformationExtraArgs(lambda params: (), update)

    def step(tx, params):
        grads = jax.grad(loss)(params)
        return tx.update(grads, (), params, grad=grads, value_fn=loss, grad_fn=jax.grad(loss))[0]

    found, expected = jax.jit(lambda: (step(copy_by_copy(asking), params), step(asking, loose)))()
    close(found["rest"]["stacked"], stack(list(expected["rest"].values())), 1e-9)


@pytest.mark.slow
def test_a_scanned_network_is_the_network_of_its_blocks():
    options = {"blocks": (3,), "widths": (4,), "classes": 3, "stem": "small"}
    plain, scanned = (ResNet(ResNetConfig(**options, scan=scan)) for scan in (False, True))
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    like, shapes = (jax.eval_shape(net.init, jax.random.key(0), x)[0] for net in (plain, scanned))
    assert any(stack_axes(path) for path, _ in named_leaves(shapes))
    rng = np.random.default_rng(0)
    params, grads = (jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), like) for _ in range(2))

    @jax.jit
    def both(params, grads):
        stacked = restack(params, shapes), restack(grads, shapes)
        found = [unstack(updated(make(), *stacked[::-1])) for make in TRANSFORMS.values()]
        expected = [updated(make(), grads, params) for make in TRANSFORMS.values()]
        return (found, group_lasso(stacked[0])), (expected, group_lasso(params))

    close(*both(params, grads))


@pytest.mark.slow
@pytest.mark.parametrize("net", [Dense(4), Conv(4, 3), scan(Dense(3), 2)], ids=["dense", "conv", "scan"])
def test_members_of_an_ensemble_are_alone(net):
    x = jnp.ones((2, 3, 3, 3))
    both = ensemble(net, COPIES)
    params, _ = both.init(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: leaf * 10.0 ** jnp.arange(COPIES).reshape(-1, *[1] * (leaf.ndim - 1)), params)
    grads = jax.tree.map(jnp.sin, params)
    alone = [member(params, i) for i in range(COPIES)]
    close(group_lasso(params), sum(map(group_lasso, alone)), 1e-6)
    tx = clip_adaptively(0.1)
    found = jax.jit(updated, static_argnums=0)(tx, grads, params)
    one = jax.jit(lambda grads, params: updated(tx, grads, params))
    close([member(found, i) for i in range(COPIES)], [one(member(grads, i), own) for i, own in enumerate(alone)], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("combine", [scan, ensemble])
@pytest.mark.parametrize("train", [False, True])
def test_the_spectral_norms_of_copies_are_those_taken_inside_of_each(combine, train):
    x, net = jax.random.normal(jax.random.key(1), (2, 4), jnp.float32), Dense(4, bias=False)
    inside, outside = combine(SpectralNorm(net), COPIES), SpectralNorm(combine(net, COPIES))
    params, state = jax.jit(inside.init)(jax.random.key(0), x)
    shapes = jax.eval_shape(outside.init, jax.random.key(0), x)[1]
    assert shapes["vector"]["stacked/kernel"].shape == (COPIES, 4)
    params = jax.tree.map(lambda leaf: leaf * 10.0 ** jnp.arange(COPIES)[:, None, None], params)
    vectors = {"vector": {"stacked/kernel": state["stacked"]["vector"]["kernel"]}}

    @jax.jit
    def both(params):
        def loss(params, model, state):
            out, new = model.apply(params, state, x, train=train)
            return jnp.sin(out).sum(), (out, jax.tree.leaves(new))

        return [jax.grad(loss, has_aux=True)(params, *own) for own in ((inside, state), (outside, vectors))]

    close(*both(params), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("initializer", [he_normal, orthogonal(2.0)])
def test_copies_start_as_single_layers_do(initializer):
    x, layer = jax.random.normal(jax.random.key(1), (2, 40)), Dense(40, kernel_init=initializer)
    scale = np.sqrt(2 / 40) if initializer is he_normal else 2 / np.sqrt(40)
    for model in (scan(layer, 8), ensemble(layer, 8)):
        kernels = np.asarray(model.init(jax.random.key(0), x)[0]["stacked"]["kernel"])
        np.testing.assert_allclose(kernels.std((1, 2)), scale, rtol=0.1)
        if initializer is not he_normal:
            close(kernels @ kernels.swapaxes(1, 2), np.broadcast_to(4 * np.eye(40), (8, 40, 40)), 1e-4)
        assert all((a != b).any() for a, b in itertools.pairwise(kernels))
        with pytest.raises(ValueError, match="stacked"):
            starting_at(model, kernel=initializer).init(jax.random.key(0), x)


@pytest.mark.slow
def test_symmetries_of_a_stack_are_refused():
    params, _ = ensemble(MLP((4, 3), 2), 2).init(jax.random.key(0), jnp.ones((1, 3)))
    for bad in (params, params["stacked"]):
        with pytest.raises(ValueError, match=r"dense_0|\(2, 3, 4\)"):
            permute_units(bad, 0, range(4))
        with pytest.raises(ValueError, match=r"dense_0|\(2, 3, 4\)"):
            fold_linear(bad)


def test_the_name_of_the_branch_is_kept_free():
    with pytest.raises(ValueError, match="must not be called 'stacked'"):
        compose(lambda call, x: call("stacked", x), stacked=Dense(2))
    with pytest.raises(ValueError, match="must not be called 'stacked'"):
        serial(stacked=Dense(2))


def test_axes_of_a_stack_are_counted_by_whole_names():
    assert [stack_axes(path) for path in ("kernel", "stacked/kernel", "a/stacked/b/stacked/c", "unstacked/k")] == [
        *(0, 1, 2, 0)
    ]
    total = by_layer(jnp.sum, "stacked/stacked/kernel")(jnp.ones((2, 3, 4, 5)))
    np.testing.assert_array_equal(total, np.full((2, 3), 20))
    without = scan(Dense(3, bias=False), 2).init(jax.random.key(0), jnp.ones((1, 3)))
    assert without[1] == {} and set(without[0]) == {"stacked"}
