"""Systems of every kind: interrupted anywhere they end with the same bits, and nothing finished is computed twice.

A study alone, two fits of which the second begins where the first ended and learns from what it found, and a grid of
fits as a study with cells.
"""

import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.data import Data, DataSpec, in_memory
from dlcore.losses import squared_error, supervised
from dlcore.networks import MLP
from dlcore.report.panel import panel
from dlcore.train import (
    Findings,
    Fit,
    LoopConfig,
    Study,
    System,
    gradient_update,
    outcome,
    read_json,
    run,
    session,
    stages,
)
from dlcore.types import Mean

LOOP = LoopConfig(batch_size=8, steps=6, log_every=2, eval_every=1.0, checkpoint_seconds=0.0, steps_per_dispatch=2)
COUNTS: Counter[str] = Counter()
"""How often something was computed."""

KILL: dict[str, int] = {}
"""At which count of what the process ends."""


PICTURE = {"drawn": panel("figures.confusion", np.eye(2), ("a", "b"))}


class Killed(BaseException):
    """The end of a process."""


def counted(what):
    """Count a computation, and die in it where a test says so."""
    COUNTS[what] += 1
    if KILL.get(what) == COUNTS[what]:
        raise Killed


def split(size, seed):
    x = np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32)
    return in_memory({"point": x, "label": (x.sum(-1) > 0).astype(np.int32)})


SPEC = DataSpec(
    "plane", (2,), None, 2, ("a", "b"), (12, 6, 5), (0.0, 0.0), (1.0, 1.0), fingerprint={"x": {"points": 23}}
)
DATA = Data(SPEC, *(split(size, i) for i, size in enumerate(SPEC.sizes)))


def study_only() -> System:
    """Numbers, a picture, and what a clock said."""

    def compute(key, data, results):
        counted("look")
        noise = np.asarray(jax.random.normal(key, (3,)))
        time = np.random.default_rng().uniform()
        return Findings({"noise": noise, "timing": {"seconds": time}}, PICTURE)

    def metrics(arrays):
        return {"mean": arrays["noise"].mean(), "best": "noise"}

    def panels(arrays):
        rows = [{"step": i, "train/noise": float(x)} for i, x in enumerate(arrays["noise"])]
        return {"course": panel("figures.curves", rows)}

    return System({"look": Study(compute, metrics, panels)})


def fit(name, **parts) -> Fit:
    """A line through the points, to their labels or what stands in their place."""
    model = MLP((), 1)

    def preprocess(rows, *, key, train):
        return {**rows, "image": rows["point"], "target": rows["label"].astype(jnp.float32)[:, None]}

    def evaluate(params, state, batch, key):
        predicted, _ = model.apply(params, state, batch["image"])
        return {"mse": Mean.of(squared_error(predicted, batch["target"])[:, 0], batch["where"])}

    def summarize(sums):
        counted(f"{name} evaluation")
        return {"mse": float(sums["mse"].value())}

    def rate(step):
        counted(f"{name} report")
        return 0.1

    return Fit(
        loop=LOOP,
        init=lambda key, batch: model.init(key, batch["image"]),
        update=gradient_update(supervised(model, squared_error, targets="target"), optax.sgd(0.1)),
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=summarize,
        monitor=("mse", "min"),
        learning_rates={"rate": rate},
        **parts,
    )


def two_fits() -> System:
    """The second starts at the first's params, and learns what the first says of the points."""

    def distilled(data, results):
        counted("student data")
        (dense,) = results["teacher"].params.values()
        label = lambda x: np.asarray(x @ dense["kernel"] + dense["bias"])[:, 0]  # noqa: E731
        relabel = lambda part: in_memory({**part.arrays, "label": label(part.arrays["point"])})  # noqa: E731
        return data._replace(**{name: relabel(getattr(data, name)) for name in ("train", "validation", "test")})

    def start(params, state, results):
        return jax.tree.map(lambda new, old: old + 0.01 * new, params, results["teacher"].params), state

    student = fit("student", uses=("teacher",), start=start, data=distilled)

    def compare(key, data, results):
        counted("compared")
        biases = {name: np.asarray(jax.tree.leaves(results[name].params)[0]) for name in ("teacher", "student")}
        return Findings(biases, PICTURE)

    def metrics(arrays):
        return {"distance": np.linalg.norm(arrays["teacher"] - arrays["student"])}

    study = Study(compare, metrics, uses=("teacher", "student"))
    return System({"teacher": fit("teacher"), "student": student, "compared": study})


def grid() -> System:
    """Lines by several learning rates, a cell for each."""
    rates = {"slow": 0.01, "middle": 0.1, "fast": 0.5}

    def compute(key, data, results, cell):
        counted(f"grid {cell}")
        x, y = jnp.asarray(data.train.arrays["point"]), jnp.asarray(data.train.arrays["label"], jnp.float32)
        error = lambda w: jnp.mean((x @ w - y) ** 2)  # noqa: E731
        w = jax.random.normal(key, (2,))
        for _ in range(3):
            w -= rates[cell] * jax.grad(error)(w)
        told = {"w": np.asarray(w), "error": float(error(w)), "timing": np.random.default_rng().uniform()}
        return Findings(told, PICTURE)

    def metrics(arrays):
        return {"best": min(arrays, key=lambda cell: float(arrays[cell]["error"]))}

    def panels(arrays):
        rows = [{"step": i, "train/error": float(found["error"])} for i, found in enumerate(arrays.values())]
        return {"drawn": panel("figures.curves", rows)}

    return System({"grid": Study(compute, metrics, panels, cells=tuple(rates))})


SYSTEMS = {"study_only": study_only, "two_fits": two_fits, "grid": grid}

KILLS = [
    ("study_only", "look", "look", 1),
    ("two_fits", "teacher", "teacher report", 2),
    ("two_fits", "teacher", "teacher evaluation", 3),
    ("two_fits", "student", "student data", 1),
    ("two_fits", "student", "student report", 2),
    ("two_fits", "compared", "compared", 1),
    ("grid", "grid", "grid slow", 1),
    ("grid", "grid", "grid fast", 1),
]
"""System, stage, what is computed in it, and at which time of that the process ends."""


@pytest.fixture(autouse=True)
def counts():
    COUNTS.clear()
    KILL.clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every system, trained without interruption, and how often each thing was computed."""
    found = {}
    for name, make in SYSTEMS.items():
        COUNTS.clear()
        folder = tmp_path_factory.mktemp(name) / "run"
        found[name] = session.train(make(), data=DATA, folder=folder), Counter(COUNTS)
    return found


def digests(folder, system):
    """What must be the same to the bit: of the run, and of each stage."""
    stages = {name: read_json(folder / name / "result.json")["sha256"] for name in system.stages}
    return read_json(folder / "summary.json")["state_sha256"], stages, read_json(folder / "summary.json")["metrics"]


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "stage", "what", "time"), KILLS)
def test_a_kill_changes_no_bit_and_repeats_no_finished_stage(name, stage, what, time, whole, tmp_path):
    system = SYSTEMS[name]()
    KILL[what] = time
    with pytest.raises(Killed):
        session.train(system, data=DATA, folder=tmp_path)
    KILL.clear()
    before, stages = Counter(COUNTS), list(system.stages)
    interrupted = session.open_run(tmp_path, system=system, data=DATA)
    assert interrupted.metrics == {} and not (tmp_path / stage / "result.json").exists()
    session.train(system, data=DATA, folder=tmp_path)
    uninterrupted, usual = whole[name]
    assert digests(tmp_path, system) == digests(uninterrupted.folder, system)
    again = COUNTS - before
    for earlier in stages[: stages.index(stage)]:
        assert not [done for done in again if done.startswith(earlier)]
    later = {what: count for what, count in again.items() if not what.startswith(stage)}
    assert later == {what: usual[what] for what in later}
    if name == "grid":
        assert usual + Counter([what]) == COUNTS, "a kill repeats one cell"
    session.train(system, data=DATA, folder=tmp_path)
    assert before + again == COUNTS, "a finished run computes nothing"


@pytest.mark.parametrize("name", SYSTEMS)
def test_stops_in_every_stage_change_no_bit(name, whole, tmp_path):
    system, asked, starts = SYSTEMS[name](), iter([False, True] * 20), 1
    made = run.Run(tmp_path, system, DATA, DATA.spec, 0, {})
    while not stages.execute(made, lambda: next(asked)):
        starts += 1
        assert not (tmp_path / "summary.json").exists()
    assert starts == {"study_only": 1, "two_fits": 3, "grid": 3}[name]
    assert digests(tmp_path, system) == digests(whole[name][0].folder, system)


def test_another_seed_is_another_run_and_refused_in_the_same_folder(whole, tmp_path):
    first = whole["study_only"][0]
    other = session.train(study_only(), data=DATA, folder=tmp_path, seed=1)
    assert digests(other.folder, study_only()) != digests(first.folder, study_only())
    with pytest.raises(ValueError, match=r"holds another run .seed: 0 in the folder, 1 asked for"):
        session.train(study_only(), data=DATA, folder=first.folder, seed=1)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_finished_run_is_opened_with_its_system(name, whole):
    trained = whole[name][0]
    opened = session.open_run(trained.folder, system=SYSTEMS[name](), data=DATA)
    assert opened.metrics == trained.metrics and opened.metrics
    for stage in opened.run.system.stages:
        jax.tree.map(np.testing.assert_array_equal, opened.result(stage), trained.result(stage))
    with pytest.raises(ValueError, match="of a system without a name; pass that system"):
        session.open_run(trained.folder)
    without = session.open_run(trained.folder, system=SYSTEMS[name]())
    assert without.run.spec._replace(fingerprint={}) == SPEC._replace(fingerprint={})


def test_what_was_computed_is_right(whole):
    (look, _), (fits, _), (cells, _) = whole.values()
    noise = look.result("look").arrays["noise"]
    assert look.metrics == {"test/mean": pytest.approx(float(noise.mean())), "test/best": "noise"}
    assert set(fits.metrics) == {"teacher/test/mse", "student/test/mse", "test/distance"}
    # The student begins at its teacher and learns what it says: it stays near.
    assert fits.metrics["student/test/mse"] < 0.1 * fits.metrics["teacher/test/mse"]
    assert fits.evaluate("test") == {"mse": pytest.approx(fits.metrics["student/test/mse"], rel=1e-6)}
    assert fits.step == 6 and set(cells.result("grid").arrays) == {"slow", "middle", "fast"}
    jax.tree.map(np.testing.assert_array_equal, fits.params, fits.result("student").params)
    for one in (look, cells):
        with pytest.raises(ValueError, match="has no fit"):
            one.params  # noqa: B018
    with pytest.raises(ValueError, match="did you mean 'student'"):
        fits.result("studnt")


@pytest.mark.parametrize("name", SYSTEMS)
def test_figures_are_drawn_with_neither_data_nor_model(name, whole, tmp_path, capsys):
    system = SYSTEMS[name]()
    shutil.copytree(whole[name][0].folder, tmp_path / "run")
    drawn = {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").glob("*/figures/*.png")}
    assert len(drawn) == {"study_only": 2, "two_fits": 3, "grid": 4}[name]
    for stage in system.stages:
        shutil.rmtree(tmp_path / "run" / stage / "figures")
        shutil.rmtree(tmp_path / "run" / stage / "checkpoints", ignore_errors=True)
    (tmp_path / "run" / "report.html").unlink()
    made, notes = run.of_folder(tmp_path / "run", with_data=False, system=system), {}
    outcome.draw(made, notes)
    assert notes == {} and not COUNTS and capsys.readouterr().err == ""
    assert {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").glob("*/figures/*.png")} == drawn
    assert (tmp_path / "run" / "report.html").read_text().count("data:image/png;base64,") == len(drawn)
