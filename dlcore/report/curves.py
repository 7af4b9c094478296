"""Curves of a run: which quantities share a panel, and which panels come first."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Points: TypeAlias = list[tuple[float, float]]
"""(step, value)."""
Panels: TypeAlias = dict[str, dict[tuple[str, str], Points]]
"""By quantity the points of every (split, variant) of it; the variant is "" where there is one only."""

FAMILIES = ("loss", "accuracy", "error", "nll_nats", "mse", "bias_squared", "variance")
"""Quantities that several networks of one run have: `accuracy_he`, `accuracy_zeros`, …"""
FEW = 9
"""Panels that come first."""


def read(rows: Sequence[Mapping[str, float]]) -> Panels:
    """What the rows of a `metrics.jsonl` tell of every quantity, train and validation together.

    Three or more quantities of a family, such as `accuracy_he`, are variants of one.
    """
    found: dict[str, dict[str, Points]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and value is not None:
                split, slash, quantity = name.partition("/")
                split, quantity = (split, quantity) if slash else ("", split)
                found.setdefault(quantity, {}).setdefault(split, []).append((row["step"], value))
    family = {name: next((f for f in FAMILIES if name.startswith(f"{f}_")), name) for name in found}
    members = list(family.values())
    panels: Panels = {}
    for name, splits in found.items():
        base = family[name] if members.count(family[name]) > 2 else name
        for split, points in splits.items():
            panels.setdefault(base, {})[split, name.removeprefix(base).lstrip("_")] = points
    return panels


def ordered(panels: Panels) -> Panels:
    """The same, the loss first, then what training and validation both tell, then validation, then training alone."""

    def rank(name: str) -> tuple[bool, int]:
        splits = {split for split, _ in panels[name]}
        return name != "loss", 0 if len(splits) > 1 else 1 if "validation" in splits else 2

    return {name: panels[name] for name in sorted(panels, key=rank)}


def first(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """The rows with the quantities of the panels that come first."""
    return _kept(rows, list(ordered(read(rows)))[:FEW])


def rest(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """The rows with the quantities of all other panels; empty where there are none."""
    return _kept(rows, list(ordered(read(rows)))[FEW:])


def _kept(rows: Sequence[Mapping[str, float]], chosen: Sequence[str]) -> list[Mapping[str, float]]:
    names = {
        (f"{split}/" if split else "") + (f"{name}_{variant}" if variant else name)
        for name, lines in read(rows).items()
        if name in chosen
        for split, variant in lines
    }
    found = [{k: v for k, v in row.items() if k == "step" or k in names} for row in rows]
    return [row for row in found if len(row) > 1]
