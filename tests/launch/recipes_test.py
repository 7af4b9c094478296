"""The suite of the speed recipes: three times, registered seeds, and what is said of them."""

import json
import time

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import _speed
from launch import request
from launch.speed import recipes


def ended(seed, *, seconds=3.0, process=9.0, digest="a", accuracy=0.9):
    return {
        "seed": seed,
        "train_seconds": seconds,
        "process_seconds": process,
        "state_sha256": digest,
        "accuracy": accuracy,
    }


def test_a_recipe_in_words():
    runs = [{"start": "cold", **ended(7, process=40.0)}]
    runs += [{"start": "warm", **ended(7 + i, seconds=2.0 + i, accuracy=0.94 + i / 100)} for i in range(3)]
    told = "\n".join(recipes.lines("speed94", runs))
    assert "accuracy 0.9500 ± 0.0100 over 3 seeds" in told and "seed 7 twice: equal to the bit" in told
    assert "training 3.00 s, warm process 9.0 s, cold process 40.0 s" in told
    told = "\n".join(recipes.lines("speed94", [*runs[:1], {"start": "warm", **ended(7, digest="b")}]))
    assert "seed 7 twice: NOT equal" in told and "over 1 seeds" in told


def test_runs_come_cold_once_then_warm_and_the_budget_ends_them(tmp_path, monkeypatch, capsys):
    came, clock = [], iter(range(0, 1000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    def trained(what, place, run):
        came.append((what[-2:], run))
        return ended(int(what[-1].partition("=")[2]))

    monkeypatch.setattr(recipes, "trained", trained)
    recipes.recipes(["speed95"], folder=tmp_path, tiny=True, budget=350.0, turns=3)
    first, second, third = _speed.SEEDS[:3]
    assert [run for _, run in came] == [f"cold-{first}", f"warm-{first}", f"warm-{second}"]
    assert came[0][0] == ["--preset=speed95", f"--seed={first}"]
    assert f"seed {third}, warm: left out, the budget of 350 s is spent" in capsys.readouterr().out
    kept = json.loads((tmp_path / "recipes.json").read_text())["recipes"]["speed95"]
    assert [run["start"] for run in kept] == ["cold", "warm", "warm"]
    with pytest.raises(ValueError, match="did you mean 'speed94'"):
        recipes.recipes(["sped94"], folder=tmp_path, tiny=True, budget=1.0, turns=1)


@pytest.mark.slow
def test_a_training_that_fails_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'widhts'; did you mean 'widths'"):
        recipes.trained(["--experiment=classify", "--set=widhts=3"], tmp_path, "run")


def test_registered_seeds_of_a_preset():
    with flagsaver.flagsaver():
        flags.FLAGS(["test", "--experiment=classify", "--preset=speed95", "--seeds=registered"])
        assert request.registered() == [str(seed) for seed in _speed.SEEDS]
        assert [made.seed for made, _ in zip(request.runs_from_flags(), range(2), strict=False)] == [*_speed.SEEDS[:2]]
    for experiment, told in (("classify", "speed94, speed95, speed96 of classify have some"), ("vae", "vae has no")):
        with flagsaver.flagsaver(), pytest.raises(ValueError, match=f"preset 'default' has no registered.*{told}"):
            flags.FLAGS(["test", f"--experiment={experiment}", "--seeds=registered"])
            next(request.runs_from_flags())


@pytest.mark.slow
def test_cold_and_warm_end_alike(tmp_path, capsys):
    recipes.recipes(["speed94"], folder=tmp_path, tiny=True, budget=500.0, turns=1)
    cold, warm = json.loads((tmp_path / "recipes.json").read_text())["recipes"]["speed94"]
    assert cold["state_sha256"] == warm["state_sha256"]
    assert cold["programs"]["cached"] < warm["programs"]["cached"] <= warm["programs"]["needed"]
    assert 0 < warm["train_seconds"] < warm["process_seconds"] < cold["process_seconds"]
    assert "training" in capsys.readouterr().out
