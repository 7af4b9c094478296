"""launch/slurm/train.sbatch against stand-ins for srun and scontrol."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "slurm" / "train.sbatch"


@pytest.fixture
def cluster(tmp_path):
    """Runs the job script in a repository; `status` is how srun ends."""
    repository, calls = tmp_path / "a repo", tmp_path / "calls"
    (repository / "launch").mkdir(parents=True)
    (repository / "launch" / "local.sh").touch(mode=0o755)
    stand_in = '#!/bin/bash\nprintf "%s|" "$(basename "$0")" "$@" >>"$CALLS"; echo >>"$CALLS"\n'
    for name, text in (("srun", stand_in + 'exit "$STATUS"\n'), ("scontrol", stand_in)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def submit(*flags, status=0, folder=repository, **variables):
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "STATUS": str(status),
            "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "42", **variables,
        }  # fmt: skip
        done = subprocess.run(["bash", str(SCRIPT), *flags], env=environment, capture_output=True, text=True)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, [line.split("|")[:-1] for line in lines], done.stderr

    return submit


STOPPED = "--stopped_exit_code=75"


def test_a_finished_run_ends_the_job(cluster):
    code, calls, _ = cluster("--experiment=vae", "--workdir=my runs/a")
    assert code == 0
    line = ["./launch/local.sh", "train", "--experiment=vae", "--workdir=my runs/a", STOPPED]
    assert calls == [["srun", "--kill-on-bad-exit=1", *line]]


def test_a_stopped_run_goes_back_into_the_queue(cluster):
    code, calls, _ = cluster("--workdir=a", status=75)
    assert code == 0 and calls[-1] == ["scontrol", "requeue", "42"]


def test_the_job_names_the_folder_unless_a_flag_does(cluster):
    code, calls, _ = cluster("--experiment=vae")
    assert code == 0 and len(calls) == 1 and calls[0][-2:] == ["--workdir=runs/slurm-42", STOPPED]


@pytest.mark.parametrize(("flags", "folder"), [((), "runs/slurm-40"), (("--workdir=my runs/a/",), "my runs/a")])
def test_the_index_of_an_array_is_the_seed_of_a_run_of_its_own(cluster, flags, folder):
    for index in ("0", "3"):
        code, calls, _ = cluster(*flags, SLURM_ARRAY_JOB_ID="40", SLURM_ARRAY_TASK_ID=index)
        assert code == 0
        assert calls[-1][-3:] == [f"--seed={index}", f"--workdir={folder}/seed-{index}", STOPPED]


@pytest.mark.parametrize("flag", ["--seed=1", "-seed=1"])
def test_a_seed_beside_an_array_is_refused(cluster, flag):
    code, calls, err = cluster("--experiment=vae", flag, SLURM_ARRAY_JOB_ID="40", SLURM_ARRAY_TASK_ID="1")
    assert code == 2 and calls == [] and "the index is the seed" in err
    assert cluster("--experiment=vae", flag)[0] == 0


@pytest.mark.parametrize("flags", [("--workdir", "a"), ("-seed", "3"), ("--stopped_exit_code=3",)])
def test_flags_that_the_script_cannot_read_are_refused(cluster, flags):
    code, calls, err = cluster("--experiment=vae", *flags)
    assert code == 2 and calls == [] and flags[0] in err


def test_a_failed_run_fails_the_job(cluster):
    code, calls, _ = cluster("--workdir=a", status=3)
    assert code == 3 and [call[0] for call in calls] == ["srun"]


def test_elsewhere_it_says_where_to_submit(cluster, tmp_path):
    code, calls, err = cluster("--workdir=a", folder=tmp_path)
    assert code == 2 and calls == [] and "root of the repository" in err


def test_time_limit_and_preemption_are_asked_for():
    options = {line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"--requeue", "--signal=TERM@60", "--open-mode=append"} <= options
