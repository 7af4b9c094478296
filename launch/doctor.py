"""What this machine has for dlcore: versions, devices, data sets, compile cache and speed.

python -m launch.doctor
"""

import os
import platform
import sys

from absl import flags

from launch import runtime

flags.DEFINE_string("data_dir", None, "Folder that holds data sets.")


def main() -> None:
    """Print one line per finding."""
    import jax

    from dlcore import nn
    from dlcore.train import environment
    from launch.speed.roof import product_rate

    runtime.start()
    line("Python", f"{platform.python_version()} ({sys.executable})")
    for name, version in environment.versions().items():
        line(name, version)
    for device in jax.devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        line("device", f"{device} {device.device_kind}" + (f", {limit / 2**30:.1f} GiB" if limit else ""))
    if jax.default_backend() == "cpu":
        line(
            "note",
            "no accelerator: small models train in minutes; DLCORE_EXTRAS=cuda12, cuda13 or tpu installs support",
        )
    line("compiler", compiler())
    line("precision", precision())
    line("convolutions", nn.how_convolutions_go())
    for name in ("digits", "fashion_mnist"):
        line("data", found(name))
    cache = runtime.compile_cache()
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    line("compile cache", f"{cache}, {size / 2**20:.0f} MiB")
    line("speed", f"{product_rate() / 1e9:,.0f} GFLOP/s (float32 matrix product)")


def line(name: str, value: str) -> None:
    """Print one finding."""
    print(f"{name:<20} {value}", flush=True)


def compiler() -> str:
    """Whether the CPU backend computes right, and what `XLA_FLAGS` say."""
    from dlcore.parallel import backend

    wrong = backend.self_test()
    verdict = f"computes WRONG on this CPU: {'; '.join(wrong)}" if wrong else "the self-test on the CPU is right"
    return f"{verdict}; XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"


def precision() -> str:
    """In what precision the default device multiplies float32 matrices."""
    import jax

    asked = jax.config.jax_default_matmul_precision
    if asked is not None:
        return f"float32 products in {asked}, by jax_default_matmul_precision"
    if jax.default_backend() == "cpu":
        return "float32 products in float32"
    narrow = "TF32" if jax.default_backend() == "gpu" else "bfloat16"
    return f"float32 products of networks in {narrow}; JAX_DEFAULT_MATMUL_PRECISION=highest for float32"


def found(name: str) -> str:
    """The sizes of a data set, or why it cannot be had."""
    from dlcore.data import DataError, load

    try:
        sizes = load(name, data_dir=flags.FLAGS.data_dir).spec.sizes
    except DataError as error:
        return f"{name}: {error}"
    return f"{name}: {sizes[0]:,} training, {sizes[1]:,} validation and {sizes[2]:,} test examples"


if __name__ == "__main__":
    runtime.run(main)
