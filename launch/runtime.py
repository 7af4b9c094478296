"""What every program does before JAX starts, and how it ends on a user's mistake."""

import atexit
import gc
import logging as standard_logging
import os
import select
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from absl import app, flags, logging

flags.DEFINE_integer("cpu_devices", 0, "Simulate this many devices on CPU; 0 uses what is there.")
flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, for a computation of several processes.")
flags.DEFINE_boolean("deterministic", True, "Equal bits from equal runs on a GPU, at some cost in speed.")
flags.DEFINE_integer("num_processes", 0, "How many processes take part.")
flags.DEFINE_integer("process_id", -1, "Which of them this is.")


def compile_cache() -> Path:
    """Where compiled programs are kept between runs: $JAX_COMPILATION_CACHE_DIR, or in the user's cache folder."""
    import jax

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")  # "" is not the folder here
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or base / "dlcore" / f"jax-{jax.__version__}")


def start() -> None:
    """Set compiler, devices, compile cache and processes from the flags, before a backend starts."""
    import jax

    from dlcore.parallel import backend, processes

    backend.protect()
    if flags.FLAGS.deterministic:
        backend.deterministic()
    if flags.FLAGS.cpu_devices < 0:
        raise ValueError(f"--cpu_devices must not be negative, got {flags.FLAGS.cpu_devices}")
    if flags.FLAGS.cpu_devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", flags.FLAGS.cpu_devices)
    if flags.FLAGS.cpu_devices > 1:
        backend.simulate_devices()
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    # Small programs too: two dozen of them are a quarter of a short run.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    processes.start(flags.FLAGS.coordinator, flags.FLAGS.num_processes, flags.FLAGS.process_id)


def run(main: Callable[..., None], uses: Collection[str] | None = None, *, arguments: bool = False) -> None:
    """Run a program: a mistake of the user is one line on stderr and exit code 1, not a traceback.

    `uses` names the flags of other programs' modules that it uses; any other of them is a mistake. None: all.
    With `arguments`, `main` takes the list of those that are no flags; otherwise they are a mistake.
    """

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
        silence_abandoned_reads()
        try:
            if argv[1:] and not arguments:
                raise ValueError(f"unexpected argument {argv[1]!r}; flags are written --name=value")
            if uses is not None:
                refuse_others(uses)
            main(argv[1:]) if arguments else main()
        except (ValueError, FloatingPointError, OSError) as error:
            if os.environ.get("DLCORE_TRACEBACK"):
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            sys.exit(1)

    # Last of all: the interpreter would search what JAX leaves for cycles, for most of a second, before it ends.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        # Names of files and classes may hold what a terminal's encoding lacks, or bytes that are no text.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(help_text(sys.modules["__main__"].__doc__ or "", taken(uses)))
        return
    app.run(guarded)


def taken(uses: Collection[str] | None) -> list[str]:
    """The flags of the program that runs and those that it uses, of other programs' modules; `uses` as in `run`."""
    owners = {name: flags.FLAGS.find_module_defining_flag(name) for name in flags.FLAGS}
    ours = {name for name, module in owners.items() if module.startswith("launch.") or module == sys.argv[0]}
    own = ours if uses is None else {name for name in ours if owners[name] in (sys.argv[0], __name__)} | set(uses)
    return sorted(own, key=lambda name: (owners[name] == __name__, name))  # those of every program come last


def help_text(description: str, names: Collection[str]) -> str:
    """What a program is, and each of its flags with its default and its meaning."""
    lines = [description.strip(), ""]
    for name in names:
        flag = flags.FLAGS[name]
        default = "" if flag.default in (None, "", []) else f"  (default {flag.default})"
        lines += [f"--{name}{default}", *textwrap.wrap(flag.help, 110, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def refuse_others(uses: Collection[str]) -> None:
    """Raise `ValueError` for a flag that is given, and neither this program's own nor among those it `uses`."""
    takes = taken(uses)
    ours = taken(None)
    for name in ours:
        if name not in takes and flags.FLAGS[name].present:
            listed = ", ".join(f"--{name}" for name in takes)
            raise ValueError(f"--{name} has no meaning for {Path(sys.argv[0]).stem}, which takes {listed}; drop it")


def silence_abandoned_reads() -> None:
    """A damaged checkpoint is reported once, in our words; what its abandoned parallel reads raise need not follow."""
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = hook


SECONDS_TO_STOP = 8.0
SECONDS_FOR_OTHERS = 3.0
"""How long the main process of several stays after a stop, so that the others are gone before a scheduler looks."""


class StopRequest:
    """Becomes true on SIGTERM or SIGINT, so that a run can save and exit with `exit_code`.

    When the main thread does not come round in time (it may be compiling), or on a second signal, the
    process exits with it all the same: the newest checkpoint stands, and the next start replays the rest
    to the bit. Create it after `start`, which lets JAX install handlers of its own.
    """

    def __init__(self, exit_code: int = 0) -> None:
        import jax

        from dlcore.parallel import processes

        self.exit_code = exit_code if processes.is_main() else 0
        self._several, self._main = jax.process_count() > 1, processes.is_main()
        self._asked = threading.Event()
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # The wake-up byte is written by the C handler at once, even while Python waits for the compiler.
        signal.set_wakeup_fd(write)
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self) -> bool:
        return self._asked.is_set()

    def leave(self) -> None:
        """End a process that has saved. Of several the others exit 0, and the main one last with the exit code.

        Schedulers that see one process end with another code kill the rest, and take that for the result.
        """
        if self._several:
            import jax

            jax.distributed.shutdown()
        self._let_others_go()
        sys.exit(self.exit_code)

    def await_end(self) -> None:
        """Wait, after a stop was asked for, until the time to come round is over and the process ends."""
        time.sleep(SECONDS_TO_STOP + SECONDS_FOR_OTHERS + 1)

    def _let_others_go(self) -> None:
        if self._several and self._main:
            time.sleep(SECONDS_FOR_OTHERS)

    def _watch(self) -> None:
        os.read(self._read, 1)
        self._asked.set()
        select.select([self._read], [], [], SECONDS_TO_STOP)
        print("stopped at the newest checkpoint; run the same command to go on", file=sys.stderr, flush=True)
        self._let_others_go()
        os._exit(self.exit_code)
