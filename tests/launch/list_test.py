"""What can be trained is listed: all systems, and every setting with its type, default and description."""

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

import experiments
from dlcore.train import LoopConfig, override
from launch import cli, settings
from launch import list as listing

ROOT = Path(__file__).parents[2]
NAMES = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if not m.name.startswith("_"))


def said(capsys, *given):
    with flagsaver.flagsaver():
        flags.FLAGS(["list", *given])
        listing.main()
    return capsys.readouterr().out


def test_every_system_is_listed_with_its_presets(capsys):
    out = said(capsys)
    lines = [line.strip() for line in out.splitlines()]
    for name in NAMES:
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{name} ")]
        assert lines[at].endswith(".") and "smoke" in lines[at + 1] and "default" in lines[at + 1]
    assert "--preset=smoke|default|full|mlp|mlp_full|features|speed94|speed95|speed96" in lines
    assert all(data in out for data in ("digits", "fashion_mnist", "folder:DIR", "two_moons", "tfds:NAME"))


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_presets_are_those_of_the_module(name):
    module = importlib.import_module(f"experiments.{name}")
    assert listing.source(name).assigned("PRESETS") == tuple(module.PRESETS)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_imported_class(name):
    """The source is read and not imported: beside what Python itself says of the dataclass."""
    expected = list(imported(importlib.import_module(f"experiments.{name}").Config))
    assert [tuple(one[:3]) for one in settings.settings(listing.source(name))] == expected


def imported(config, above=""):
    """(path, type, default) of every setting of a config class or of a config."""
    kinds = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(kinds)
    for one in dataclasses.fields(kinds):
        kind, path = hints[one.name], above + one.name
        own = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        value = own if config is kinds else getattr(config, one.name)
        if dataclasses.is_dataclass(kind):
            yield from imported(value, f"{path}.")
            continue
        name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
        if isinstance(value, tuple):
            yield path, name, ",".join(map(str, value)) or "(empty)"
        else:
            yield path, name, str(value).lower() if isinstance(value, bool) else str(value) or '""'


@dataclass(frozen=True)
class Config:
    """A config."""

    widths: tuple[int, ...] = ()
    """How wide.

    Empty: not at all."""
    flip: bool = False
    name: str = ""
    """A name."""
    rate: float | None = None
    train: LoopConfig = field(default_factory=lambda: LoopConfig(batch_size=7))


def test_settings_are_read_with_types_defaults_and_descriptions():
    found = {path: rest for path, *rest in settings.settings(settings.read(Path(__file__)))}
    assert found["widths"] == ["tuple[int, ...]", "(empty)", "How wide.\n\nEmpty: not at all."]
    assert found["flip"] == ["bool", "false", ""] and found["name"] == ["str", '""', "A name."]
    assert found["rate"] == ["float | None", "None", ""]
    assert found["train.steps"] == ["int", "0", "Number of steps; 0 means `epochs` epochs."]
    assert found["train.batch_size"] == ["int", "7", ""], "the config's own default, not the group's"
    for path, (_, default, _) in found.items():
        if default not in ("(empty)", '""'):
            assert override(Config(), path, default) == Config()


def test_the_settings_of_a_system_are_listed(capsys):
    out = said(capsys, "--experiment=classify")
    assert "Image classification" in out and "--preset=smoke|default" in out
    assert "  optimizer.learning_rate: float = " in out and "  label_smoothing: float = 0.0" in out
    assert 'model: str = cnn\n      "mlp", "cnn", or an architecture by name' in out
    assert max(map(len, out.splitlines())) <= 120
    with pytest.raises(ValueError, match="did you mean 'classify'"):
        said(capsys, "--experiment=clasify")


PROGRAMS = ("train", "eval", "predict", "sample", "report", "export", "compare", "list")
HELP = """
import os, runpy, sys
from launch import request, runtime

folder, *programs = sys.argv[1:]
for program in programs:
    if os.fork() == 0:
        for number, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{program}.{kind}", os.O_WRONLY | os.O_CREAT), number)
        sys.argv = [program, "--help"]
        runpy.run_module(f"launch.{program}", run_name="__main__", alter_sys=True)
        sys.exit()
    assert os.wait()[1] == 0, program
"""
"""Starts programs as `python -m` does, from one process that has loaded what they share: that takes seconds."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What every program says of itself, on stdout and stderr."""
    folder = tmp_path_factory.mktemp("help")
    subprocess.run([sys.executable, "-c", HELP, folder, *PROGRAMS], cwd=ROOT, timeout=240, check=True)
    return {name: [(folder / f"{name}.{kind}").read_text() for kind in ("out", "err")] for name in PROGRAMS}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_tells_what_a_program_is_and_all_flags_that_it_takes(program, told):
    out, error = told[program]
    module = importlib.import_module(f"launch.{program}")
    assert out.startswith(module.__doc__.strip().splitlines()[0])
    assert "--cpu_devices" in out and not error
    assert ("--workdir" in out) == (program not in ("compare", "list"))


HEAVY = ("jax", "numpy", "dlcore", "matplotlib", "orbax", "flax")


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("program", "given"),
    [
        ("list", ()),
        ("list", ("--experiment=vae",)),
        *((verb, ("--help",)) for verb in cli.VERBS),
    ],
)
def test_lists_and_help_answer_at_once(program, given):
    """Nothing heavy is imported, and little time of the processor is used, whatever else runs on the machine."""
    code = f"""
import atexit, json, resource, runpy, sys
def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    loaded = sorted(set({HEAVY!r}) & set(sys.modules))
    print(json.dumps([used.ru_utime + used.ru_stime, loaded]))
atexit.register(tell)
sys.argv = ["launch.{program}", *{list(given)!r}]
runpy.run_module("launch.{program}", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )
    seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    assert not loaded and seconds < 1.0


def test_the_script_tells_its_verbs():
    done = subprocess.run([ROOT / "launch/local.sh", "--help"], capture_output=True, text=True, check=True)
    verbs = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    source = (ROOT / "launch/local.sh").read_text(encoding="utf-8")
    assert set(verbs) == set(source.split('verbs="')[1].split('"')[0].split())
