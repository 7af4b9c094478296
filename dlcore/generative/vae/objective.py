"""Training objectives of a variational autoencoder: the (β-)ELBO and the importance-weighted bound (lecture 24.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range, is_zero
from dlcore.generative.vae.bounds import Weights, closed_form, iwae_bound, weigh
from dlcore.generative.vae.estimators import check_gradient, leave_one_out, score_surrogate
from dlcore.generative.vae.model import VAE, encode_all
from dlcore.setting import Number, whole
from dlcore.types import Aux, Batch, Key, Mean, Objective, Params, State


def _in_training(vae: VAE, step: Array | None) -> VAE:
    """The model with the relaxation that training uses at this step, where there is one."""
    relaxed = vae.posterior.training(step)
    return vae if relaxed is None else vae._replace(posterior=relaxed)


def _weighed(
    vae: VAE, params: Params, state: State, x: Array, keys: Key, samples: int, train: bool, gradient: str
) -> tuple[tuple[Array, ...], Weights, State]:
    outputs, state = encode_all(vae, params, state, x, train=train, key=keys[0])
    noise = vae.posterior.noise(keys[1], (samples, len(x), vae.posterior.dims(outputs)))
    options = {"gradient": gradient, "train": train, "key": keys[2]}
    found, state = weigh(vae, params, state, x, outputs, noise, **options)
    return outputs, found, state


def negative_elbo(
    vae: VAE,
    *,
    beta: Number = 1.0,
    warmup_steps: int = 0,
    free_bits: Number = 0.0,
    samples: int = 1,
    analytic_kl: bool | None = None,
    gradient: str = "pathwise",
    target: str = "image",
) -> Objective:
    """L = mean over the batch of E_q[−log p(x|z)] + β KL, the objective of a (β-)VAE.

    β rises linearly from 0 over `warmup_steps` training steps (Sønderby et al. 2016). Free bits: each latent
    variable's KL, averaged over the batch, counts at least λ nats (Kingma et al. 2016, eq. 15). With `analytic_kl` off
    the KL is estimated from the draws, log q(z|x) − log p(z); by default it is on where there is a closed form and the
    gradient is pathwise. `gradient` is "pathwise", "stl", "score" or "rloo", see `estimators`. β and λ may be traced.

    Metrics: `loss`, `elbo_nats` (the ELBO at β = 1, a lower bound of log p(x); of a relaxation in training it is no
    bound), `reconstruction_nats` (E_q[−log p(x|z)]), `kl_nats`. Raises `ValueError` for negative β or λ, for free bits
    without the analytic KL, and for an analytic KL or a gradient that the model does not have.
    """
    in_range("negative_elbo", "beta", beta, lambda b: b >= 0, "not be negative")
    in_range("negative_elbo", "free_bits", free_bits, lambda b: b >= 0, "not be negative")
    free, warmup_steps = not is_zero(free_bits), whole(warmup_steps, "negative_elbo: warmup_steps", least=0)
    samples = whole(samples, "negative_elbo: samples")
    check_gradient("elbo", gradient, _in_training(vae, None).posterior, samples)
    analytic = _analytic(vae, analytic_kl, gradient, free=free)

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        here, x, keys = _in_training(vae, step), batch[target], jax.random.split(key, 3)
        outputs, found, new = _weighed(here, params, state, x, keys, samples, train, gradient)
        warming = warmup_steps and step is not None
        weight = beta * jnp.minimum(1.0, (step + 1) / warmup_steps) if warming else beta
        if analytic:
            per_dim = here.posterior.kl(outputs)
            kl = per_dim.sum(-1)
            counted = jnp.maximum(per_dim.mean(0), free_bits).sum() if free else kl.mean()
            loss = found.nll.mean() + weight * counted
        else:
            each = found.log_q - found.log_p
            kl, value = each.mean(0), found.nll + weight * each
            loss = (_by_score(found, weight, gradient) if gradient in ("score", "rloo") else value).mean()
        metrics = {
            "loss": loss[None],
            "elbo_nats": -(found.nll.mean(0) + kl),
            "reconstruction_nats": found.nll,
            "kl_nats": kl,
        }
        return loss, Aux(new, {name: Mean.of(value) for name, value in metrics.items()})

    return objective


def _analytic(vae: VAE, asked: bool | None, gradient: str, *, free: bool) -> bool:
    """Whether the KL is that of a closed form; raises `ValueError` where what is asked for cannot be."""
    relaxed = _in_training(vae, None)
    possible = closed_form(relaxed) and gradient == "pathwise"
    analytic = possible if asked is None else asked
    described = f"posterior {vae.posterior.name!r}, prior {vae.prior.name!r} and gradient={gradient!r}"
    if free and not analytic:
        raise ValueError(f"free_bits are per variable of the analytic KL; want analytic_kl, which {described} may lack")
    if analytic and not possible:
        raise ValueError(f"analytic_kl: there is no closed form for {described}")
    if not analytic and relaxed.posterior.log_prob is None:
        raise ValueError(
            f"posterior {vae.posterior.name!r} trains with the analytic KL alone, as its relaxed codes have no density "
            f"here; prior {vae.prior.name!r} has no closed form, use the standard prior"
        )
    return analytic


def _by_score(found: Weights, weight: Number, gradient: str) -> Float[Array, "k b"]:
    """−log p(x|z) + β (log q − log p) with the score-function gradient; that of log q itself has mean 0: left out."""
    value = found.nll + weight * (jax.lax.stop_gradient(found.log_q) - found.log_p)
    baseline = leave_one_out(jax.lax.stop_gradient(value)) if gradient == "rloo" else 0.0
    return score_surrogate(value, found.log_q, baseline)


def negative_iwae(vae: VAE, *, samples: int, gradient: str = "pathwise", target: str = "image") -> Objective:
    """L = −mean over the batch of log (1/k) Σ_i w_i, the importance-weighted autoencoder (Burda et al. 2016).

    `gradient` is "pathwise", whose signal fades as k grows (Rainforth et al. 2018), or "dreg", whose does not. Metrics:
    `loss`, and `elbo_nats`, the ELBO from the same draws. Raises `ValueError` for posteriors without a density.
    """
    relaxed, samples = _in_training(vae, None).posterior, whole(samples, "negative_iwae: samples")
    check_gradient("iwae", gradient, relaxed, samples)
    if relaxed.log_prob is None:
        raise ValueError(
            f"negative_iwae: posterior {vae.posterior.name!r} has no density of its codes in training; "
            "use the objective elbo"
        )

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x, keys = batch[target], jax.random.split(key, 3)
        _, found, new = _weighed(vae, params, state, x, keys, samples, train, gradient)
        log_w = found.log()
        bound = -iwae_bound(log_w)
        return bound.mean(), Aux(new, {"loss": Mean.of(bound), "elbo_nats": Mean.of(log_w)})

    return objective
