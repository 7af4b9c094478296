"""Compare finished runs: a table of mean ± standard deviation over seeds, a figure and a CSV file.

python -m launch.compare runs/vae-digits-default*
python -m launch.compare --metrics=test/accuracy,train_seconds --out=runs/comparison runs/classify-*

Runs that are equal but for their seed are one line, which is called by what tells it from the others. Writes OUT.csv,
OUT.png and OUT-curves.png, by default with OUT=runs/comparison.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch import paths, runtime

flags.DEFINE_list(
    "metrics", [], "Metrics to compare, such as test/accuracy or train_seconds; default all that are shared."
)


def main(folders: Sequence[str]) -> None:
    """Print the table, and write the files."""
    from dlcore.report import comparison, figures
    from dlcore.train import compare
    from dlcore.train.progress import say

    if not folders:
        raise ValueError("name the run folders to compare: python -m launch.compare runs/vae-*")
    runs = [compare.finished(paths.local("a run folder", folder)) for folder in folders]
    groups, metrics = compare.grouped(runs), compare.shared_metrics(runs, flags.FLAGS.metrics)
    out = paths.local("out", flags.FLAGS.out or "runs/comparison")
    out.parent.mkdir(parents=True, exist_ok=True)
    print(compare.table(groups, metrics))
    written = [beside(out, ".csv")]
    compare.write_csv(written[0], groups)
    values = {m: {g: [r.metrics[m] for r in rs if m in r.metrics] for g, rs in groups.items()} for m in metrics}
    values = {m: found for m, found in values.items() if all(found.values())}
    if values:
        written.append(beside(out, ".png"))
        figures.save(comparison.dots(values), written[-1])
    measured = [name for name in runs[0].curves if all(name in run.curves for run in runs)]
    if measured:
        curves = {name: {g: [r.curves[name] for r in rs] for g, rs in groups.items()} for name in measured}
        written.append(beside(out, "-curves.png"))
        figures.save(comparison.curves(curves), written[-1])
    say(f"wrote {', '.join(map(str, written))}")


def beside(out: Path, ending: str) -> Path:
    """A file whose name begins with `out`."""
    return out.with_name(out.name + ending)


if __name__ == "__main__":
    runtime.run(main, uses=("out",), arguments=True)
