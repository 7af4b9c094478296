"""The manifest for Kubernetes: a stopped run is no failure and goes on, every index is a run of its own."""

from pathlib import Path

import pytest
import yaml
from absl import flags
from absl.testing import flagsaver

from launch import runtime, train  # noqa: F401 (train defines the flags)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load((ROOT / "launch" / "kubernetes" / "train.yaml").read_text())["spec"]


def given(job):
    """The flags that a pod of index 3 passes on."""
    (container,) = job["template"]["spec"]["containers"]
    program, verb, *arguments = container["command"]
    assert (ROOT / program).is_file() and verb == "train"
    return [argument.replace("$(JOB_COMPLETION_INDEX)", "3") for argument in arguments]


def test_a_stopped_run_is_no_failure_and_its_pod_is_replaced(job):
    with flagsaver.flagsaver():
        flags.FLAGS(["train", *given(job)])
        stopped = flags.FLAGS.stopped_exit_code
    exits, disrupted = job["podFailurePolicy"]["rules"]
    assert exits["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [stopped]}
    assert exits["action"] == disrupted["action"] == "Ignore" and job["template"]["spec"]["restartPolicy"] == "Never"
    assert stopped not in (0, 1) and job["backoffLimit"] == 0
    enough = runtime.SECONDS_TO_STOP + runtime.SECONDS_FOR_OTHERS
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 2 * enough


def test_every_index_has_its_seed_and_folder(job):
    with flagsaver.flagsaver():
        flags.FLAGS(["train", *given(job)])
        assert flags.FLAGS.seed == 3 and flags.FLAGS.workdir.endswith("/seed-3")
        folder = flags.FLAGS.workdir
    (container,) = job["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert folder.startswith(mount["mountPath"] + "/") and job["completionMode"] == "Indexed"
