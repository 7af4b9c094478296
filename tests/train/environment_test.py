"""A run that goes on in another environment says what has changed."""

import json

import pytest

from dlcore.train import environment, stages

HERE = {"backend": "cpu", "convolutions": "by XLA", "packages": {"jax": "0.12", "numpy": "2.0"}, "command": ["train"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"command": ["train", "again"]}, []),
        ({"packages": {"jax": "0.12", "numpy": "2.1"}}, []),
        ({"convolutions": "by oneDNN"}, ["convolutions was by XLA, is by oneDNN"]),
        ({"backend": "gpu", "packages": {"jax": "0.13"}}, ["backend was cpu, is gpu", "jax was 0.12, is 0.13"]),
    ],
)
def test_what_the_bits_depend_on_is_compared(change, said):
    assert environment.changes(HERE, {**HERE, **change}) == said


def test_an_environment_that_said_less_is_not_taken_for_another():
    assert environment.changes({"command": []}, HERE) == []


def test_it_is_said_once_when_a_run_goes_on(tmp_path, capsys):
    path = tmp_path / "environment.json"
    stages.note_environment(path)
    held = json.loads(path.read_text())
    stages.note_environment(path)
    assert not capsys.readouterr().out
    path.write_text(json.dumps({**held, "packages": {**held["packages"], "jaxlib": "0.1"}}))
    stages.note_environment(path)
    assert f"jaxlib was 0.1, is {held['packages']['jaxlib']}" in capsys.readouterr().out
    stages.note_environment(path)
    assert not capsys.readouterr().out
