"""`report.html`: a run on one page that needs nothing beside itself."""

import base64
import html
import json
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dlcore.report.figures import write_bytes

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; } .big td { font-size: 1.15rem; } .muted { opacity: .65; }
figure { margin: 1rem 0; } img { max-width: 100%; background: white; border-radius: 4px; image-rendering: auto; }
iframe { width: 100%; height: 56rem; border: 0; }
figcaption { opacity: .7; font-size: .9rem; } details { margin: .6rem 0; } summary { cursor: pointer; }
"""


def write_report(
    workdir: Path,
    notes: Mapping[str, str] | None = None,
    stages: Sequence[str] = (),
    *,
    headline: Sequence[str] = (),
    picture: Sequence[str] = (),
) -> Path:
    """The command, the metrics of the `headline` and the first `picture` that there is, curves, then all the rest.

    Metrics are called as in the summary, without `test/`; a picture is STAGE/TITLE. Without them the first metrics and
    the first figure that is no curve stand there. Parts that are missing are left out. `notes` says what failed.
    """
    config, environment, summary = (_json(workdir / f"{name}.json") for name in ("config", "environment", "summary"))
    title = f"{config.get('experiment', 'run')} on {config.get('data', 'unknown data')}"
    status = f"finished after {summary.get('steps', 0):,} steps" if summary else "not finished"
    details = f"preset {config.get('preset')}, seed {config.get('seed')}, {status}"
    metrics = summary.pop("metrics", {}) if summary else {}
    figures = {name: sorted((workdir / name / "figures").glob("*.png")) for name in stages}
    best = _best(workdir, [path for paths in figures.values() for path in paths], picture)
    curves = [path for paths in figures.values() for path in paths if path.stem == "curves"]
    pages = {name: sorted((workdir / name / "figures").glob("*.html")) for name in stages}
    rest = {name: pages[name] + [path for path in figures[name] if path not in best + curves] for name in stages}
    several = len(stages) > 1
    body = [
        f"<h1>{html.escape(title)}</h1>",
        _command(environment.get("command", [])),
        f'<p class="muted">{html.escape(details)}</p>',
        _table(_headline(metrics, headline), "big"),
        _failures(notes or {}),
        "".join(map(_figure, best)),
        _images("Curves", curves, [path.parent.parent.name for path in curves] if several else None),
        *(_stage(name, "figures", rest[name], several) for name in stages),
        *(_stage(name, "samples", sorted((workdir / name / "samples").glob("*.png")), several) for name in stages),
        _images("Samples", sorted((workdir / "samples").glob("*.png"))),
        _section("All metrics", metrics),
        _section("Summary", summary),
        _section("Configuration", _flat(config)),
        _section("Environment", _flat(environment)),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )
    # Names of files may hold what is no text.
    write_bytes(workdir / "report.html", page.encode("utf-8", "backslashreplace"))
    return workdir / "report.html"


MOST = 4
"""Metrics that a report begins with where no headline is named; twice as many of one that is."""


def _headline(metrics: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The metrics that the headline names; the first ones where it names none that there is."""
    found = [name for one in names for name in metrics if fnmatchcase(name.removeprefix("test/"), one)]
    chosen = list(dict.fromkeys(found))[: 2 * MOST] or list(metrics)[:MOST]
    return {name: metrics[name] for name in chosen}


def _best(workdir: Path, figures: Sequence[Path], picture: Sequence[str]) -> list[Path]:
    """The figure that a report begins with, if there is any."""
    named = [workdir / stage / "figures" / f"{title}.png" for stage, _, title in (p.partition("/") for p in picture)]
    others = [path for path in figures if path.stem not in ("curves", "more_curves")]
    return [path for path in (*named, *others) if path in figures][:1]


def _command(arguments: Sequence[str]) -> str:
    """The command line that made the run, if a launcher did."""
    if not arguments or Path(arguments[0]).parent.name != "launch":
        return ""
    line = shlex.join(["./launch/local.sh", Path(arguments[0]).stem, *arguments[1:]])
    return f"<p><code>{html.escape(line)}</code></p>"


def _stage(name: str, kind: str, paths: Sequence[Path], several: bool) -> str:
    """Figures or samples of one stage, under its name where there are others."""
    title = f"{name.replace('_', ' ')}: {kind}" if several else kind
    return _images(title.capitalize(), paths)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{path}.{name}" if path else name
        flat |= _flat(value, key) if isinstance(value, dict) else {key: value}
    return flat


def _table(values: Mapping[str, Any], kind: str = "") -> str:
    def cell(value: Any) -> str:
        return html.escape(f"{value:,.5g}" if isinstance(value, float) else str(value))

    rows = (f"<tr><th>{html.escape(name)}</th><td>{cell(value)}</td></tr>" for name, value in values.items())
    return f'<table class="{kind}">{"".join(rows)}</table>' if values else ""


def _failures(notes: Mapping[str, str]) -> str:
    return f"<h2>What failed</h2>{_table(notes)}" if notes else ""


def _section(title: str, values: Mapping[str, Any]) -> str:
    return f"<details><summary>{title}</summary>{_table(values)}</details>" if values else ""


def _images(title: str, paths: Sequence[Path], captions: Sequence[str] | None = None) -> str:
    names = captions or [path.stem for path in paths]
    return f"<h2>{title}</h2>{''.join(map(_figure, paths, names))}" if paths else ""


def _figure(path: Path, caption: str = "") -> str:
    if path.suffix == ".html":
        return _page(path)
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape((caption or path.stem).replace("_", " "))
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'


def _page(path: Path) -> str:
    """A page of its own within the report, which stays one file."""
    name = html.escape(path.stem.replace("_", " "))
    held = html.escape(path.read_text(encoding="utf-8", errors="replace"))
    frame = f'<iframe title="{name}" sandbox="allow-scripts" srcdoc="{held}"></iframe>'
    return f"<details><summary>{name}</summary>{frame}</details>"
