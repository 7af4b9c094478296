"""The rows of `--suite=gpu` in words."""

from collections.abc import Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]


def heading(found: Row) -> str:
    """The card, and what it can do at most."""
    rates = ", ".join(f"{rate / 1e12:,.1f} in {dtype}" for dtype, rate in found["product_flops_per_second"].items())
    memory = found["bytes_per_second"] / 1e9
    return f"{found['device']}, JAX {found['jax']}; matrix product {rates} TFLOP/s, memory {memory:,.0f} GB/s"


def lines(row: Row, program: str, roof: Mapping[str, float]) -> Iterator[str]:
    """What a part of a row has found; `roof` is the rate of matrix products by dtype."""
    head = f"{row['workload']:<10} {row['dtype']:<8} "
    yield from {"train": _trained, "torch": _beside, "deterministic": _repeated}[program](head, row, roof)


def _trained(head: str, row: Row, roof: Mapping[str, float]) -> Iterator[str]:
    if "seconds" not in row:
        yield head + f"nothing measured: {_end(row)}"
        return
    rate = row["product_flops"] / row["seconds"] / roof[row["dtype"]]
    line = f"{row['images']:6,} at once {row['images'] / row['seconds']:10,.0f} images/s  {rate:4.0%} of the product"
    line += f"  host {row['host_share']:4.0%}  {row['peak_bytes'] / 2**30:,.1f} GiB"
    line += f"  compile {row['compile_seconds']:.1f} s, first step {row['ready_seconds']:.1f} s after start"
    yield head + line
    more = [f"{trial['images']:,}: {_trial(trial)}" for trial in row["trials"]]
    told = f"images/s by batch {', '.join(more)}"
    if "scan" in row:
        told += f"; {row['scan']['steps']} steps a call {row['scan']['times_single']:.2f} × as fast"
    yield f"{'':<20}{told}{_cut(row)}"


def _trial(trial: Row) -> str:
    return "no memory" if trial.get("out_of_memory") else f"{trial['images'] / trial['seconds']:,.0f}"


def _beside(head: str, row: Row, roof: Mapping[str, float]) -> Iterator[str]:
    torch = row["torch"]
    for way, name in (("eager", "eager PyTorch"), ("compiled", "torch.compile")):
        if f"{way}_seconds" in torch:
            taken = torch[f"{way}_seconds"]
            line = f"{taken / row['seconds']:.2f} × {name} ({row['images'] / taken:,.0f} images/s"
            yield f"{'':<20}{line}, first step {torch[f'{way}_first_step_seconds']:.1f} s)"
    if "failed" in torch or "cut" in torch:
        yield f"{'':<20}PyTorch {_end(torch)}"


def _repeated(head: str, row: Row, roof: Mapping[str, float]) -> Iterator[str]:
    found = row["deterministic"]
    if "digests" not in found:
        yield head + f"deterministic: {_end(found)}"
        return
    same = "equal to the bit" if len(set(found["digests"])) == 1 else "NOT equal"
    told = f"deterministic: {len(found['digests'])} trainings of {found['steps']} steps {same}"
    if "seconds" in found:
        told += f", {found['images'] / found['seconds']:,.0f} images/s"
    yield head + told + _cut(found)


def _end(found: Row) -> str:
    return f"cut {found['cut']}" if "cut" in found else f"failed ({found.get('failed', 'no answer')}), see above"


def _cut(found: Row) -> str:
    return f"; {_end(found)}" if "cut" in found or "failed" in found else ""
