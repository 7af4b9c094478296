"""The process of one row of `--suite=gpu`: tells each fact as soon as it is measured.

Its argument is the text of a `Task`. Nothing that it found is lost when it is ended before its time.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dlcore import nn, train
from dlcore.parallel import backend
from dlcore.types import TrainState, Update
from launch.speed.clock import answer, timed
from launch.speed.dlcore_side import batch_of, started, update_of, write_start
from launch.speed.gpu_cases import CASES, DTYPES
from launch.speed.gpu_task import Task, read
from launch.speed.networks import Network
from launch.speed.roof import memory_rate, product_rate

STEPS_IN_A_SCAN = 10
SENT_OFF = 10
"""Steps that are sent off in a row to see how long the host takes."""
GAIN = 1.02
"""What twice the batch must bring for the next to be tried."""
LIKE_BEFORE = 1.2
"""How much longer than the last one a trial may take."""
DETERMINISTIC_STEPS = 20


def traced_step(update: Update, state: TrainState, batch: Any) -> Any:
    """The training step, which reuses the memory of the state, traced for arrays like these."""
    return jax.jit(train.make_train_step(update), donate_argnums=0).trace(state, batch)


class Trainer:
    """A workload at one size of batch, compiled."""

    def __init__(self, network: Network, update: Update, start: TrainState, images: int) -> None:
        self.batch = batch_of(network, images)
        self.state = jax.tree.map(jnp.copy, start)
        began = time.monotonic()
        traced = traced_step(update, self.state, self.batch)
        self.program = traced.lower().compile()
        self.compile_seconds = time.monotonic() - began
        self.product_flops = nn.flops(traced.jaxpr)

    def steps(self, count: int) -> None:
        """Take so many and wait for them."""
        self.send_off(count)
        jax.block_until_ready(self.state)

    def send_off(self, count: int) -> None:
        """Start so many."""
        for _ in range(count):
            self.state, _ = self.program(self.state, self.batch)

    def host_share(self) -> float:
        """Time that the host takes to send steps off over the time that they take; at 1 the device waits for it."""
        jax.block_until_ready(self.state)
        began = time.perf_counter()
        self.send_off(SENT_OFF)
        sent = time.perf_counter() - began
        jax.block_until_ready(self.state)
        return sent / (time.perf_counter() - began)


def roof(task: Task) -> Iterator[Mapping[str, Any]]:
    """The device, and what it can do at most."""
    device = jax.devices()[0]
    yield {"platform": device.platform, "device": device.device_kind, "jax": jax.__version__}
    sizes = {"size": 256} if task.tiny else {"size": 8192, "chained": 8}
    yield {"product_flops_per_second": {d: product_rate(task.seconds, dtype=d, **sizes) for d in DTYPES}}
    yield {"bytes_per_second": memory_rate(task.seconds, 2**16 if task.tiny else 2**28)}


def training(task: Task) -> Iterator[Mapping[str, Any]]:
    """Rate by batch, the host's share, and several steps in a call."""
    case = CASES[task.workload]
    network, first = case.network(task.dtype, task.tiny), task.images or case.first(task.tiny)
    update, small = update_of(network), batch_of(network, 2)
    start = started(network, update, small)
    if task.weights:
        write_start(Path(task.weights), start, small)

    def tried(images: int) -> Mapping[str, Any]:
        trainer = Trainer(network, update, start, images)
        trainer.steps(1)
        if images == first:
            answer({"first_step": True, "compile_seconds": trainer.compile_seconds})
        seconds = timed(trainer.steps, task.seconds)["seconds"]
        known = {"product_flops": trainer.product_flops, "peak_bytes": peak_bytes()}
        return {"images": images, "seconds": seconds, "host_share": trainer.host_share(), **known}

    best: Mapping[str, Any] = {}
    yield {"parameters": train.count_params(start.params)}
    for trial in growing(first, tried, (lambda: 0.0) if task.images else (lambda: task.left() / 2)):
        yield {"trials": [trial]}
        if rate(trial) > rate(best):
            best = trial
            yield dict(best)
    if best:
        yield {"scan": scanned(network, update, start, best, task.seconds)}


def growing(
    first: int, tried: Callable[[int], Mapping[str, Any]], left: Callable[[], float]
) -> Iterator[Mapping[str, Any]]:
    """Trials of twice the batch each: until memory ends, little is gained, or the next does not fit in what is left.

    A batch for which there is no memory has `out_of_memory`.
    """
    images, before, cost = first, {}, 0.0
    while not before or cost < left():
        began = time.monotonic()
        try:
            trial = tried(images)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            yield {"images": images, "out_of_memory": True}
            return
        yield trial
        if before and rate(trial) < GAIN * rate(before):
            return
        images, before, cost = 2 * images, trial, LIKE_BEFORE * (time.monotonic() - began)


def rate(trial: Mapping[str, Any]) -> float:
    """Images per second."""
    return trial["images"] / trial["seconds"] if "seconds" in trial else 0.0


def scanned(
    network: Network, update: Update, start: TrainState, best: Mapping[str, Any], seconds: float
) -> Mapping[str, Any]:
    """Several steps in one call, beside one step a call."""
    step, batch = train.make_train_step(update), batch_of(network, best["images"])

    def several(state: TrainState, batch: Any) -> TrainState:
        return jax.lax.scan(lambda state, _: (step(state, batch)[0], None), state, None, length=STEPS_IN_A_SCAN)[0]

    state, began = jax.tree.map(jnp.copy, start), time.monotonic()
    program = jax.jit(several, donate_argnums=0).lower(state, batch).compile()
    compiling = time.monotonic() - began

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state = program(state, batch)
        jax.block_until_ready(state)

    run(1)
    each = timed(run, seconds)["seconds"] / STEPS_IN_A_SCAN
    return {
        "steps": STEPS_IN_A_SCAN,
        "seconds": each,
        "times_single": best["seconds"] / each,
        "compile_seconds": compiling,
    }


def deterministic(task: Task) -> Iterator[Mapping[str, Any]]:
    """Two trainings from the same start: digests of what they end with, and the rate."""
    case = CASES[task.workload]
    network, images = case.network(task.dtype, task.tiny), task.images or case.first(task.tiny)
    update = update_of(network)
    start = started(network, update, batch_of(network, 2))
    trainer, digests = Trainer(network, update, start, images), []
    for _ in range(2):
        trainer.state = jax.tree.map(jnp.copy, start)
        trainer.steps(DETERMINISTIC_STEPS)
        digests.append(train.sha256(trainer.state))
    yield {"images": images, "steps": DETERMINISTIC_STEPS, "digests": digests}
    yield {"seconds": timed(trainer.steps, task.seconds)["seconds"], "compile_seconds": trainer.compile_seconds}


def peak_bytes() -> int:
    """Of the device where it says so, else of this process."""
    told = jax.devices()[0].memory_stats() or {}
    return told.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


PROGRAMS = {"roof": roof, "train": training, "deterministic": deterministic}


def main(text: str) -> None:
    """Measure the task of this JSON; every fact is a line."""
    task = read(text)
    for told in PROGRAMS[task.program](task):
        answer(told)


if __name__ == "__main__":
    backend.protect()
    main(sys.argv[1])
