"""The backend that a function is traced for: the one place of the library that asks."""

import jax


def on_cpu() -> bool:
    """Whether functions are traced for a CPU, where loops and convolutions want other code than on accelerators."""
    return jax.default_backend() == "cpu"


def on_gpu() -> bool:
    """Whether functions are traced for a GPU."""
    return jax.default_backend() == "gpu"


def on_one_device() -> bool:
    """Whether there is a single device, so that nothing can be sharded."""
    return jax.device_count() == 1
