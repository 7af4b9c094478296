"""How fast an experiment trains: the engine against a bare hand-written loop on the same model and batches.

    python -m launch.bench --experiment=classify --data=digits --steps=200
    python -m launch.bench --suite=standard --peer=torch,flax [--workloads=cnn,resnet20]
    python -m launch.bench --suite=gpu [--workloads=resnet50,mlp] [--tiny]
    python -m launch.bench --suite=recipes [--workloads=speed94] [--turns=3] [--tiny]

The two take turns, so that a noisy machine slows both; medians are compared. A suite times whole workloads, each side
in a process of its own, and writes JSON and a figure into `--out`, by default `runs/speed`. That of a GPU puts
`torch.compile` beside dlcore where PyTorch is installed, and ends within a budget of seconds; that of the speed recipes
of `classify` gives the seconds of training, of a warm and of a cold process.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import paths, request, runtime

if TYPE_CHECKING:
    from dlcore.train.run import Run

flags.DEFINE_integer("steps", 0, "Steps per turn; 0 for as many as take the bare loop about five seconds.")
flags.DEFINE_integer("turns", 5, "How often the two take turns.")
flags.DEFINE_enum(
    "suite", None, ["standard", "gpu", "recipes"], "Time whole workloads instead of an experiment, on CPU or GPU."
)
flags.DEFINE_list("peer", [], "Sides beside dlcore in a suite: torch, flax, without (dlcore without oneDNN).")
flags.DEFINE_list("workloads", [], "Those of a suite to time; all by default.")
flags.DEFINE_float("seconds", 2.0, "Length of a turn in a suite.")
flags.DEFINE_integer("images", 0, "Batch of the standard suite's workloads; 0 for as many as each lists.")
flags.DEFINE_boolean("tiny", False, "Small networks and batches, by which a CPU tries a suite of a GPU out.")
flags.DEFINE_float("budget", 520.0, "Seconds that --suite=gpu takes at most; what does not fit is left out, and said.")
flags.DEFINE_float("row_budget", 90.0, "Seconds of one row of --suite=gpu, of each side.")


def main() -> None:
    """Print steps per second of both, and their ratio."""
    import jax

    from dlcore.train import main_fit
    from launch.speed import suite

    if flags.FLAGS.turns < 1 or flags.FLAGS.steps < 0:
        raise ValueError("--turns must be at least 1 and --steps not negative")
    if flags.FLAGS.suite in ("gpu", "recipes"):
        return on_gpu()
    runtime.start()
    if flags.FLAGS.suite:
        options = {name: flags.FLAGS[name].value for name in ("seconds", "turns", "images")}
        folder = paths.local("out", flags.FLAGS.out or "runs/speed")
        return suite.standard(flags.FLAGS.workloads, flags.FLAGS.peer, folder=folder, **options)
    if jax.process_count() > 1:
        raise ValueError("bench measures one process; drop --processes, --coordinator and what belongs to it")
    run = request.from_flags()
    if flags.FLAGS.workdir is not None and not (run.folder / "config.json").exists():
        raise ValueError(f"--workdir={run.folder} is not a run folder, and bench writes none; drop the flag")
    bare = bare_loop(run)
    steps = flags.FLAGS.steps or max(50, round(5 / bare(20)))
    ratios, rates = [], []
    for _ in range(flags.FLAGS.turns):
        ours, theirs = engine_seconds(run, steps), bare(steps)
        ratios.append(theirs * steps / ours)
        rates.append((steps / ours, 1 / theirs))
    batch = main_fit(run.system)[1].loop.batch_size
    for name, values in zip(("engine", "bare loop"), zip(*rates, strict=True), strict=True):
        rate = statistics.median(values)
        print(f"{name:<10} {rate:10,.1f} steps/s {rate * batch:12,.0f} images/s")
    print(f"engine / bare loop: {statistics.median(ratios):.3f} (median of {len(ratios)} turns of {steps} steps)")
    return None


def on_gpu() -> None:
    """The suites of a GPU, whose processes choose their own flags; no backend starts in this one."""
    from launch.speed import gpu, recipes

    values = flags.FLAGS
    if values.peer:
        raise ValueError(
            f"--suite={values.suite} takes no peers; drop --peer (gpu takes PyTorch where it is installed)"
        )
    common = {"folder": paths.local("out", values.out or "runs/speed"), "tiny": values.tiny, "budget": values.budget}
    if values.suite == "gpu":
        return gpu.gpu(values.workloads, row_budget=values.row_budget, seconds=values.seconds, **common)
    return recipes.recipes(values.workloads, data=values.data, data_dir=values.data_dir, turns=values.turns, **common)


def bare_loop(run: "Run") -> Callable[[int], float]:
    """`steps -> seconds per step` of the plainest loop: one jitted step, called on slices of arrays on the device."""
    import jax
    import jax.numpy as jnp

    from dlcore.data import choose, train_rows
    from dlcore.parallel.mesh import make_mesh
    from dlcore.parallel.sharding import named_rule
    from dlcore.train import first_rows, main_fit, make_engine, make_train_step

    (name, stage), train = main_fit(run.system), run.whole().train
    config, step = stage.loop, make_train_step(stage.update, stage.preprocess)
    feed = choose(train, seed=run.seed, batch_size=config.batch_size)
    start = {"rows": first_rows(run, stage, run.whole()), "key": run.key(name)}
    engine = make_engine(stage, feed, config, **start, mesh=make_mesh(1), rule=named_rule("replicate"))
    resident = jax.tree.map(jnp.asarray, dict(train.arrays))
    jitted = jax.jit(lambda state, rows: step(state, {k: v[rows] for k, v in resident.items()}), donate_argnums=0)
    size = train.size
    rows = [
        jnp.asarray(train_rows(i, seed=run.seed, size=size, batch_size=config.batch_size))
        for i in range(size // config.batch_size)
    ]

    def seconds(steps: int) -> float:
        state, _ = jitted(engine.make(), rows[0])
        jax.block_until_ready(state)
        began = time.monotonic()
        for i in range(steps):
            state, _ = jitted(state, rows[i % len(rows)])
        jax.block_until_ready(state)
        return (time.monotonic() - began) / steps

    return seconds


def engine_seconds(run: "Run", steps: int) -> float:
    """Training seconds of a run of `steps` through the engine, logging to a folder; compilation is told apart."""
    from dlcore.data import choose
    from dlcore.parallel.mesh import make_mesh
    from dlcore.parallel.sharding import named_rule
    from dlcore.train import Checkpoints, Recorder, cadence, first_rows, fit, main_fit, make_engine

    (name, stage), train, mesh = main_fit(run.system), run.whole().train, make_mesh(1)
    config = replace(stage.loop, steps=steps)
    start = {"rows": first_rows(run, stage, run.whole()), "key": run.key(name)}
    feed = choose(train, seed=run.seed, batch_size=config.batch_size)
    engine = make_engine(stage, feed, config, **start, mesh=mesh, rule=named_rule(config.sharding))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints")
        fitted = fit(
            stage,
            feed,
            config,
            engine,
            cadence(config, train.size, engine.dispatch),
            mesh=mesh,
            checkpoints=checkpoints,
            open_recorder=lambda step: Recorder(Path(folder), total=steps, step=step, quiet=True),
        )
        checkpoints.close()
    return fitted.progress.train_seconds


if __name__ == "__main__":
    runtime.run(main, uses=["out", *(name for name in request.FLAGS if name not in ("seeds", "extend"))])
