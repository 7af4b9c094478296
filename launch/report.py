"""Draw the figures of a run again and write its report, from its folder alone: neither data nor model is needed.

python -m launch.report --workdir=runs/classify-digits-default
"""

from absl import flags

from launch import request, runtime


def main() -> None:
    """Also works for a run that is not finished: what its stages have left counts.

    What the summary of a finished run still lacks, because it was stopped or failed, is computed. Where the data is
    gone or has changed, figures are drawn again from what was kept.
    """
    from dlcore.data import DataError
    from dlcore.train import locked, stages

    runtime.start()
    try:
        run = request.from_folder(flags.FLAGS.workdir)
    except DataError as error:
        print(f"figures are drawn from what was kept, and nothing is computed: {error}", flush=True)
        run = request.from_folder(flags.FLAGS.workdir, with_data=False)
    with locked(run.folder):
        stages.complete(run)


if __name__ == "__main__":
    runtime.run(main, uses=("workdir", "data_dir"))
