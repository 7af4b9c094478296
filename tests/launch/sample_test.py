"""Sampling does what its flags say, for every system that has them, and refuses the others."""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from cli_test import ENVIRONMENT, ROOT
from PIL import Image

from dlcore.data import DataSpec
from dlcore.report.density import cloud
from dlcore.train import create, first_rows, main_fit, run, session
from launch import runtime, sample

SYSTEMS = {
    "diffusion": ("widths=4", "heads=0", "steps=20", "sample_steps=3", "sampler=dpm", "guidance=1.0"),
    "flow": ("widths=4", "scales=1", "steps=1", "flow=real_nvp"),
    "vae": ("widths=4", "latent=3"),
    "gan": ("generator=4,4", "discriminator=2,2", "latent=3", "conditional=true"),
    "generative_classifier": ("widths=4", "latent=3", "samples=1", "study_samples=1"),
    "pixelcnn": ("features=4", "windows=3", "head=categorical", "conditional=true"),
}
OPTIONS = {
    "diffusion": {"steps", "sampler", "eta", "label", "guidance"},
    "flow": {"temperature"},
    "vae": {"temperature"},
    "gan": {"temperature", "label"},
    "generative_classifier": {"label"},
    "pixelcnn": {"temperature", "label"},
}
NUM = 6


SMALL = ("train.steps=2", "train.batch_size=16", "train.log_every=1")


class System:
    """A system with params moved away from their zeros, and what it draws."""

    def __init__(self, name):
        made = run.named(name, preset="smoke", settings=(*SMALL, *SYSTEMS[name]))
        stage, self.fit = main_fit(made.system)

        @jax.jit
        def make(rows):
            batch = self.fit.preprocess(rows, key=None, train=False)
            return create(made.key(stage), lambda key: self.fit.init(key, batch), self.fit.update)

        created = make(first_rows(made, self.fit, made.data))
        noise = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype)  # noqa: E731
        self.params, self.state = jax.tree.map(noise, created.params), created.state

    def draw(self, **options):
        return np.asarray(self.fit.sample(self.params, self.state, jax.random.key(1), NUM, **options))


system = functools.cache(System)


@pytest.fixture(autouse=True)
def parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_says_which_options_it_takes(name):
    found = system(name)
    assert set(found.fit.sample_options) == OPTIONS[name]
    assert set(found.fit.sample_options) <= sample.FLAGS.keys()


IN_TURN = [name for name, options in OPTIONS.items() if "label" in options and name != "generative_classifier"]
"""Conditional models that draw all classes in turn; a classifier draws them by its prior."""


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_TURN)
def test_one_class_is_what_all_in_turn_draw_for_it(name):
    found = system(name)
    turn, one = found.draw(), found.draw(label=2)
    np.testing.assert_allclose(one[2], turn[2], atol=1e-4)
    assert any(np.abs(one[i] - turn[i]).max() > 1e-4 for i in range(NUM) if i != 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flow", "vae", "gan"])
def test_temperature_scales_the_noise(name):
    found = system(name)
    usual, half, cold = found.draw(), found.draw(temperature=0.5), found.draw(temperature=0.0)
    np.testing.assert_array_equal(found.draw(temperature=1.0), usual)
    classes = 1 if name != "gan" else 10
    assert np.ptp(cold[::classes], axis=0).max() < 1e-5, "without noise all are the mode"
    spread = [np.abs(x - cold).mean() for x in (cold, half, usual)]
    assert spread[0] == 0 < spread[1] < spread[2]


@pytest.mark.slow
def test_a_diffusion_takes_steps_sampler_noise_and_guidance():
    found = system("diffusion")
    usual = found.draw()
    same = {"steps": 3, "sampler": "dpm", "guidance": 1.0}
    np.testing.assert_allclose(found.draw(**same), usual, atol=1e-5)
    for changed in ({"steps": 5}, {"sampler": "ddim"}, {"sampler": "ancestral"}, {"guidance": 3.0}, {"guidance": 0.0}):
        assert np.abs(found.draw(**changed) - usual).max() > 1e-3, changed
    calm, noisy = found.draw(sampler="ddim", eta=0.0), found.draw(sampler="ddim", eta=1.0)
    np.testing.assert_allclose(calm, found.draw(sampler="ddim"), atol=1e-5)
    assert np.abs(calm - noisy).max() > 1e-3
    # Without classes the class cannot matter.
    for wrong, words in (
        ({"eta": 0.5}, "eta=0.5 belongs to sampler=ddim"),
        ({"sampler": "ddim", "eta": 2.0}, r"eta must lie in \[0, 1\]"),
        ({"label": 3, "guidance": 0.0}, "has no effect with guidance=0"),
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"steps": 21}, "steps=21"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            found.draw(**wrong)


SPEC = DataSpec("pets", (2, 2, 1), 256, 3, ("2", "Ba$$in", "dog"), (9, 1, 1), (0.0,), (1.0,))


@pytest.mark.parametrize(("text", "number"), [("Ba$$in", 1), ("2", 0), ("1", 1), ("dog", 2), ("0", 0)])
def test_classes_by_name_or_number(text, number):
    assert sample.class_number(text, SPEC) == number


@pytest.mark.parametrize("text", ["3", "-1", "cat", "", "1.0", "²"])
def test_classes_that_do_not_exist_are_refused(text):
    with pytest.raises(ValueError, match=r"no class of pets; use 0 to 2, or one of 2, Ba\$\$in, dog"):
        sample.class_number(text, SPEC)


@pytest.mark.parametrize("name", sample.FLAGS)
def test_options_without_meaning_are_refused(name):
    flag, value = sample.FLAGS[name], {"class": "1", "steps": 2, "sampler": "ddim"}.get(sample.FLAGS[name], 0.5)
    with flagsaver.as_parsed(**{flag: str(value)}):
        assert sample.options("vae", (name,), SPEC) == {name: int(value) if flag == "class" else value}
        others = tuple(other for other in sample.FLAGS if other != name)
        with pytest.raises(ValueError, match=f"--{flag} has no meaning for this run of vae, which takes --"):
            sample.options("vae", others, SPEC)
        with pytest.raises(ValueError, match="which takes none of these"):
            sample.options("vae", (), SPEC)


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
@pytest.mark.parametrize("name", ["temperature", "guidance"])
def test_numbers_without_meaning_are_refused(name, value):
    with flagsaver.as_parsed(**{name: value}), pytest.raises(ValueError, match=f"--{name} must be finite"):
        sample.options("vae", (name,), SPEC)


OTHERS = {"experiment": "vae", "data": "digits", "preset": "smoke", "set": "guidance=2", "stopped_exit_code": "75"}


@pytest.mark.parametrize("name", OTHERS)
def test_flags_of_other_programs_are_refused(name):
    with flagsaver.as_parsed(**{name: [OTHERS[name]] if name == "set" else OTHERS[name]}):
        with pytest.raises(ValueError, match=f"--{name} has no meaning for .*, which takes .*--seed"):
            runtime.refuse_others(("workdir", "data_dir", "seed"))
        runtime.refuse_others(("seed", name))


def test_programs_ask_before_they_begin():
    line = [sys.executable, "-m", "launch.sample", "--workdir=none", "--set=guidance=2"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "--set has no meaning for sample, which takes" in done.stderr and "--guidance" in done.stderr
    for program in ("eval", "report"):
        assert 'uses=("workdir", "data_dir")' in (ROOT / "launch" / f"{program}.py").read_text()


@pytest.mark.slow
def test_points_are_drawn_and_saved(tmp_path, monkeypatch, capsys):
    settings = (*SMALL, "widths=4", "steps=1")
    trained = session.train("flow", data="two_moons", preset="smoke", settings=settings, folder=tmp_path / "run")
    monkeypatch.setattr(runtime, "start", lambda: None)
    for extra in ({}, {"temperature": "0.0"}, {"out": str(tmp_path / "new" / "a.npz")}):
        with flagsaver.as_parsed(workdir=str(trained.folder), seed="3", num="50", **extra):
            sample.main()
    folder = trained.folder / "samples"
    names = {"seed3.png", "seed3.npz", "seed3-temperature-0.0.png", "seed3-temperature-0.0.npz"}
    assert names <= {path.name for path in folder.iterdir()}
    points = np.load(folder / "seed3.npz")["points"]
    assert (
        points.shape == (50, 2) and np.ptp(np.load(folder / "seed3-temperature-0.0.npz")["points"], axis=0).max() == 0
    )
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "a.npz")["points"], points)
    with Image.open(folder / "seed3.png") as image:
        assert np.asarray(image.convert("L")).std() > 1
    assert "(temperature 0.0)" in capsys.readouterr().out


def test_clouds_show_every_point_and_refuse_more_dimensions(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 2))
    (line,) = cloud(points).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata(), points)
    assert cloud(points[:, :1]).axes[0].patches
    with pytest.raises(ValueError, match=r"cloud: points \(30, 3\)"):
        cloud(np.zeros((30, 3)))


def test_many_images_are_laid_out_wide(tmp_path):
    for num, shape in ((16, (2, 8)), (5000, (100, 50))):
        sample.save(np.zeros((num, 1, 1, 1)), tmp_path / "grid.png", "")
        with Image.open(tmp_path / "grid.png") as image:
            assert image.size == tuple(4 * (3 * n + 2) for n in shape[::-1])
    sample.save(jnp.zeros((2, 3, 3, 1)), Path(tmp_path / "a.npz"), "")
    assert np.load(tmp_path / "a.npz")["images"].shape == (2, 3, 3, 1)
