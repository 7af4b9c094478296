"""`--suite=standard`: the workloads, what they take, and the peers; results as they come, then a file and a figure."""

import importlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import jax

from dlcore.lookup import check_name
from dlcore.report import comparison, figures
from launch.speed.networks import NETWORKS
from launch.speed.roof import product_rate
from launch.speed.turns import WITHOUT, compare, lines

PEERS = ("torch", "flax", WITHOUT)


def standard(
    workloads: Sequence[str], peers: Sequence[str], *, seconds: float, turns: int, folder: Path, images: int = 0
) -> None:
    """Time the named workloads, or all, and write `speed.json` and `speed.png` into `folder`.

    Raises `ValueError` for an unknown workload or peer, and for a peer that is not installed.
    """
    for name in workloads:
        check_name("workload", name, NETWORKS)
    for name in peers:
        check_name("peer", name, PEERS)
    known = {peer: offered(peer) for peer in peers}
    roof, found = product_rate(), []
    print(f"{cpu_name()}, {jax.device_count()} device; matrix product {roof / 1e9:,.0f} GFLOP/s", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in workloads or NETWORKS:
        beside = [peer for peer in peers if name in known[peer]]
        for row in compare(name, beside, seconds=seconds, turns=turns, images=images):
            found.append(row)
            print("\n".join(lines(row, roof)), flush=True)
            told = {"machine": cpu_name(), "product_flops_per_second": roof, "jax": jax.__version__, "rows": found}
            figures.write_bytes(folder / "speed.json", json.dumps(told, indent=1).encode())
    ratios = {
        f"times {peer}, {what}": {
            row["workload"]: row["ratios"][peer]["seconds"]
            for row in found
            if row["what"] == what and peer in row["ratios"]
        }
        for peer in peers
        for what in ("train", "infer")
    }
    if drawn := {name: values for name, values in ratios.items() if values}:
        figures.save(comparison.dots(drawn), folder / "speed.png")
    print(f"wrote {folder / 'speed.json'}", flush=True)


def offered(peer: str) -> set[str]:
    """The workloads that a peer has; raises `ValueError` where it is not installed."""
    if peer == WITHOUT:
        return set(NETWORKS)
    try:
        return set(importlib.import_module(f"launch.speed.{peer}_side").NETWORKS)
    except ImportError as error:
        raise ValueError(f"--peer={peer} needs {error.name}; install the extra, DLCORE_EXTRAS={peer}") from None


def cpu_name() -> str:
    """The processor, as Linux names it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()
