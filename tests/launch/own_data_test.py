"""The README's walk through data of one's own, word for word: its program makes the data, its commands train."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("### Data of your own")[1].split("\n## ")[0]
(PROGRAM,) = re.findall(r"```python\n(.*?)```", SECTION, re.S)
(SHELL,) = re.findall(r"```bash\n(.*?)```", SECTION, re.S)
LINES = [shlex.split(line, comments=True) for line in SHELL.splitlines()]
COMMANDS = {
    f"{line[2].partition('=')[2]}-{line[3].partition('=')[2]}": line[2:]
    for line in LINES
    if line[0] == "./launch/local.sh" and "tfds:" not in line[3]
}
SAID = {
    "vae-npz:plain.npz": "data: there are no labels: image alone can train systems that need none",
    "classify-npz:named.npz": "data: labels are texts: 2 classes in the order of their names, even, odd",
    "pca-folder:pictures": "data: there are no folders of classes: 300 images without labels",
    "classify-two_moons": "step 2 ",
}
FIGURES = {
    "vae-npz:plain.npz": "gallery/figures/reconstructions.png",
    "classify-npz:named.npz": "errors/figures/mistakes.png",
    "pca-folder:pictures": "components/figures/components.png",
    "classify-two_moons": "errors/figures/regions.png",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=place, check=True, timeout=120)
    return place


def test_the_readme_has_an_example_of_each():
    assert COMMANDS.keys() == SAID.keys() == FIGURES.keys()
    assert any("train.workers" in word for line in LINES for word in line) and "crop=" in SHELL
    assert "download_and_prepare" in SHELL


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_data_of_ones_own_trains(folder, name):
    flags = [*COMMANDS[name], "--set=train.steps=2", f"--workdir=run-{name.replace(':', '-')}"]
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    run = folder / f"run-{name.replace(':', '-')}"
    assert SAID[name] in done.stdout and "failed" not in done.stderr, done.stdout + done.stderr
    assert (run / FIGURES[name]).exists() and (run / "report.html").exists()


UNLABELLED = ("autoencoder", "diffusion", "flow", "gan", "pixelcnn")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("system", UNLABELLED)
def test_every_system_that_needs_no_labels_trains_without(folder, system):
    flags = [f"--experiment={system}", "--data=npz:plain.npz", "--preset=smoke", "--set=train.steps=2"]
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", *flags, f"--workdir=plain-{system}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0 and "failed" not in done.stderr, done.stderr


LABELLED = (
    "bagging", "bias_variance", "capacity", "classify", "generative_classifier", "hashing", "initialisation",
    "optimizers", "segment", "stacked", "transfer",
)  # fmt: skip


@pytest.mark.parametrize("system", LABELLED)
def test_the_others_say_in_one_line_that_they_need_labels(folder, system):
    from dlcore.train import run

    with pytest.raises(ValueError, match=r"needs .*(labels|labelled|classes).*npz:") as caught:
        run.named(system, data=f"npz:{folder / 'plain.npz'}", preset="smoke", folder=folder / "nothing")
    assert "\n" not in str(caught.value) and not (folder / "nothing").exists()
