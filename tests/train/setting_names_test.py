"""A setting that there is not is answered with what was meant, or with nothing but what there is."""

from dataclasses import dataclass, field

import pytest

from dlcore.optim import OptimizerConfig
from dlcore.train import LoopConfig, override


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = ()
    dropout: float = 0.0
    floor: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


MEANT = {
    "optimizer.lr": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "train.lr": "optimizer.learning_rate",
    "batch_size": "train.batch_size",
    "batch": "train.batch_size",
    "epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "train.step": "train.steps",
    "train.max_steps": "train.steps",
    "wd": "optimizer.weight_decay",
    "optimizer.weightdecay": "optimizer.weight_decay",
    "optim.lr": "optimizer.learning_rate",
    "opt": "optimizer",
    "width": "widths",
    "num_workers": "train.workers",
    "training.epochs": "train.epochs",
}


@pytest.mark.parametrize("path", MEANT)
def test_what_was_meant_is_said(path):
    with pytest.raises(ValueError, match=f"unknown setting '{path}'; did you mean '{MEANT[path]}'\\? There are "):
        override(Config(), path, "1")


@pytest.mark.parametrize("path", ["colour", "optimizer.x", "train.tea", "zzz.lamp"])
def test_nothing_is_guessed_where_nothing_is_near(path):
    with pytest.raises(ValueError, match=f"unknown setting '{path}'; there are ") as caught:
        override(Config(), path, "1")
    listed = str(caught.value).split("there are ")[1].split(", ")
    group = {"optimizer.x": OptimizerConfig, "train.tea": LoopConfig}.get(path, Config)
    assert listed == [*group.__dataclass_fields__], "those of the group, in order"


def test_what_there_is_is_set_and_groups_and_single_settings_are_told_apart():
    assert override(Config(), "train.epochs", "3").train.epochs == 3 and override(Config(), "floor", "2").floor == 2
    with pytest.raises(ValueError, match="'train' is a group of settings; set one of"):
        override(Config(), "train", "3")
    with pytest.raises(ValueError, match="'widths' is a single setting; write --set=widths=VALUE"):
        override(Config(), "widths.first", "3")
