"""Posteriors and priors by name, as a configuration asks for them (lecture 24)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dlcore.generative.flow import MAF, RealNVP
from dlcore.generative.vae import posterior as posteriors
from dlcore.generative.vae import prior as priors
from dlcore.generative.vae.categorical import annealed, categorical, concrete
from dlcore.generative.vae.posterior import Posterior
from dlcore.generative.vae.prior import Prior
from dlcore.lookup import lookup
from dlcore.types import Bijector, Model


@dataclass(frozen=True)
class CodesConfig:
    """The settings of posteriors and priors that have some."""

    flow: str = "maf"
    """Of a flow posterior or prior: "maf" (masked autoregressive; as a posterior that is an IAF) or "coupling"."""
    steps: int = 4
    """Of a flow."""
    widths: tuple[int, ...] = (256,)
    """Hidden widths of the conditioners of a flow."""
    context: int = 40
    """Numbers that the encoder tells a flow posterior, beside μ and log σ."""
    pseudo_inputs: int = 200
    """Of the prior "vamp"."""
    categories: int = 10
    """Of each variable of a categorical code."""
    temperatures: tuple[float, ...] = (1.0, 0.5)
    """Of relaxed codes: at the start, and from half of the training on."""


class Codes(NamedTuple):
    """A posterior and a prior, and what networks must know of them."""

    posterior: Posterior
    prior: Prior
    outputs: int
    """How many numbers the encoder has to give."""


def codes(
    posterior: str,
    prior: str,
    latent: int,
    config: CodesConfig,
    conditioners: Mapping[str, Callable[..., Model]],
    *,
    annealing: int = 0,
) -> Codes:
    """Codes of `latent` variables with a posterior "normal", "laplace", "logistic", "flow", "concrete" or "categorical"
    under a prior "standard", "vamp" or "flow".

    `conditioners` are networks for both kinds of flow: "maf" as `dlcore.networks.MADE`, "coupling" as
    `dlcore.networks.MLPConditioner`. The temperature of relaxed codes falls over `annealing` steps. Raises
    `ValueError` for unknown names.
    """
    discrete = posterior in ("concrete", "categorical")
    if len(config.temperatures) != 2:
        raise ValueError(f"temperatures={config.temperatures} must be two numbers, at the start and in the end")
    made = {
        "normal": posteriors.normal,
        "laplace": posteriors.laplace,
        "logistic": posteriors.logistic,
        "flow": lambda: posteriors.flow(_flow(config, latent, conditioners, conditional=True), latent),
        "concrete": lambda: concrete(config.categories, annealed(*config.temperatures, annealing)),
        "categorical": lambda: categorical(config.categories),
    }
    under = {
        "standard": (lambda: priors.uniform(config.categories)) if discrete else priors.standard_normal,
        "vamp": lambda: priors.vamp(config.pseudo_inputs),
        "flow": lambda: priors.flow_prior(_flow(config, latent, conditioners, conditional=False)),
    }
    chosen, prior_chosen = lookup("posterior", posterior, made)(), lookup("prior", prior, under)()
    context = config.context if posterior == "flow" else 0
    return Codes(chosen, prior_chosen, latent * config.categories if discrete else 2 * latent + context)


def _flow(
    config: CodesConfig, dims: int, conditioners: Mapping[str, Callable[..., Model]], *, conditional: bool
) -> Bijector:
    """A flow of points [b, dims], told a context where it is conditional."""
    network = lookup("flow", config.flow, conditioners)
    options = {"steps": config.steps, "conditional": conditional}
    if config.flow == "maf":
        made = lambda shape, outputs: network(dims, config.widths, outputs, conditional=conditional)  # noqa: E731
        return MAF(dims, made, **options)
    return RealNVP((dims,), lambda shape, outputs: network(config.widths, outputs, conditional=conditional), **options)
