"""Programs that compile in a thread of their own while the state is made."""

import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.data import choose, in_memory
from dlcore.losses import squared_error, supervised
from dlcore.nn import Dense
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import replicate
from dlcore.train import Fit, LoopConfig, gradient_update, make_engine
from dlcore.train._compiling import ahead, compiling

ROOT = Path(__file__).parents[2]
SPLIT = in_memory({"image": np.ones((12, 3), np.float32), "label": np.zeros((12, 1), np.float32)})


class Recorded:
    """A jitted function that notes in which thread it is lowered and compiled."""

    def __init__(self, fails=False):
        self.threads, self.fails, self.may = [], fails, threading.Event()

    def lower(self, *args):
        self.threads.append(threading.get_ident())
        return self

    def compile(self):
        assert self.may.wait(20)
        self.threads.append(threading.get_ident())
        if self.fails:
            raise ValueError("no such instruction")
        return "program"


def test_lowers_here_compiles_elsewhere_and_waits():
    program = Recorded()
    wait = compiling(program, 1)
    assert program.threads == [threading.get_ident()]
    program.may.set()
    compiled, seconds = wait()
    assert compiled == "program" and 0 <= seconds < 20
    assert len(program.threads) == 2 and program.threads[1] != threading.get_ident()


def test_what_the_compiler_refuses_is_raised_where_it_is_waited_for():
    program = Recorded(fails=True)
    program.may.set()
    with pytest.raises(ValueError, match="no such instruction"):
        compiling(program)()


def test_a_step_is_traced_once_from_its_engine_to_its_program(monkeypatch):
    model, traced = Dense(1), []
    objective = supervised(model, squared_error)

    def counted(*args, **options):
        traced.append(options["train"])
        return objective(*args, **options)

    stage = Fit(
        loop=LoopConfig(batch_size=4, steps=6, log_every=3),
        init=lambda key, batch: model.init(key, batch["image"]),
        update=gradient_update(counted, optax.sgd(0.1)),
        preprocess=lambda batch, *, key, train: dict(batch),
        evaluate=lambda params, state, batch, key: {},
        summarize=lambda sums: {},
        monitor=("loss", "min"),
    )
    feed, start = choose(SPLIT, seed=0, batch_size=4), {"rows": SPLIT.read(np.arange(4)), "key": jax.random.key(0)}
    engine = make_engine(stage, feed, stage.loop, **start, mesh=make_mesh(1), rule=replicate)
    plain = engine.make()
    engine, programs = ahead(engine, feed, 3, begins=True)
    jax.tree.map(np.testing.assert_array_equal, engine.make(), plain)
    ((count, wait),) = programs.items()
    program, _ = wait()
    feeds = feed.next(count)
    state, totals = program(engine.make(), dict(engine.zeros), engine.resident, feeds)
    assert traced == [True]
    expected = engine.program(engine.make(), dict(engine.zeros), engine.resident, jnp.asarray(feeds))
    jax.tree.map(np.testing.assert_array_equal, (state, totals), expected)
    assert int(state.step) == 3 and float(totals["loss"].count) == 12
    # While a GPU's compiler times algorithms nothing else is done.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    unchanged, programs = ahead(engine, feed, 3, begins=True)
    assert unchanged is engine and programs == {}


SYSTEMS = """
import sys
from dlcore.parallel import backend
backend.protect()
import dlcore.train._fitting, dlcore.train.outcome
from dlcore.train import run

for name in run.experiment_names():
    run.named(name, data="digits", folder="none").system
print([name for name in ("matplotlib", "PIL", "sklearn", "torch", "tensorflow") if name in sys.modules])
"""


def test_no_system_waits_for_what_draws_its_figures():
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 200}
    done = subprocess.run([sys.executable, "-c", SYSTEMS], **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[]", done.stdout
