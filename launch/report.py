"""Draw the figures of a run again and write its report, from its folder alone.

python -m launch.report --workdir=runs/classify-digits-default
"""

from pathlib import Path

from absl import flags

from dlcore.data.checks import DataError
from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.report.html import write_report
from launch import request, runtime
from launch.results import complete
from launch.train import train


def main() -> None:
    """Also works for a run that is not finished: its newest checkpoint counts.

    Numbers that the summary of a finished run still lacks, because it was stopped or they failed, are added. Where the
    data is gone or has changed, the figures of the folder stay as they are.
    """
    runtime.start()
    try:
        run = request.from_folder(flags.FLAGS.workdir)
        experiment, mesh = run.build(), make_mesh()
        complete(run, experiment, to_host(mesh, request.restore(run, experiment, mesh)), train)
    except DataError as error:
        print(f"figures are not drawn again: {error}", flush=True)
        print(f"wrote {write_report(Path(flags.FLAGS.workdir))}", flush=True)


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "data_dir"))
