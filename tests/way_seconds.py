r"""Seconds of the gradients of a convolution by each of some ways, in a process with one device, as users have it.

    python tests/way_seconds.py \
        '{"shape": [64, 28, 28, 1], "window": 3, "outputs": 32, "groups": 1, "of": [0, 1]}' taps xla

`of` says which gradients: 0 that of the input, 1 that of the kernel. In a process of eight devices, as the tests run
in, a device has few threads, and other ways are the fastest.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def way_seconds(problem, *ways):
    """The median seconds of each way, measured in turns in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "DLCORE_CONV"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, __file__, json.dumps(problem), *ways]
    found = subprocess.run(command, cwd=ROOT, env=environment, text=True, check=True, stdout=subprocess.PIPE)
    return json.loads(found.stdout)


def measure(problem, ways):
    """In this process."""
    import jax
    import jax.numpy as jnp
    from turns import seconds

    from dlcore.nn import conv
    from dlcore.nn._conv.lowering.table import convolutions_by

    shape, window, groups = problem["shape"], problem["window"], problem["groups"]
    key = jax.random.key(0)
    x = jax.random.normal(key, shape)
    kernel = jax.random.normal(key, (window, window, shape[-1] // groups, problem["outputs"]))

    def step(way):
        def loss(x, kernel):
            with convolutions_by(way):
                return jnp.square(conv(x, kernel, groups=groups)).sum()

        return functools.partial(jax.jit(jax.grad(loss, tuple(problem["of"]))), x, kernel)

    return seconds(*map(step, ways), turns=11)


if __name__ == "__main__":
    from dlcore.parallel import backend

    backend.protect()
    print(json.dumps(measure(json.loads(sys.argv[1]), sys.argv[2:])))
