"""How a Flax module is told whether it trains: by an argument of its call, or by being another module."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("train", "training", "is_training", "is_train", "enable_dropout", "update_stats"), True),
    **dict.fromkeys(("train_mode", "training_mode"), True),
    **dict.fromkeys(("deterministic", "use_running_average", "inference", "is_inference", "inference_mode"), False),
    **dict.fromkeys(("eval", "is_eval", "is_evaluating", "evaluate", "testing", "is_testing", "is_test"), False),
    **dict.fromkeys(("eval_mode", "evaluation_mode", "test", "test_mode"), False),
}
"""Names by which modules are told whether they train, each with its value in training."""

Values = dict[str, bool]


def call_flags(call: Callable[..., Any], flag: str | None) -> Callable[[bool], Values]:
    """`train -> {name: value}`: the keywords that tell `call` its mode, those in `FLAGS` or the one named.

    `flag` names another one; a leading "!" says that it is False in training. Raises `ValueError` if the call does not
    take it.
    """
    parameters = inspect.signature(call).parameters
    if flag is None:
        senses = {name: FLAGS[name] for name in parameters if name in FLAGS}
    else:
        name = flag.removeprefix("!")
        if name not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise ValueError(f"flag={flag!r}: the call takes {list(parameters)}; name one of these")
        senses = {name: FLAGS.get(name, True) if name == flag else False}
    return lambda train: {name: train is sense for name, sense in senses.items()}


def places(
    name: str, call: Callable[..., Any], without: Collection[str], positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as `call` takes them beside the arguments `without`, such as its mode: those behind these by keyword.

    Positional ones that have no place fill keyword-only ones in order. Raises `ValueError` unless the call, self aside,
    can be given these inputs.
    """
    _, *taken = inspect.signature(call).parameters.values()
    parameters = [p for p in taken if p.name not in without]
    positional, named = _by_keyword([p for p in parameters if p.name not in named], positional, named)
    try:
        inspect.Signature(parameters).bind(*positional, **{k: v for k, v in named.items() if k not in without})
    except TypeError as error:
        raise ValueError(
            f"{name}: the call does not fit its inputs, {error}; it takes {[p.name for p in parameters]}: pass what is "
            f"missing, or, if that says whether the module trains, name it: flag='name'"
        ) from None
    before = next((i for i, p in enumerate(taken) if p.name in without and p.kind is not p.KEYWORD_ONLY), len(taken))
    behind = zip((p.name for p in parameters[before:]), positional[before:], strict=False)
    return tuple(positional[:before]), {**dict(behind), **named}


def _by_keyword(
    open_to: Sequence[inspect.Parameter], positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The inputs with those that have no place among the parameters that are open put to keyword-only ones."""
    if any(p.kind is p.VAR_POSITIONAL for p in open_to):
        return positional, named
    room = len([p for p in open_to if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)])
    only = [p.name for p in open_to if p.kind is p.KEYWORD_ONLY]
    more = dict(zip(only, positional[room:], strict=False))
    return positional[: len(positional) - len(more)], {**more, **named}


def several(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names given as a sequence, or a single one."""
    return (names,) if isinstance(names, str) else tuple(names)


def by_mode(given: Any, kind: type, name: str) -> tuple[Callable[[bool], Any], bool]:
    """`train -> module`, and whether it differs by mode: from a module, a pair (training, evaluation) or a function.

    Raises `ValueError` for anything else, such as a module's class.
    """
    if isinstance(given, kind):
        return lambda train: given, False
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(module, kind) for module in given):
        return lambda train: given[0] if train else given[1], True
    if callable(given) and not inspect.isclass(given):
        return given, True
    raise ValueError(
        f"{name}: expected a module, a pair of modules (training, evaluation) or a function train -> module, "
        f"got {given!r}; make the module first, for example {name}(Net(10))"
    )


def mode_fields(module: Any) -> Values:
    """Fields of a dataclass that say whether it trains: the mode that is fixed when it is made."""
    if not dataclasses.is_dataclass(module):
        return {}
    values = {field.name: getattr(module, field.name, None) for field in dataclasses.fields(module)}
    return {name: value for name, value in values.items() if name in FLAGS and isinstance(value, bool)}


def config_fields(module: Any) -> dict[str, Values]:
    """The mode fields of the configurations that a module holds, by the name of the configuration."""
    return {name: found for name, config in vars(module).items() if name != "parent" and (found := mode_fields(config))}


def no_switch(name: str, module: Any, why: str) -> ValueError:
    """The error for a module that behaves differently in training, and that nothing tells when it trains."""
    return ValueError(
        f"{name}: {type(module).__name__} {why}, and nothing tells it whether it trains. Make that an argument of its "
        f"call, by a name such as train or deterministic (another one: flag='name'); or pass a pair of modules "
        f"(training, evaluation), or a function train -> module"
    )
