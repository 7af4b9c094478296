"""What people write for a place: paths of this machine, `~` spelled out; an address is refused, and makes no folder."""

from pathlib import Path

import pytest

from dlcore import tensor_files
from dlcore.addresses import local
from dlcore.data import DataError, load
from dlcore.train import run, session

ADDRESSES = (
    "gs://bucket/run",
    "s3://bucket/run",
    "GS:/bucket/run",
    "hdfs://host/run",
    "https://host/run",
    "file:///run",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_wherever_it_is_written_and_leaves_nothing(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: local("folder", address),
        lambda: session.train("classify", preset="mlp", folder=address),
        lambda: session.open_run(address),
        lambda: run.named("classify", preset="mlp", folder=address),
        lambda: tensor_files.load(address),
    ):
        with pytest.raises(ValueError, match=f"{address} is an address, not a path of this machine"):
            call()
    for name in (f"folder:{address}", f"npz:{address}", f"idx:{address}", f"segments:{address}"):
        with pytest.raises(DataError, match="is an address"):
            load(name)
    with pytest.raises(DataError, match=f"data_dir={address} is an address"):
        load("fashion_mnist", data_dir=address)
    assert not list(tmp_path.iterdir())


def test_paths_of_this_machine_are_taken_as_they_are_and_a_tilde_is_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert local("folder", "~/runs/a") == Path("/home/someone/runs/a")
    for path in ("runs/a", "/runs/a", "C:run", "a:b/c", "./gs", Path("x/y")):
        assert local("folder", path) == Path(path)
    with pytest.raises(DataError, match=r"/home/someone/x.npz does not exist"):
        load("npz:~/x.npz")
    for nothing in ("", "  "):
        with pytest.raises(ValueError, match="folder is empty"):
            local("folder", nothing)
