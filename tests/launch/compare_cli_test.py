"""Several seeds in one command, and the command that compares runs."""

import pytest
from absl import flags
from absl.testing import flagsaver

from launch import compare, request
from tests.train.compare_test import written


def test_comparing_writes_table_figures_and_file(tmp_path, capsys):
    for seed in (0, 1):
        written(tmp_path / f"run{seed}", seed, 0.9 + 0.01 * seed)
    with flagsaver.flagsaver():
        flags.FLAGS(["compare", f"--out={tmp_path}/x/both"])
        compare.main([str(tmp_path / "run0"), str(tmp_path / "run1")])
        with pytest.raises(ValueError, match="name the run folders"):
            compare.main([])
    assert "0.905 ± 0.0071" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"both.csv", "both.png", "both-curves.png"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--experiment=classify", "--seeds=0,0"], "different whole numbers"),
        (["--experiment=classify", "--seeds=0,x"], "different whole numbers"),
        (["--experiment=classify", "--seeds=0,1", "--seed=2"], "not both"),
        (["--seeds=0,1"], "pass --experiment"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(given, message):
    with flagsaver.flagsaver():
        flags.FLAGS(["train", *given])
        with pytest.raises(ValueError, match=message):
            list(request.runs_from_flags())


def test_every_seed_has_a_folder_of_its_own(tmp_path):
    with flagsaver.flagsaver():
        flags.FLAGS(["train", "--experiment=classify", "--preset=mlp", "--seeds=0,3"])
        assert [run.folder.name for run in request.runs_from_flags()] == [
            "classify-digits-mlp",
            "classify-digits-mlp-seed3",
        ]
    with flagsaver.flagsaver():
        flags.FLAGS(["train", "--experiment=classify", "--preset=mlp", "--seeds=0,3", f"--workdir={tmp_path}"])
        assert [(run.folder.name, run.seed) for run in request.runs_from_flags()] == [("seed0", 0), ("seed3", 3)]
