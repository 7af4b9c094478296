"""Names to things: one message for every name that is not known."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def choices(name: str, names: Iterable[str]) -> str:
    """What there is instead of `name`, for a message: the nearest, if one is near, and all."""
    known = list(names)
    near = nearest(name, known)
    listed = f"here are {', '.join(known)}"
    return f"did you mean {near!r}? T{listed}" if near else f"t{listed}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that `name` was probably meant to be: a likely misspelling, or one with another character; else None.

    >>> nearest("gren", ["red", "green"]), nearest("p3", ["snr", "p2"]), nearest("lr", ["floor", "decay"])
    ('green', 'p2', None)
    """
    known = list(names)
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return near[0]
    alike = (n for n in known if len(n) == len(name) > 1 and sum(a != b for a, b in zip(n, name, strict=True)) == 1)
    return next(alike, None)


def lookup(what: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; raises `ValueError` with the nearest name and all there are, if `name` is none of them.

    >>> lookup("colour", "gren", {"red": 1, "green": 2})
    Traceback (most recent call last):
    ValueError: unknown colour 'gren'; did you mean 'green'? There are red, green
    """
    check_name(what, name, table)
    return table[name]


def check_name(what: str, name: str, names: Iterable[str]) -> None:
    """Raise `ValueError`, as `lookup` does, unless `name` is among `names`."""
    if name not in (known := list(names)):
        raise ValueError(f"unknown {what} {name!r}; {choices(name, known)}")
