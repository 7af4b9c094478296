"""What the protection from XLA:CPU's wrong sums costs ten training steps.

./launch/local.sh test -n 0 -s -m long tests/parallel/protection_cost_test.py

Each step runs in pairs of processes, with the protection and with XLA's default, which take turns. Two equal processes
may differ by a tenth for as long as they live, by where their memory lies: so there are several pairs, and of each the
median of the ratios within a turn is printed beside the median of all. One device, as in a user's process, which is
when sums go slab by slab.
"""

import dataclasses
import importlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlcore.parallel import backend

ROOT = Path(__file__).parents[2]
PAIRS, TURNS, SECONDS = 3, 5, 0.3
MOST = 1.25
"""Times as long as unprotected that a protected step may take."""

EXPERIMENTS = {
    "mlp": ("classify", "mlp", None),
    "cnn": ("classify", "default", None),
    "vae": ("vae", "default", None),
    "vae_conv": ("vae", "conv", None),
    "pixelcnn": ("pixelcnn", "default", 32),
    "flow": ("flow", "default", None),
    "gan": ("gan", "default", None),
    "diffusion": ("diffusion", "default", 32),
}
"""name: experiment, preset, rows of a batch if not the preset's."""
NETWORKS = ("resnet20", "resnet50")


def experiment_step(name):
    """The training step of an experiment on Fashion-MNIST, its start and a batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dlcore.data import load, train_rows
    from dlcore.train import create, main_fit, make_train_step

    experiment_name, preset, rows = EXPERIMENTS[name]
    module, data = importlib.import_module(f"experiments.{experiment_name}"), load("fashion_mnist")
    config = module.preset(preset, data.spec)
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, batch_size=rows or config.train.batch_size)
    )
    fit = main_fit(module.build(config, data.spec))[1]
    chosen = np.asarray(train_rows(0, seed=0, size=data.train.size, batch_size=config.train.batch_size))
    raw = {k: jnp.asarray(v) for k, v in {**data.train.read(chosen), "row": chosen}.items()}

    def start():
        batch = fit.preprocess(raw, key=jax.random.key(1), train=True)
        init = lambda key: fit.init(key, batch)  # noqa: E731
        return create(jax.random.key(0), init, fit.update)

    return make_train_step(fit.update, fit.preprocess), start, raw


def network_step(name):
    """The same for a residual network on random images."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from dlcore.losses import softmax_cross_entropy, supervised
    from dlcore.networks import ResNet, cifar_config, imagenet_config
    from dlcore.train import create, gradient_update, make_train_step

    small = name == "resnet20"
    model = ResNet(cifar_config(20) if small else imagenet_config(50))
    shape, classes = ((64, 32, 32, 3), 10) if small else ((8, 64, 64, 3), 1000)
    rng, tx = np.random.default_rng(0), optax.adam(1e-3)
    images = jnp.asarray(rng.standard_normal(shape, np.float32))
    batch = {"image": images, "label": jnp.asarray(rng.integers(0, classes, shape[0]).astype(np.int32))}
    update = gradient_update(supervised(model, softmax_cross_entropy), tx)
    return (
        make_train_step(update),
        lambda: create(jax.random.key(0), lambda key: model.init(key, images), update),
        batch,
    )


def serve(name):
    """Print the seconds of a step, then for every number that comes those of so many."""
    import jax

    step, start, batch = (network_step if name in NETWORKS else experiment_step)(name)
    step, state = jax.jit(step, donate_argnums=0), jax.jit(start)()

    def seconds(count):
        nonlocal state
        began = time.perf_counter()
        for _ in range(count):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - began) / count

    seconds(1)
    print(seconds(1), flush=True)
    for line in sys.stdin:
        print(seconds(int(line)), flush=True)


def started(name, option):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--{backend.OPTION}={option}"}
    environment |= {"PYTHONPATH": str(ROOT), backend.SILENCE: "0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, __file__, name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not backend.affected(), reason="this jaxlib needs no protection")
@pytest.mark.parametrize("name", [*EXPERIMENTS, *NETWORKS])
def test_a_protected_step_takes_about_as_long(name):
    pairs = [pair(name, first_plain=i % 2 == 0) for i in range(PAIRS)]
    costs = [statistics.median(protected / plain for protected, plain in times) for times in pairs]
    every = [row for times in pairs for row in times]
    cost = statistics.median(protected / plain for protected, plain in every)
    protected, plain = (1e3 * statistics.median(column) for column in zip(*every, strict=True))
    by_pair = ", ".join(f"{100 * (cost - 1):+.1f}" for cost in costs)
    print(f"{name:10} {protected:8.2f} ms, unprotected {plain:8.2f} ms: {100 * (cost - 1):+.1f} % (pairs {by_pair})")
    assert cost < MOST


def pair(name, first_plain):
    """Seconds of a step, protected and not, in so many turns of two new processes."""
    options = ("-reduce", "+reduce")
    sides = {option: started(name, option) for option in (options[::-1] if first_plain else options)}
    count = max(1, int(SECONDS / max(float(side.stdout.readline()) for side in sides.values())))
    times = []
    for turn in range(TURNS):
        row = {}
        for option in options if turn % 2 else options[::-1]:
            sides[option].stdin.write(f"{count}\n")
            sides[option].stdin.flush()
            row[option] = float(sides[option].stdout.readline())
        times.append([row[option] for option in options])
    for side in sides.values():
        side.stdin.close()
        side.wait()
    return times


if __name__ == "__main__":
    serve(sys.argv[1])
