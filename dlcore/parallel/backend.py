"""What the compiler must be told before it computes: `XLA_FLAGS` are read once, when the first backend starts.

XLA:CPU of some versions of jaxlib computes reductions that it fuses with others wrong, silently. One flag cures it:
programs call `protect`, and who imports dlcore without them gets one warning from `watch`. On GPUs some operations add
up in the order in which threads finish; `deterministic` keeps two equal runs equal to the bit.
"""

import importlib.util
import os
import platform
import warnings
from collections.abc import Callable, MutableMapping
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

OPTION = "xla_cpu_experimental_ynn_fusion_type"
PROTECTION = f"--{OPTION}=-reduce"
"""Leaves reductions to XLA's own loops."""

AFFECTED = ((0, 10, 2), (0, 12, 0, 1))
"""First and last version of jaxlib that is known to compute wrong, and to take the flag; XLA aborts on unknown ones."""

SCHEDULER = "xla_cpu_enable_concurrency_optimized_scheduler"
IN_ORDER = f"--{SCHEDULER}=false"
"""What runs side by side on each simulated device may leave no thread for what the others wait for: a deadlock."""

DETERMINISM = "--xla_gpu_deterministic_ops=true"
GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin")

SILENCE = "DLCORE_COMPILER_CHECK"
"""Environment variable that, set to 0, switches the check and its warning off."""

WRONG = 1e-3
"""Relative error from which a result counts as wrong; the faults seen are above 5e-3, rounding is below 1e-5."""


_checked = False
"""Whether `watch` has nothing left to look for in this process."""


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (0, 12, 0, 1) of "0.12.0.1", (0, 13, 0) of "0.13.0.dev2026"."""
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def affected(jaxlib_version: str = jaxlib.__version__, machine: str = platform.machine()) -> bool:
    """Whether this jaxlib is known to compute some fused reductions wrong on CPUs like this one."""
    return machine.lower() in ("x86_64", "amd64") and _known(jaxlib_version)


def _known(jaxlib_version: str) -> bool:
    """Whether this jaxlib is one of those whose faults and flags were tried."""
    first, last = AFFECTED
    return first <= version(jaxlib_version) <= last


def protect(environment: MutableMapping[str, str] = os.environ, jaxlib_version: str = jaxlib.__version__) -> None:
    """Add the protection to `XLA_FLAGS` where it is needed; call it before a backend starts.

    A choice that the user made for the same option stays, and a jaxlib that may not know the flag is left alone. Where
    the protection is not in force, because the user chose otherwise or a backend runs already, `watch` goes on.
    """
    global _checked
    if affected(jaxlib_version):
        late = _started()
        _add(environment, PROTECTION, unless=(OPTION,))
        chosen = [flag for flag in environment["XLA_FLAGS"].split() if flag.startswith(f"--{OPTION}=")]
        # XLA takes the last of several.
        _checked = _checked or (not late and chosen[-1:] == [PROTECTION])


def _started() -> bool:
    """Whether a backend has started: JAX says so only by refusing to change how many CPU devices there are."""
    count = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", count + 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", count)
    return False


def simulate_devices(
    environment: MutableMapping[str, str] = os.environ, jaxlib_version: str = jaxlib.__version__
) -> None:
    """Keep several simulated devices on few cores from waiting for each other for ever, in `XLA_FLAGS`.

    A choice that the user made for the same option stays, and a jaxlib that may not know the flag is left alone.
    """
    if _known(jaxlib_version):
        _add(environment, IN_ORDER, unless=(SCHEDULER,))


def deterministic(environment: MutableMapping[str, str] = os.environ, *, on_gpu: bool | None = None) -> None:
    """Ask for equal bits from equal runs on GPUs, in `XLA_FLAGS`; call it before a backend starts.

    Nothing is added where JAX has no support for GPUs (`on_gpu`, found out by default), and a choice that the user made
    for this stays. A CPU gives equal bits in any case.
    """
    if has_gpu_support() if on_gpu is None else on_gpu:
        _add(environment, DETERMINISM, unless=("xla_gpu_deterministic_ops", "xla_gpu_exclude_nondeterministic_ops"))


def has_gpu_support() -> bool:
    """Whether a GPU plugin of JAX is installed; looks for it without starting it."""
    return any(importlib.util.find_spec(name) for name in GPU_PLUGINS)


def _add(environment: MutableMapping[str, str], flag: str, unless: tuple[str, ...]) -> None:
    given = environment.get("XLA_FLAGS", "")
    if given.strip() and not given.lstrip().startswith("-") and Path(given).is_file():
        # XLA reads flags from a file of that name; with one more behind the name it would find none, and abort.
        given = " ".join(Path(given).read_text().split())
    if not any(option in given for option in unless):
        environment["XLA_FLAGS"] = f"{given} {flag}".strip()


def self_test() -> list[str]:
    """What the CPU backend computes wrong, one line each; empty when all is right. Takes well under a second.

    The results of a few small products, multiplied or squared and summed, are compared with NumPy's in float64.
    """
    cpu = jax.devices("cpu")[0]
    place = jax.sharding.SingleDeviceSharding(cpu)
    found = []
    for name, (function, arrays, expected) in _products().items():
        # Compiled ahead of the call: it may come while something else is being traced.
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x in arrays]
        value = jax.jit(function).lower(*shapes).compile()(*(jax.device_put(x, cpu) for x in arrays))
        error = np.abs(np.asarray(value, np.float64) - expected).max() / np.abs(expected).max()
        if not error < WRONG:
            found.append(f"{name}: relative error {error:.1e}")
    return found


def _products() -> dict[str, tuple[Callable[..., jax.Array], list[np.ndarray], np.ndarray]]:
    """By name: a function, its arrays, and what it gives."""
    rng = np.random.default_rng(0)
    square = rng.standard_normal((64, 8, 8), np.float32)
    rows = np.zeros((2**15 + 1, 3), np.float32)
    rows[:, 0] = np.arange(len(rows))
    wide = square.astype(np.float64)
    return {
        "a product with a broadcast factor, multiplied and summed": (
            lambda x: ((x @ jnp.ones((8, 8), x.dtype)) * x).sum(-1),
            [square],
            (wide.sum(-1, keepdims=True) * wide).sum(-1),
        ),
        "matrix-vector products of many rows, squared and summed": (
            lambda x: jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=x.dtype) @ row) ** 2))(x),
            [rows],
            (rows.astype(np.float64) ** 2).sum(-1),
        ),
    }


def watch() -> None:
    """Warn once, after the first compilation, if the CPU backend computes wrong.

    Costs nothing where the jaxlib is not affected, and one `self_test` where it is.
    """
    if affected() and os.environ.get(SILENCE, "1") != "0":
        jax.monitoring.register_event_duration_secs_listener(_after_first_compilation)


def _after_first_compilation(event: str, duration: float, **details: object) -> None:
    global _checked
    if _checked or event != "/jax/core/compile/backend_compile_duration":
        return
    _checked = True
    if jax.default_backend() == "cpu" and (wrong := self_test()):
        warnings.warn(
            f"jaxlib {jaxlib.__version__} computes some sums on this CPU wrong ({'; '.join(wrong)}). Set "
            f"XLA_FLAGS={PROTECTION} before JAX starts, as dlcore's launchers do, or {SILENCE}=0 to ignore it.",
            RuntimeWarning,
            stacklevel=2,
        )
