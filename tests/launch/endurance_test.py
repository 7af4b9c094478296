"""What the engine costs as data grow and runs last: images/s, memory, checkpoints. On a quiet machine.

    ./launch/local.sh test -n 0 -s -m 'slow and long' tests/launch/endurance_test.py

The default network of `classify` on random 28×28 images in a process with one device, as users have it.
"""

import multiprocessing
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

BATCH, STEPS, TURNS = 128, 300, 5
SIZES = (1_000, 8_000, 60_000)
RARELY = 1e6
"""Seconds between two checkpoints, none of which comes."""


def run_of(size, batch, checkpoint_seconds):
    """A run on so many random images."""
    from dlcore.data import Data, DataSpec, in_memory
    from dlcore.train import run

    rng = np.random.default_rng(0)
    sizes = (size, 200, 10)
    splits = [
        in_memory(
            {
                "image": rng.integers(0, 256, (n, 28, 28, 1)).astype(np.uint8),
                "label": rng.integers(0, 10, n).astype(np.int32),
            }
        )
        for n in sizes
    ]
    spec = DataSpec("noise", (28, 28, 1), 256, 10, tuple("0123456789"), sizes, (0.5,), (0.3,))
    settings = [f"train.checkpoint_seconds={checkpoint_seconds}", f"train.batch_size={batch}", "train.eval_every=0"]
    return run.named("classify", settings=settings, source=Data(spec, *splits), data="noise", folder="/nowhere")


def serve(line):
    """For every (size, batch, steps, seconds between checkpoints): seconds of training, and bytes in memory."""
    from launch.bench import engine_seconds

    page, runs = os.sysconf("SC_PAGE_SIZE"), {}
    while asked := line.recv():
        size, batch, steps, checkpoint_seconds = asked
        key = (size, batch, checkpoint_seconds)
        runs[key] = runs.get(key) or run_of(*key)
        spent = engine_seconds(runs[key], steps)
        line.send((spent, page * int(Path("/proc/self/statm").read_text().split()[1])))


@pytest.fixture
def engine():
    """A function of (size, steps, seconds between checkpoints, batch) that measures in the other process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()

    def measure(size, steps, checkpoint_seconds=RARELY, batch=BATCH):
        here.send((size, batch, steps, checkpoint_seconds))
        time.sleep(0.1)
        return here.recv()

    yield measure
    here.send(None)
    process.join(30)


@pytest.mark.slow
@pytest.mark.long
def test_as_fast_on_more_images_and_for_longer(engine):
    for size in SIZES:
        engine(size, STEPS)
    taken = [{size: engine(size, STEPS)[0] for size in SIZES} for _ in range(TURNS)]
    rates = {size: BATCH * STEPS / statistics.median(turn[size] for turn in taken) for size in SIZES}
    print("images/s by the number of images:", {size: round(rate) for size, rate in rates.items()})
    assert max(rates.values()) < 1.1 * min(rates.values())

    ratios, memory = [], []
    for _ in range(3):
        short, before = engine(SIZES[-1], STEPS)
        long, after = engine(SIZES[-1], 10 * STEPS)
        ratios.append(long / (10 * short))
        memory.append((before, after))
    print(f"ten times as many steps take {10 * statistics.median(ratios):.2f} times as long, {ratios}")
    print("bytes before and after:", [tuple(round(b / 2**20) for b in pair) for pair in memory], "MiB")
    assert 0.9 < statistics.median(ratios) < 1.1
    # The first long run may still fill caches.
    assert memory[-1][1] < 1.05 * memory[0][1]


@pytest.mark.slow
@pytest.mark.long
def test_a_checkpoint_every_hundred_steps_costs_little(engine):
    # Of four times the batch: a checkpoint takes Orbax 0.05 s, whatever the steps between two of them compute.
    size, steps, batch = SIZES[-1], STEPS, 4 * BATCH
    engine(size, STEPS, batch=batch)
    hundred = 100 * engine(size, steps, batch=batch)[0] / steps
    engine(size, STEPS, hundred, batch=batch)
    pairs = [(engine(size, steps, hundred, batch)[0], engine(size, steps, batch=batch)[0]) for _ in range(TURNS)]
    costs = [often / rarely - 1 for often, rarely in pairs]
    print(
        f"a checkpoint every {hundred:.2f} s, that is 100 steps, costs {100 * statistics.median(costs):+.1f} %", costs
    )
    assert statistics.median(costs) < 0.03
