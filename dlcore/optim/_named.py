"""What optax offers, by name and with arguments as text (lecture 6–7)."""

import ast
import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import optax

PREFIX = "optax."


def named(name: str, arguments: Sequence[str] = (), **given: Any) -> Any:
    """What a function of optax makes, called by `name`: "optax.lion", "optax.contrib.prodigy", "optax.sgdr_schedule".

    `arguments` are texts as in a call, `b1=0.95`, whose values are Python literals, or words, which stand for
    themselves. Of `given` it gets those that it takes and that `arguments` leave open. Raises `ValueError` for an
    unknown name, with the nearest ones, and for arguments that it does not take.
    """
    function = _found(name)
    values = parsed(arguments)
    takes = inspect.signature(function).parameters
    if unknown := [key for key in values if key not in takes]:
        near = difflib.get_close_matches(unknown[0], takes, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{name} takes no argument {unknown[0]!r}; did you mean {near!r}? There are {', '.join(takes)}"
        )
    values = {key: value for key, value in given.items() if key in takes} | values
    required = [key for key, p in takes.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if missing := [key for key in required if key not in values]:
        raise ValueError(f"{name} needs {', '.join(missing)} as well; write them as arguments, {missing[0]}=VALUE")
    try:
        return function(**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name} does not take {', '.join(arguments) or 'no arguments'}: {error}") from error


def takes(name: str) -> tuple[str, ...]:
    """The arguments of the function of optax called `name`; raises `ValueError` for an unknown one."""
    return tuple(inspect.signature(_found(name)).parameters)


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """Arguments as they are written in a call, by name: `("b1=0.95", "nesterov=True")` and `("{5: 0.1", "9: 0.1}")`.

    They are joined by commas first, so that a list of settings that was cut at commas comes out whole. Raises
    `ValueError` for text that is none.
    """
    text = ",".join(arguments)
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("an argument has no name")
        return {keyword.arg: _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(f"arguments must be written NAME=VALUE,NAME=VALUE, got {text!r} ({error})") from error


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _found(name: str) -> Callable[..., Any]:
    known = _names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        raise ValueError(f"unknown name {name!r} of optax; did you mean {' or '.join(near)}?")
    return known[name]


def _names() -> dict[str, Callable[..., Any]]:
    """Functions of optax and optax.contrib by their full names."""
    rooms = {PREFIX: optax, f"{PREFIX}contrib.": optax.contrib}
    return {
        start + name: function
        for start, room in rooms.items()
        for name, function in vars(room).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
