"""launch/slurm/train.sbatch against stand-ins for srun and scontrol."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "slurm" / "train.sbatch"


@pytest.fixture
def cluster(tmp_path):
    """Runs the job script in a repository; `finishes` writes the summary, as a run does at its end."""
    repository, calls = tmp_path / "a repo", tmp_path / "calls"
    (repository / "launch").mkdir(parents=True)
    (repository / "launch" / "local.sh").touch(mode=0o755)
    stand_in = '#!/bin/bash\nprintf "%s|" "$(basename "$0")" "$@" >>"$CALLS"; echo >>"$CALLS"\n'
    finish = '[ -z "$FINISHES" ] || { mkdir -p "$FINISHES"; echo "{}" >"$FINISHES/summary.json"; }\nexit "$STATUS"\n'
    for name, text in (("srun", stand_in + finish), ("scontrol", stand_in)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def submit(*flags, finishes="", status=0, folder=repository):
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "FINISHES": finishes,
            "STATUS": str(status), "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "42",
        }  # fmt: skip
        done = subprocess.run(["bash", str(SCRIPT), *flags], env=environment, capture_output=True, text=True)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, [line.split("|")[:-1] for line in lines], done.stderr

    return submit


def test_a_finished_run_ends_the_job(cluster):
    code, calls, _ = cluster("--experiment=vae", "--workdir=my runs/a", finishes="my runs/a")
    assert code == 0
    assert calls == [
        ["srun", "--kill-on-bad-exit=1", "./launch/local.sh", "train", "--experiment=vae", "--workdir=my runs/a"]
    ]


def test_a_stopped_run_goes_back_into_the_queue(cluster):
    code, calls, _ = cluster("--workdir=a")
    assert code == 0 and calls[-1] == ["scontrol", "requeue", "42"]


def test_the_job_names_the_folder_unless_a_flag_does(cluster):
    code, calls, _ = cluster("--experiment=vae", finishes="runs/slurm-42")
    assert code == 0 and len(calls) == 1 and calls[0][-1] == "--workdir=runs/slurm-42"


def test_a_failed_run_fails_the_job(cluster):
    code, calls, _ = cluster("--workdir=a", status=3)
    assert code == 3 and [call[0] for call in calls] == ["srun"]


def test_elsewhere_it_says_where_to_submit(cluster, tmp_path):
    code, calls, err = cluster("--workdir=a", folder=tmp_path)
    assert code == 2 and calls == [] and "root of the repository" in err


def test_time_limit_and_preemption_are_asked_for():
    options = {line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"--requeue", "--signal=TERM@60", "--open-mode=append"} <= options
