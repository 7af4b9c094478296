"""Frozen dataclass configs: typed overrides, JSON and back, and the loop's own settings."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dlcore.train._setting_names import unknown_setting

C = TypeVar("C")

FEW = 10_000
"""Training splits below this size are learnt by heart within the budget of a preset."""


@dataclass(frozen=True)
class LoopConfig:
    """How long to train, and how often to look. Cadences in epochs may be fractions."""

    batch_size: int = 128
    epochs: float = 10.0
    steps: int = 0
    """Number of steps; 0 means `epochs` epochs."""
    log_every: int = 50
    """Steps between two lines of metrics."""
    eval_every: float = 1.0
    """Epochs between two evaluations on the validation split; 0 only at the end."""
    eval_batch_size: int = 500
    checkpoint_seconds: float = 15.0
    """Seconds between two checkpoints: at most so much work is lost. The best and the last are saved in any case."""
    keep: int = 2
    """How many of the newest checkpoints stay; the best stays as well."""
    patience: int = 0
    """Stop after so many evaluations without improvement, and end in any case with the best parameters; 0 neither."""
    steps_per_dispatch: int = 0
    """Steps per call into the compiled program; 0 chooses."""
    whole_epochs: bool = False
    """An epoch per call, if data lies on the device and a loop there is as fast as one step after another: not with
    convolutions on a CPU."""
    pipeline: str = "auto"
    """"resident" (data on the device), "grain" (streamed) or "auto"."""
    init_from: str = ""
    """A `.safetensors` file of weights to start from, as `launch.export` writes it; names and shapes must agree."""
    init_fresh: tuple[str, ...] = ()
    """Patterns of params and state that start anew in spite of `init_from`, such as "dense_2/**"."""
    workers: int = 0
    """Processes that read and decode ahead for the grain pipeline; 0 for threads of this one."""
    sharding: str = "replicate"
    """"replicate" or "fsdp": where params and optimiser states live."""

    def steps_per_epoch(self, examples: int) -> int:
        """Full batches in an epoch of `examples`."""
        if not 1 <= self.batch_size <= examples:
            raise ValueError(
                f"train.batch_size={self.batch_size}, but {examples} examples to train on; use 1 to {examples}"
            )
        return examples // self.batch_size

    def total_steps(self, examples: int) -> int:
        """Length of the run in steps."""
        total = self.steps or round(self.epochs * self.steps_per_epoch(examples))
        if total < 1:
            raise ValueError(f"train.steps={self.steps} and train.epochs={self.epochs} make no step; raise one of them")
        return total

    def scaled(self, length: float, every: float = 1.0) -> "LoopConfig":
        """The same loop `length` times as long, with `every` times as many steps between two evaluations."""
        patience = math.ceil(self.patience * length / every) if every else 0
        epochs, eval_every = length * self.epochs, every * self.eval_every
        return dataclasses.replace(self, epochs=epochs, eval_every=eval_every, patience=patience)

    def describe(self, examples: int) -> str:
        """The length of the run for the reader: `4,290 steps of 128 = 10 epochs of 55,000 examples`."""
        total = self.total_steps(examples)
        epochs = total / self.steps_per_epoch(examples)
        count = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
        return f"{total:,} steps of {self.batch_size} = {count} epochs of {examples:,} examples"


def budget(examples: int, *, batch_size: int, steps: int, every: int, restore_best: bool = False) -> LoopConfig:
    """The loop of a preset: so many steps whatever the size of the data set, evaluated `every` so many.

    A preset that counted the epochs of one data set would hardly train on a small one and hardly end on a large one.
    The config itself counts epochs of the `examples` at hand, so that other epochs or batches can be asked for. A batch
    larger than the training split is halved until it fits. `every` 0 evaluates at the end only; with `restore_best`
    nothing stops early, and the run ends with the parameters that were best on the validation split (lecture 11.1).
    """
    while batch_size > max(examples, 1):
        batch_size //= 2
    epoch = LoopConfig(batch_size).steps_per_epoch(examples)
    patience = math.ceil(steps / every) if restore_best and every else 0
    return LoopConfig(batch_size, epochs=steps / epoch, eval_every=every / epoch, patience=patience)


def override(config: C, path: str, text: str) -> C:
    """`config` with the field at the dotted `path` set from `text`, read as the field's type.

    Raises `ValueError` for an unknown field (naming what was probably meant) or a text of another type.
    """
    if (told := unknown_setting(config, path)) is not None:
        raise ValueError(told)
    name, _, rest = path.partition(".")
    hints = typing.get_type_hints(type(config))
    current = getattr(config, name)
    if dataclasses.is_dataclass(current):
        if not rest:
            fields = ", ".join(f"{name}.{field.name}" for field in dataclasses.fields(current))
            raise ValueError(f"{name!r} is a group of settings; set one of {fields}")
        return dataclasses.replace(config, **{name: override(current, rest, text)})
    if rest:
        raise ValueError(f"{name!r} is a single setting; write --set={name}=VALUE")
    return dataclasses.replace(config, **{name: _parse(text, hints[name], name)})


def _parse(text: str, kind: Any, name: str) -> Any:
    options = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        if text.lower() in ("none", "null"):
            return None
        return _parse(text, next(option for option in options if option is not type(None)), name)
    if typing.get_origin(kind) is tuple:
        return tuple(_parse(item.strip(), options[0], name) for item in text.split(",") if item.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return text.lower() in ("true", "1")
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"{name} must be of type {kind.__name__}, got {text!r}") from None
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {text!r}")
    return value


def to_json(config: Any) -> dict[str, Any]:
    """Plain JSON values of a config, nested like it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[C], values: dict[str, Any]) -> C:
    """The config of type `kind` that `to_json` turned into `values`; raises `ValueError` if they don't fit."""
    hints = typing.get_type_hints(kind)
    if unknown := sorted(values.keys() - hints.keys()):
        raise ValueError(f"{kind.__name__} has no setting {', '.join(unknown)}; the run was made by another version")

    def read(name: str, value: Any) -> Any:
        if dataclasses.is_dataclass(hints[name]):
            return from_json(hints[name], value)
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: read(name, value) for name, value in values.items()})


def completed(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values of a config like `config`, with the defaults of the settings that are not among them.

    Those are settings that the version of dlcore which wrote the values did not have.
    """
    found = dict(values)
    for field in dataclasses.fields(config):
        own = getattr(config, field.name)
        if dataclasses.is_dataclass(own) and isinstance(values.get(field.name), dict):
            found[field.name] = completed(own, values[field.name])
        elif field.name not in values:
            found |= _default(field)
    return found


def _default(field: dataclasses.Field) -> dict[str, Any]:
    """The default of a setting by its name, as JSON; nothing where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return {}
    return {field.name: json.loads(json.dumps(value, default=dataclasses.asdict))}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two nested JSON values differ, one line each: `config.train.epochs: 10.0 in the folder, 20.0 asked for`."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        inner = [differences(old.get(n), new.get(n), f"{path}.{n}" if path else n) for n in names]
        return [line for lines in inner for line in lines]
    return [] if old == new else [f"{path}: {old} in the folder, {new} asked for"]
