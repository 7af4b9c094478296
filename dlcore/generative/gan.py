"""Generative adversarial networks: losses, penalties and the two objectives of alternating training (lecture 27).

A generator turns noise z ~ N(0, I) into samples, a discriminator gives a logit D(x) per example. Their params are the
branches `generator` and `discriminator`; each objective is meant for the update of its own branch and changes the
model state of that branch only. BCE losses are in nats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from dlcore.generative.check import in_range, is_zero, like_examples
from dlcore.lookup import lookup
from dlcore.operands import equal_shapes, has_shape
from dlcore.setting import Number, whole
from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State

Critic = Callable[[Array], Array]
"""x [b, ...] to logits [b]."""
Logits = Float[Array, " b"]


class GAN(NamedTuple):
    """Networks and noise; with `conditional`, both networks take the label as a second input."""

    generator: Model
    """z [b, d] to samples [b, ...]."""
    discriminator: Model
    """Samples [b, ...] to logits [b] or [b, 1]."""
    latent: int
    """d."""
    conditional: bool = False


class Loss(NamedTuple):
    """Losses per example, functions of logits: the discriminator's on real and on fake ones, the generator's."""

    real: Callable[[Logits], Logits]
    fake: Callable[[Logits], Logits]
    generator: Callable[[Logits], Logits]
    score: Callable[[Logits], Logits]
    """What is reported as D(x): the probability of being real, or the logit of a loss that knows none."""


def saturating() -> Loss:
    """−log σ(D(x)) and −log(1 − σ(D(x̃))); the generator minimises log(1 − σ(D(x̃))) (Goodfellow et al. 2014, eq. 1).

    At the optimal discriminator, D* = log p − log q, the sum of the first two is log 4 − 2 JS(p, q).
    """
    return Loss(lambda a: jax.nn.softplus(-a), jax.nn.softplus, lambda a: -jax.nn.softplus(a), jax.nn.sigmoid)


def non_saturating() -> Loss:
    """Like `saturating`, but the generator minimises −log σ(D(x̃)), whose gradient does not vanish where D wins."""
    return saturating()._replace(generator=lambda a: jax.nn.softplus(-a))


def hinge() -> Loss:
    """max(0, 1 − D(x)) and max(0, 1 + D(x̃)); the generator minimises −D(x̃) (Miyato et al. 2018, eq. 16–17)."""
    return Loss(lambda a: jax.nn.relu(1 - a), lambda a: jax.nn.relu(1 + a), lambda a: -a, lambda a: a)


def wasserstein() -> Loss:
    """−D(x) and D(x̃); the generator minimises −D(x̃) (Arjovsky et al. 2017). D needs to be Lipschitz: penalise it."""
    return Loss(lambda a: -a, lambda a: a, lambda a: -a, lambda a: a)


LOSSES = {loss.__name__: loss for loss in (saturating, non_saturating, hinge, wasserstein)}


def loss_by_name(name: str) -> Loss:
    """The loss of that name; raises `ValueError`, naming the nearest, for an unknown one."""
    return lookup("loss", name, LOSSES)()


def interpolate(key: Key, real: Float[Array, "b ..."], fake: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """x̂ = ε x + (1 − ε) x̃ with one ε ~ U(0, 1) per example. Raises `ValueError` unless both have one shape."""
    equal_shapes("interpolate", real=real, fake=fake)
    mix = jax.random.uniform(key, (real.shape[0], *[1] * (real.ndim - 1)), real.dtype)
    return mix * real + (1 - mix) * fake


def squared_slope(critic: Critic, x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """‖∇ₓ D(x)‖² of each example, for a critic that takes every example by itself (no batch norm).

    Raises `ValueError` for a critic that does not give one logit per example.
    """

    def total(x: Array) -> Array:
        logits = critic(x)
        like_examples("squared_slope", "the critic's output", logits, x)
        return logits.sum()

    gradient = jax.grad(total)(x)
    return jnp.square(gradient).reshape(x.shape[0], -1).sum(-1)


def gradient_penalty(critic: Critic, x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """(‖∇ₓ D(x)‖₂ − 1)², at interpolated x (Gulrajani et al. 2017, eq. 3); its gradient is 0 where the slope is 0."""
    squares = squared_slope(critic, x)
    flat = squares == 0
    return jnp.square(jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares))) - 1)


def r1_penalty(critic: Critic, x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """½ ‖∇ₓ D(x)‖² at real x (Mescheder et al. 2018, eq. 9)."""
    return 0.5 * squared_slope(critic, x)


def init(key: Key, gan: GAN, x: Float[Array, "b ..."], label: Int[Array, " b"] | None = None) -> tuple[Params, State]:
    """Params and state of both networks, in branches "generator" and "discriminator".

    A network that starts from data sees x, or as many standard normal codes.
    """
    inputs = _given(gan, label, x)
    z = jax.random.normal(jax.random.fold_in(key, 2), (x.shape[0], gan.latent))
    generator, generator_state = gan.generator.init(jax.random.fold_in(key, 0), z, *inputs)
    discriminator, discriminator_state = gan.discriminator.init(jax.random.fold_in(key, 1), x, *inputs)
    state = {"generator": generator_state, "discriminator": discriminator_state}
    return {"generator": generator, "discriminator": discriminator}, state


def _given(gan: GAN, label: Array | None, x: Any) -> tuple[Array, ...]:
    if not gan.conditional:
        return ()
    if label is None:
        raise ValueError("this GAN is conditional: pass label=, class numbers [b]")
    like_examples("this conditional GAN", "label", label, x)
    return (label,)


def generate(
    gan: GAN,
    params: Params,
    state: State,
    z: Float[Array, "b d"],
    label: Int[Array, " b"] | None = None,
    *,
    train: bool = False,
    key: Key | None = None,
) -> tuple[Float[Array, "b ..."], State]:
    """Samples G(z), and the new state. Raises `ValueError` for labels other than one per code."""
    inputs = (z, *_given(gan, label, z))
    x, new = gan.generator.apply(params["generator"], state["generator"], *inputs, train=train, key=key)
    return x, {**state, "generator": new}


def discriminate(
    gan: GAN,
    params: Params,
    state: State,
    x: Float[Array, "b ..."],
    label: Int[Array, " b"] | None = None,
    *,
    train: bool = False,
    key: Key | None = None,
) -> tuple[Logits, State]:
    """Logits D(x), and the new state. Raises `ValueError` unless labels and logits are one per example."""
    inputs = (x, *_given(gan, label, x))
    logits, new = gan.discriminator.apply(
        params["discriminator"], state["discriminator"], *inputs, train=train, key=key
    )
    if logits.ndim != 1:
        has_shape(
            "discriminate", "the discriminator's output", logits, (len(x), 1), f"one logit for each of x {x.shape}"
        )
    return logits.reshape(-1), {**state, "discriminator": new}


def sample(
    key: Key,
    gan: GAN,
    params: Params,
    state: State,
    num: int,
    *,
    label: Int[ArrayLike, "..."] | None = None,
    temperature: Number = 1.0,
) -> Float[Array, "b ..."]:
    """`num` samples G(T z), z ~ N(0, I); of a conditional GAN of the class `label`, one for all or one each.

    T < 1 stays nearer to the middle of the codes, and may be traced. Raises `ValueError` for T < 0.
    """
    in_range("sample", "temperature", temperature, lambda t: t >= 0, "not be negative")
    num = whole(num, "sample: num")
    z = temperature * jax.random.normal(key, (num, gan.latent))
    chosen = label if label is None or jnp.ndim(label) else jnp.full(num, label, jnp.int32)
    return generate(gan, params, state, z, chosen)[0]


Augment = Callable[[Key, Array], Array]


def _unchanged(key: Key, x: Array) -> Array:
    return x


def discriminator_objective(
    gan: GAN,
    loss: Loss,
    *,
    gradient_penalty_weight: Number = 0.0,
    r1_weight: Number = 0.0,
    augment: Augment = _unchanged,
    target: str = "image",
    label: str = "label",
) -> Objective:
    """L = mean of loss(D(x)) + mean of loss(D(G(z))) + λ · gradient penalty + γ · R1, for the branch `discriminator`.

    Fakes have the labels of the batch. `augment`, a random differentiable function, is applied to real and fake ones
    alike (Zhao et al. 2020). λ and γ may be traced. Metrics: `discriminator_loss` and `loss` (both without penalties),
    `penalty`, `d_real`, `d_fake`. Raises `ValueError` for negative λ or γ, and for fakes of another shape than reals.
    """
    for name, weight in (("gradient_penalty_weight", gradient_penalty_weight), ("r1_weight", r1_weight)):
        in_range("discriminator_objective", name, weight, lambda w: w >= 0, "not be negative")

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        keys = jax.random.split(key, 6)
        real, given = batch[target], batch.get(label) if gan.conditional else None
        z = jax.random.normal(keys[0], (real.shape[0], gan.latent))
        fake, _ = generate(gan, params, state, z, given, train=train, key=keys[1])
        real, fake = augment(keys[2], real), augment(keys[3], jax.lax.stop_gradient(fake))
        equal_shapes("discriminator_objective", real=real, fake=fake)
        both = None if given is None else jnp.concatenate([given, given])
        logits, new = discriminate(gan, params, state, jnp.concatenate([real, fake]), both, train=train, key=keys[4])
        on_real, on_fake = jnp.split(logits, 2)
        losses = loss.real(on_real) + loss.fake(on_fake)

        def critic(x: Array) -> Array:
            return discriminate(gan, params, state, x, given, train=train, key=keys[4])[0]

        penalty = jnp.zeros(())
        if not is_zero(gradient_penalty_weight):
            penalty += gradient_penalty_weight * gradient_penalty(critic, interpolate(keys[5], real, fake)).mean()
        if not is_zero(r1_weight):
            penalty += r1_weight * r1_penalty(critic, real).mean()
        found = {"discriminator_loss": losses, "loss": losses, "penalty": penalty[None]}
        scores = {"d_real": loss.score(on_real), "d_fake": loss.score(on_fake)}
        metrics = {name: Mean.of(value) for name, value in (found | scores).items()}
        return losses.mean() + penalty, Aux(new, metrics)

    return objective


def generator_objective(
    gan: GAN, loss: Loss, *, augment: Augment = _unchanged, target: str = "image", label: str = "label"
) -> Objective:
    """L = mean of the generator's loss of D(G(z)), as many z as the batch has examples, for the branch `generator`.

    Metric: `generator_loss`.
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        keys = jax.random.split(key, 4)
        given = batch.get(label) if gan.conditional else None
        z = jax.random.normal(keys[0], (batch[target].shape[0], gan.latent))
        fake, new = generate(gan, params, state, z, given, train=train, key=keys[1])
        logits, _ = discriminate(gan, params, state, augment(keys[2], fake), given, train=train, key=keys[3])
        losses = loss.generator(logits)
        return losses.mean(), Aux(new if train else state, {"generator_loss": Mean.of(losses)})

    return objective
