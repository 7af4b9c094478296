"""Names of settings: what was probably meant by one that there is not."""

import dataclasses
from typing import Any

from dlcore.lookup import nearest

ALIASES = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "step_size": "learning_rate",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "eps": "epsilon",
    "opt": "optimizer",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "scheduler": "schedule",
    "warmup": "warmup_steps",
    "clip": "clip_norm",
    "grad_clip": "clip_norm",
    "bs": "batch_size",
    "batch": "batch_size",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_epochs": "epochs",
    "num_steps": "steps",
    "max_steps": "steps",
    "iterations": "steps",
    "early_stopping": "patience",
    "num_workers": "workers",
    "precision": "dtype",
    "act": "activation",
    "nonlinearity": "activation",
    "drop": "dropout",
    "dropout_rate": "dropout",
    "arch": "model",
    "network": "model",
    "net": "model",
    "hidden_size": "hidden",
    "z_dim": "latent",
    "latent_dim": "latent",
    "ema_decay": "ema",
    "grad_accum": "microbatches",
    "accumulate": "microbatches",
    "smoothing": "label_smoothing",
}
"""What other programs call a setting."""


def unknown_setting(config: Any, path: str) -> str | None:
    """What is to be said of a dotted `path` that is no setting of `config`; None for one that is."""
    known = list(paths(config))
    parts = path.split(".")
    if path in known or any(".".join(parts[:i]) in known and _is_leaf(config, parts[:i]) for i in range(1, len(parts))):
        return None
    group = next(g for i in range(len(parts) - 1, -1, -1) if (g := ".".join(parts[:i])) in ("", *known))
    above = f"{group}." if group else ""
    here = [
        name.removeprefix(above) for name in known if name.startswith(above) and "." not in name.removeprefix(above)
    ]
    meant = _meant(path.removeprefix(above), here, above, known)
    return f"unknown setting {path!r}; {f'did you mean {meant!r}? T' if meant else 't'}here are {', '.join(here)}"


def paths(config: Any, above: str = "") -> list[str]:
    """The dotted paths of all settings and groups of settings of a dataclass."""
    found = []
    for field in dataclasses.fields(config):
        found.append(above + field.name)
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            found += paths(value, f"{above}{field.name}.")
    return found


def _meant(name: str, here: list[str], above: str, known: list[str]) -> str | None:
    """The path of what `name` stands for in its group, or anywhere; else of the nearest name in the group."""
    last = name.rpartition(".")[2]
    leaves = {path.rpartition(".")[2]: path for path in reversed(known)}
    for wanted in (last, ALIASES.get(last.lower(), last)):
        if wanted in here:
            return above + wanted
        if wanted in leaves:
            return leaves[wanted]
    near = nearest(name, here)
    return above + near if near else None


def _is_leaf(config: Any, parts: list[str]) -> bool:
    for part in parts:
        config = getattr(config, part)
    return not dataclasses.is_dataclass(config)
