"""The numbers of a held-out split: bounds by one ruler, their parts, and active units (lecture 24.2–24.3).

`elbo_nats` and `iwae_nats` are lower bounds of log p(x), negative for discrete pixels; `nll_nats` is minus the tighter
one, an upper bound of −log p(x).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.evaluation import Nats, summary
from dlcore.generative.vae.active import active_units, activity
from dlcore.generative.vae.bounds import elbo_terms, log_likelihood
from dlcore.generative.vae.model import VAE, centre, code_size
from dlcore.setting import whole
from dlcore.types import Batch, Key, Mean, Params, State

Sums = dict[str, Any]


def elbo_sums(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], keys: Key, where: Array, dims: int
) -> Sums:
    """Sums over the marked images of −ELBO from one draw each, of its divergence, and of activity.

    One key per image, `dims` the length of a code.
    """
    noise = jax.vmap(lambda key: vae.posterior.noise(key, (dims,)))(keys)
    terms = elbo_terms(vae, params, state, x, noise[None])
    kl = terms.divergence()
    return {
        "negative_elbo": Nats.of(terms.reconstruction[0] + kl, where),
        "kl": Mean.of(kl, where),
        "activity": activity(centre(vae, params, state, x), where),
    }


def iwae_sums(
    vae: VAE,
    params: Params,
    state: State,
    x: Float[Array, "b ..."],
    keys: Key,
    where: Array,
    *,
    samples: int,
    chunk: int,
) -> Sums:
    """Sums over the marked images of minus the importance-weighted bound, and of its squared Monte-Carlo error."""
    bound, error = log_likelihood(vae, params, state, x, keys, samples=samples, chunk=chunk)
    return {"negative_iwae": Nats.of(-bound, where), "error": Mean.of(jnp.square(error), where)}


class HeldOut(NamedTuple):
    """What a fit takes to measure: sums over a batch, the fuller ones of the test, and what becomes of them."""

    evaluate: Callable[[Params, State, Batch, Key], Sums]
    evaluate_test: Callable[[Params, State, Batch, Key], Sums] | None
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]


def held_out(
    vae: VAE, shape: Sequence[int], row_keys: Callable[[Key, Array], Key], *, samples: int, chunk: int
) -> HeldOut:
    """The protocol for images of `shape`: the ELBO from one draw, in the test the bound from `samples` draws besides.

    `row_keys(key, rows)` gives every row a key of its own, `chunk` draws of each image are decoded at once. Raises
    `ValueError` unless `chunk` divides `samples`.
    """
    samples, chunk = whole(samples, "held_out: samples", least=0), whole(chunk, "held_out: chunk")
    if samples % chunk:
        raise ValueError(f"iwae_chunk={chunk} must divide iwae_samples={samples}")
    dims = code_size(vae, jax.ShapeDtypeStruct((1, *shape), jnp.float32))

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Sums:
        keys = row_keys(key, batch["row"])
        return elbo_sums(vae, params, state, batch["image"], keys, batch["where"], dims)

    def evaluate_test(params: Params, state: State, batch: Batch, key: Key) -> Sums:
        keys, options = row_keys(jax.random.fold_in(key, 1), batch["row"]), {"samples": samples, "chunk": chunk}
        found = iwae_sums(vae, params, state, batch["image"], keys, batch["where"], **options)
        return evaluate(params, state, batch, key) | found

    def summary_of(sums: Mapping[str, Any]) -> dict[str, float]:
        return summarize(sums, math.prod(shape), discrete=vae.likelihood.discrete)

    return HeldOut(evaluate, evaluate_test if samples else None, summary_of)


def summarize(sums: Mapping[str, Any], dims: int, *, discrete: bool) -> dict[str, float]:
    """Metrics of added-up sums for images of `dims` sub-pixels; the ruler's only where pixels are `discrete`."""
    ruler = summary(sums.get("negative_iwae", sums["negative_elbo"]), dims)
    negative_elbo, kl = summary(sums["negative_elbo"], dims)["nll_nats"], float(sums["kl"].value())
    found = {"elbo_nats": -negative_elbo, "reconstruction_nats": negative_elbo - kl, "kl_nats": kl}
    found["active_units"] = float(active_units(sums["activity"]))
    if "negative_iwae" in sums:
        error = float(jnp.sqrt(sums["error"].value() / sums["error"].count))
        found |= {"iwae_nats": -ruler["nll_nats"], "iwae_nats_monte_carlo_error": error}
    return found | (ruler if discrete else {})
