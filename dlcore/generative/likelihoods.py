"""Decoder likelihoods by name, as a configuration asks for them (lecture 23)."""

from dlcore.generative import decoder
from dlcore.generative.decoder import FEW_LEVELS, Likelihood
from dlcore.lookup import lookup
from dlcore.setting import Number


def named(name: str, levels: int, colours: int, *, components: int = 1, std: Number = 0.1) -> Likelihood:
    """The likelihood of images with so many grey levels and colours.

    "bernoulli", "gaussian" (of deviation `std`), "gaussian_learned", "categorical", "logistic" (a discretised mixture
    of `components`) or "colour_mixture" (the same, shared by the colours of a pixel). Raises `ValueError` for another
    name.
    """
    table = {
        "bernoulli": decoder.bernoulli,
        "gaussian": lambda: decoder.gaussian(std),
        "gaussian_learned": decoder.gaussian_learned,
        "categorical": lambda: decoder.categorical(levels),
        "logistic": lambda: decoder.discretized_logistic(levels, components),
        "colour_mixture": lambda: decoder.colour_mixture(levels, components, colours),
    }
    return lookup("likelihood", name, table)()


def pixel_head(name: str, levels: int, colours: int, *, components: int = 1) -> Likelihood:
    """What a pixel network says of a sub-pixel: "mixture", "colour_mixture" or "categorical". Raises `ValueError` for
    another name."""
    kinds = {"mixture": "logistic", "colour_mixture": "colour_mixture", "categorical": "categorical"}
    if name not in kinds:
        raise ValueError(f"head must be one of {', '.join(kinds)}, got {name!r}")
    return named(kinds[name], levels, colours, components=components)


def usual(data: str, levels: int, colours: int) -> str:
    """The likelihood of images of a data set by name: of pixels as they are stored, but for the binarised benchmark.

    Grey images of the MNIST family, known by their name, are binarised, as in the literature.

    >>> usual("fashion_mnist", 256, 1), usual("digits", 17, 1), usual("photos", 256, 3)
    ('bernoulli', 'categorical', 'logistic')
    """
    if "mnist" in data.lower() and colours == 1:
        return "bernoulli"
    return "categorical" if levels <= FEW_LEVELS else "logistic"
