"""What takes time is said before it begins, the time left does not count compiling, and the end tells the whole."""

import json
import re

import pytest

from dlcore.train import Recorder, run, stages
from dlcore.train._profile import Trace
from dlcore.train._stopwatch import Stopwatch


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a run says, and its folder; it is stopped once and goes on."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = [
        "widths=4",
        "train.steps=20",
        "train.log_every=10",
        "train.steps_per_dispatch=10",
        "train.eval_every=0.5",
    ]
    made = run.named("classify", preset="mlp", settings=settings, folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *text, **options: lines.append(" ".join(map(str, text))))
        patch.setattr("sys.argv", ["launch/train.py", "--experiment=classify"])
        asked = iter([True])
        assert not stages.execute(made, lambda: next(asked, False))
        first = json.loads((folder / "environment.json").read_text())
        patch.setattr("sys.argv", ["launch/train.py", f"--workdir={folder}"])
        assert stages.execute(made)
    return lines, folder, first


@pytest.mark.slow
def test_a_line_stands_before_every_phase_that_lasts(told):
    lines, _, _ = told
    starts = [
        "compiling the training step",
        "compiled the",
        "evaluating on the validation",
        "evaluating 360 test",
        "drawing",
    ]
    places = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)


@pytest.mark.slow
def test_the_end_tells_the_wall_time_of_all_starts(told):
    lines, folder, first = told
    assert re.search(r"test/accuracy .*  wall time \d+:\d\d$", lines[-1])
    summary, environment = (json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "environment"))
    assert 0 < first["wall_seconds"] < summary["wall_seconds"] <= environment["wall_seconds"]
    assert summary["wall_seconds"] > summary["train_seconds"] + summary["compile_seconds"]
    assert environment["command"] == ["launch/train.py", "--experiment=classify"], "the command that began it"
    digest = json.loads((folder / "classifier" / "result.json").read_text())["sha256"]
    assert digest == summary["state_sha256"]


@pytest.mark.slow
def test_every_report_of_a_log_has_the_time_left(told):
    lines, _, _ = told
    reports = [line for line in lines if re.match(r"step \d+/20 ", line)]
    assert reports and all(re.search(r"  ETA \d+:\d\d$", line) for line in reports)


def test_the_time_left_is_what_it_is_told(tmp_path, capsys):
    recorder = Recorder(tmp_path, total=100)
    recorder.progress(10, {"loss": 1.0}, 5.0, 125.4)
    recorder.close()
    assert capsys.readouterr().out.strip().endswith("ETA 2:05")


def test_a_stopwatch_counts_what_runs(monkeypatch):
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Stopwatch(5.0)
    now[0] += 3
    watch.run()
    now[0] += 4
    watch.run()
    assert watch.seconds() == 9.0
    watch.pause()
    now[0] += 7
    assert watch.seconds() == 9.0


def test_a_trace_begins_after_the_first_dispatches_and_ends(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    trace = Trace(tmp_path, 10)
    for _ in range(8):
        trace.before(4, lambda: calls.append("wait"))
        calls.append("dispatch")
    trace.stop()
    assert calls == ["dispatch"] * 3 + ["wait", "start"] + ["dispatch"] * 3 + ["wait", "stop"] + ["dispatch"] * 2
