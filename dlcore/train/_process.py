"""How long this process has been running, and how much of what it runs it had to compile."""

import os
import time
from collections import Counter
from pathlib import Path

import jax

ASKED = "/jax/compilation_cache/compile_requests_use_cache"
FOUND = "/jax/compilation_cache/cache_hits"

_imported = time.monotonic()
_counted: Counter[str] = Counter()
_watching = False


def watch() -> None:
    """Count from now on how many programs the compile cache is asked for, and how many it has."""
    global _watching
    if not _watching:
        _watching = True
        jax.monitoring.register_event_listener(lambda event, **details: _counted.update([event]))


def programs() -> tuple[int, int]:
    """How many programs were needed since `watch`, and how many of them came from the compile cache."""
    return _counted[ASKED], _counted[FOUND]


def seconds() -> float:
    """Since the process began, on Linux; elsewhere since this module was imported."""
    try:
        # The name of the program, in brackets, may hold blanks; field 22 is the start in ticks after the machine's own.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _imported


def in_words() -> str:
    """`12.3 s after the process began, 5 of 40 programs compiled anew`."""
    asked, found = programs()
    compiled = f", {asked - found} of {asked} programs compiled anew" if asked else ""
    return f"{seconds():.1f} s after the process began{compiled}"
