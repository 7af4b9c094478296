"""A user's GAN in Linen modules, with batch norm in the generator, on dlcore's losses and alternating updates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same

from dlcore.generative import gan
from dlcore.interop import from_linen
from dlcore.keys import fold_name
from dlcore.train import chain, create, gradient_update, make_train_step

LATENT, KEY = 3, jax.random.key(0)
TX = {"discriminator": optax.adam(1e-3, b1=0.5), "generator": optax.adam(2e-3, b1=0.5)}


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z, train=False):
        h = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(6)(z)))
        return nn.tanh(nn.Dense(4)(h))


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(6)(x), 0.2))


def written_out(name):
    """(discriminator's, generator's) losses of logits, as users write them."""
    if name == "non_saturating":
        bce = optax.sigmoid_binary_cross_entropy
        of_d = lambda real, fake: (bce(real, jnp.ones_like(real)) + bce(fake, jnp.zeros_like(fake))).mean()  # noqa: E731
        return of_d, lambda fake: bce(fake, jnp.ones_like(fake)).mean()
    of_d = lambda real, fake: (jnp.maximum(0, 1 - real) + jnp.maximum(0, 1 + fake)).mean()  # noqa: E731
    return of_d, lambda fake: -fake.mean()


def plain_step(name, g, d):
    of_d, of_g = written_out(name)

    @jax.jit
    def step(params, stats, opt, x, key):
        of_discriminator, of_generator = fold_name(key, "discriminator"), fold_name(key, "generator")
        z = jax.random.normal(jax.random.split(of_discriminator, 6)[0], (len(x), LATENT))
        generate = lambda p, z: g.apply({"params": p, **stats}, z, train=True, mutable=["batch_stats"])  # noqa: E731
        fake, _ = generate(params["generator"], z)

        def discriminator_loss(p):
            logits = d.apply({"params": p}, jnp.concatenate([x, fake]))[:, 0]
            return of_d(*jnp.split(logits, 2))

        loss, grads = jax.value_and_grad(discriminator_loss)(params["discriminator"])
        params, opt = moved("discriminator", params, opt, grads)
        z = jax.random.normal(jax.random.split(of_generator, 4)[0], (len(x), LATENT))

        def generator_loss(p):
            fake, new = generate(p, z)
            return of_g(d.apply({"params": params["discriminator"]}, fake)[:, 0]), new

        grads, stats = jax.grad(generator_loss, has_aux=True)(params["generator"])
        return *moved("generator", params, opt, grads), stats, loss

    def moved(name, params, opt, grads):
        updates, new = TX[name].update(grads, opt[name], params[name])
        return {**params, name: optax.apply_updates(params[name], updates)}, {**opt, name: new}

    return step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["non_saturating", "hinge"])
def test_a_gan_of_a_users_own(name, tmp_path):
    g, d = Generator(), Discriminator()
    system, loss = gan.GAN(from_linen(g), from_linen(d), LATENT), gan.loss_by_name(name)
    data = [{"image": x} for x in jax.random.normal(KEY, (4, 8, 4))]
    objectives = {
        "discriminator": gan.discriminator_objective(system, loss),
        "generator": gan.generator_objective(system, loss),
    }
    update = chain(**{part: gradient_update(objectives[part], TX[part], only=f"{part}/**") for part in objectives})
    start = create(KEY, lambda key: gan.init(key, system, data[0]["image"]), update)
    state, losses = resumes_to_the_bit(tmp_path, start, jax.jit(make_train_step(update)), data)

    step, expected = plain_step(name, g, d), []
    params, stats, opt = start.params, start.state["generator"], {n: TX[n].init(start.params[n]) for n in TX}
    for i, batch in enumerate(data):
        key = fold_name(jax.random.fold_in(jax.random.wrap_key_data(start.key), i), "update")
        params, opt, stats, value = step(params, stats, opt, batch["image"], key)
        expected.append(value)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    same(state.params, params)
    same(state.state["generator"], dict(stats))
