"""launch/local.sh against a stand-in interpreter that notes how it is called: no network, no installation."""

import itertools
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "env", "dirname", "sed", "find", "mkdir", "flock", "cmp", "cp", "cat", "sleep", "rm", "ls")
INTERPRETER = r"""#!/bin/bash
# Stand-in for python: a version, venvs that hold a copy of itself, pip and launched modules noted in $CALLS.
case "$1" in
-V) echo "Python VERSION" ;;
-c) case "$2" in *version_info*) echo "VERSION" ;; *socket*) echo 4711 ;; esac ;;
-m)
  case "$2" in
  venv) echo "venv $3" >>"$CALLS"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  pip)
    for ((i = 1; i < $#; i++)); do if [ "${!i}" = -c ]; then j=$((i + 1)); echo "constraints ${!j}" >>"$CALLS"; fi; done
    sleep "${SLOW:-0}"; echo "pip ${*: -1}" >>"$CALLS"; echo "pip says why"; exit "${PIP_STATUS:-0}" ;;
  *)
    trap 'echo "asked to stop" >>"$CALLS"; exit "${STOPPED:-0}"' TERM
    # In one write: several processes may note their calls at once.
    call=$(printf '%s|' "$PWD" "$PYTHONPATH" "${@:2}")
    echo "$call" >>"$CALLS"
    echo "$GLIBC_TUNABLES" >"$CALLS.tunables"
    echo "hello from ${*: -1}"
    # Who is to fail waits until the first process runs and can be told to stop.
    ready() { until [[ $(<"$CALLS") == *process_id=0* ]]; do sleep 0.02; done; }
    case "$*" in
    *process_id="${FAILS:-none}"*) ready; exit 7 ;;
    *process_id="${KILLED:-none}"*) ready; kill -KILL $$ ;;
    esac
    for ((i = 0; i < ${WAITS:-0}; i++)); do sleep 0.05; done
    exit "${STATUS:-0}" ;;
  esac ;;
esac
"""


class Sandbox:
    """A copy of what local.sh needs, in a folder with a space, and a PATH that holds little else."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.elsewhere = folder / "a repo", folder / "bin", folder / "else where"
        self.calls_file = folder / "calls"
        for path in (self.root / "launch", self.bin, self.elsewhere):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "launch" / "local.sh", self.root / "launch")
        (self.root / "pyproject.toml").write_text("first\n")
        for tool in TOOLS:
            if path := shutil.which(tool):
                (self.bin / tool).symlink_to(path)
        self.environment = {"PATH": str(self.bin), "HOME": str(folder), "CALLS": str(self.calls_file)}
        self.venv = self.root / ".venv"

    def interpreter(self, name: str, version: str) -> Path:
        path = self.bin / name
        path.write_text(INTERPRETER.replace("VERSION", version))
        path.chmod(0o755)
        return path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        # Behind nohup or a shell's & an interrupt is ignored, and children would inherit that; a handler they do not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [str(self.root / "launch" / "local.sh"), *arguments],
            cwd=self.elsewhere,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self) -> list[str]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def sandbox(tmp_path):
    box = Sandbox(tmp_path)
    box.interpreter("python3.12", "3.12")
    return box


def test_first_use_installs_then_runs_where_the_user_is(sandbox):
    code, _, err = sandbox.run("train", "--experiment=classify", "--workdir=my runs/a")
    assert code == 0 and "installing" in err
    venv, pip, run = sandbox.calls()
    assert (venv, pip) == (f"venv {sandbox.venv}", f"pip {sandbox.root}")
    program = "launch.train|--experiment=classify|--workdir=my runs/a|"
    assert run == f"{sandbox.elsewhere}|{sandbox.root}|{program}"


@pytest.mark.parametrize(
    ("machine", "given", "extras"),
    [("Linux x86_64", {}, "[onednn]"), ("Linux aarch64", {}, ""), ("Linux x86_64", {"DLCORE_EXTRAS": ""}, "")],
)
def test_convolutions_of_onednn_where_they_can_be_compiled(sandbox, machine, given, extras):
    for name, text in {"g++": "", "uname": f"echo {machine}"}.items():
        (sandbox.bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (sandbox.bin / name).chmod(0o755)
    assert sandbox.run("train", **given)[0] == 0
    assert sandbox.calls()[1] == f"pip {sandbox.root}{extras}"


def test_second_use_installs_nothing_and_starts_at_once(sandbox):
    sandbox.run("train")
    sandbox.calls()
    began = time.monotonic()
    code, _, err = sandbox.run("eval", "--workdir=x")
    assert time.monotonic() - began < 2
    assert code == 0 and err == "" and len(sandbox.calls()) == 1


def test_tests_run_in_the_repository_with_their_extra(sandbox):
    sandbox.run("test", "-k", "a b")
    _, pip, run = sandbox.calls()
    assert pip == f"pip {sandbox.root}[test]"
    assert run == f"{sandbox.root}|{sandbox.root}|pytest|-n|auto|--dist|worksteal|-k|a b|"
    sandbox.run("train")
    assert len(sandbox.calls()) == 1, "what the tests need includes what training needs"


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": ""}, ""), ({"GLIBC_TUNABLES": "a=2"}, "a=2")],
)
def test_large_arrays_lie_in_huge_pages_unless_the_user_says_otherwise(sandbox, own, expected):
    sandbox.run("train", **own)
    assert Path(f"{sandbox.calls_file}.tunables").read_text().strip() == expected


def test_extras_are_installed_when_asked_for(sandbox):
    sandbox.run("train", DLCORE_EXTRAS="cuda12")
    assert f"pip {sandbox.root}[cuda12]" in sandbox.calls()
    sandbox.run("test", DLCORE_EXTRAS="cuda12")
    assert f"pip {sandbox.root}[test,cuda12]" in sandbox.calls()


def test_what_the_pages_need_includes_what_the_tests_need(sandbox):
    sandbox.run("test")
    assert f"pip {sandbox.root}[test]" in sandbox.calls()
    sandbox.run("docs")
    assert f"pip {sandbox.root}[docs,test]" in sandbox.calls()
    (sandbox.venv / ".installed-test").unlink()
    for verb in ("train", "test", "docs"):
        sandbox.run(verb)
    assert not any(call.startswith("pip") for call in sandbox.calls())


@pytest.mark.parametrize(("driver", "extra"), [("12.8", "[cuda12]"), ("13.0", "[cuda13]"), ("11.4", "")])
def test_extra_follows_the_driver(sandbox, driver, extra):
    smi = sandbox.bin / "nvidia-smi"
    smi.write_text(f"#!/bin/bash\necho '| Driver Version: 570.1   CUDA Version: {driver} |'\n")
    smi.chmod(0o755)
    sandbox.run("train")
    assert f"pip {sandbox.root}{extra}" in sandbox.calls()


def test_the_tested_versions_are_installed_unless_the_newest_are_asked_for(sandbox):
    tested = sandbox.root / "launch" / "constraints.txt"
    tested.write_text("jax==0.10.2\n")
    assert sandbox.run("train")[0] == 0
    assert sandbox.calls()[1:3] == [f"constraints {tested}", f"pip {sandbox.root}"]
    sandbox.run("train")
    assert len(sandbox.calls()) == 1, "nothing has changed"
    tested.write_text("jax==0.12.0\n")
    sandbox.run("train")
    assert f"constraints {tested}" in sandbox.calls(), "other versions are installed again"
    sandbox.run("train", DLCORE_NEWEST="1")
    found = sandbox.calls()
    assert f"pip {sandbox.root}" in found and not any(call.startswith("constraints") for call in found)


def test_the_tested_versions_are_those_of_every_dependency():
    """Every requirement of the project, its tests and its pages has one version, on the oldest and newest Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [Requirement(line) for line in (ROOT / "launch/constraints.txt").read_text().splitlines() if line[0] != "#"]
    for python in ("3.11", "3.12", "3.13"):
        where = {"python_version": python, "python_full_version": f"{python}.4", "sys_platform": "linux"}
        pinned = {line.name: line for line in lines if line.marker is None or line.marker.evaluate(where)}
        extras = [project["optional-dependencies"][extra] for extra in ("test", "docs", "onednn", "faiss")]
        for text in (*project["dependencies"], *itertools.chain(*extras)):
            wanted = Requirement(text)
            (version,) = pinned[wanted.name.replace("_", "-").lower()].specifier
            assert version.operator == "==" and wanted.specifier.contains(version.version), (python, text)


def test_a_changed_pyproject_is_installed_again(sandbox):
    sandbox.run("train")
    (sandbox.root / "pyproject.toml").write_text("second\n")
    sandbox.calls()
    sandbox.run("train")
    assert [call.split()[0] for call in sandbox.calls()[:-1]] == ["pip"]


def test_a_failed_installation_says_why_and_is_tried_again(sandbox):
    code, _, err = sandbox.run("train", PIP_STATUS="3")
    assert code == 2 and "pip says why" in err and "installation failed" in err
    assert not any("launch.train" in call for call in sandbox.calls())
    assert sandbox.run("train")[0] == 0
    assert f"pip {sandbox.root}" in sandbox.calls()


@pytest.mark.parametrize("leftover", ["half-made", "dead interpreter"])
def test_a_broken_environment_is_made_anew(sandbox, leftover):
    if leftover == "half-made":
        sandbox.venv.mkdir()
        (sandbox.venv / ".dlcore-lock").touch()
        (sandbox.venv / "rubbish").touch()
    else:
        sandbox.run("train")
        (sandbox.venv / "bin" / "python").unlink()
        (sandbox.venv / "rubbish").touch()
    sandbox.calls()
    assert sandbox.run("train")[0] == 0
    assert sandbox.calls()[0].startswith("venv") and not (sandbox.venv / "rubbish").exists()


def test_a_folder_that_is_not_ours_is_never_emptied(sandbox):
    treasure = sandbox.elsewhere / "thesis.tex"
    treasure.touch()
    code, _, err = sandbox.run("train", DLCORE_VENV=str(sandbox.elsewhere))
    assert code == 2 and "DLCORE_VENV" in err and treasure.exists()


def test_an_environment_that_the_user_made_is_used(sandbox):
    (sandbox.venv / "bin").mkdir(parents=True)
    (sandbox.venv / "pyvenv.cfg").touch()
    shutil.copy(sandbox.bin / "python3.12", sandbox.venv / "bin" / "python")
    assert sandbox.run("train")[0] == 0
    assert sandbox.calls()[0] == f"pip {sandbox.root}" and (sandbox.venv / "pyvenv.cfg").exists()


def test_two_first_uses_at_once_install_once(sandbox):
    both = [sandbox.start("train", SLOW="0.5") for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(call.split()[0] for call in sandbox.calls() if "|" not in call) == ["pip", "venv"]


def test_the_newest_supported_python_is_taken(sandbox):
    sandbox.interpreter("python3", "3.14")
    versions = sandbox.elsewhere / "versions"
    for version in ("3.9", "3.13"):
        (versions / f"{version}.1" / "bin").mkdir(parents=True)
        shutil.copy(sandbox.interpreter("unused", version), versions / f"{version}.1" / "bin" / "python")
    (sandbox.bin / "python3.13").write_text("#!/bin/bash\nexit 127\n")
    (sandbox.bin / "python3.13").chmod(0o755)
    sandbox.run("train", PYENV_ROOT=str(sandbox.elsewhere))
    assert 'echo "3.13"' in (sandbox.venv / "bin" / "python").read_text()


def test_without_a_suitable_python_it_says_what_was_found(sandbox):
    (sandbox.bin / "python3.12").unlink()
    code, _, err = sandbox.run("train")
    assert code == 2 and "found none" in err
    sandbox.interpreter("python3", "3.10")
    code, _, err = sandbox.run("train")
    assert code == 2 and "Python 3.11 to 3.13" in err and "found 3.10" in err
    code, _, err = sandbox.run("train", DLCORE_PYTHON=str(sandbox.bin / "python3"))
    assert code == 2 and "is 3.10" in err
    assert sandbox.run("train", DLCORE_PYTHON="/no/such/python")[0] == 2


def test_uv_is_used_where_there_is_one(sandbox):
    uv = sandbox.bin / "uv"
    uv.write_text(
        '#!/bin/bash\necho "uv $*" >>"$CALLS"\n'
        'if [ "$1" = venv ]; then mkdir -p "${@: -1}/bin"; cp "$(type -P python3.12)" "${@: -1}/bin/python"; fi\n'
        # uv itself locks .lock in the environment it installs into.
        'if [ "$1" = pip ]; then exec 8>"$(dirname "$(dirname "$5")")/.lock"; flock -n 8 || exit 9; fi\n'
    )
    uv.chmod(0o755)
    code, _, err = sandbox.run("train")
    assert code == 0, err
    made, installed, _ = sandbox.calls()
    assert (
        made.startswith("uv venv")
        and installed.startswith("uv pip install")
        and installed.endswith(f"-e {sandbox.root}")
    )


def test_unknown_verb_shows_usage(sandbox):
    for arguments in ((), ("trian",), ("",)):
        code, out, err = sandbox.run(*arguments)
        assert code == 2 and out == "" and "train|eval|predict|sample|report" in err
    assert sandbox.calls() == []


def test_exit_code_and_signals_are_the_programs(sandbox):
    assert sandbox.run("train", STATUS="5")[0] == 5
    process = sandbox.start("train", WAITS="200")
    wait_for(sandbox, "launch.train", times=2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0 and "asked to stop" in sandbox.calls()


@pytest.mark.parametrize("flags", [(), ("--processes=2",)])
def test_the_exit_code_of_a_stopped_run_is_passed_through(sandbox, flags):
    process = sandbox.start("train", *flags, WAITS="200", STOPPED="75")
    wait_for(sandbox, "launch.train", times=1 + len(flags))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


def test_processes_get_their_place(sandbox):
    code, out, err = sandbox.run("train", "--seed=1", "--processes=3", "--data=digits")
    assert code == 0
    runs = sorted(call.split("|")[2:-1] for call in sandbox.calls() if "launch.train" in call)
    common = ["launch.train", "--seed=1", "--data=digits", "--coordinator=localhost:4711", "--num_processes=3"]
    assert runs == [[*common, f"--process_id={i}"] for i in range(3)]
    assert out == "hello from --process_id=0\n"
    assert "[1] hello from --process_id=1" in err and "[2] hello from --process_id=2" in err


@pytest.mark.parametrize(("how", "status"), [("FAILS", 7), ("KILLED", 128 + signal.SIGKILL)])
def test_the_first_failure_ends_all(sandbox, how, status):
    sandbox.run("train")
    began = time.monotonic()
    code, _, _ = sandbox.run("train", "--processes=2", WAITS="200", **{how: "1"})
    assert code == status and time.monotonic() - began < 8
    assert "asked to stop" in sandbox.calls()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_process_once(sandbox, number):
    process = sandbox.start("train", "--processes=2", WAITS="200")
    wait_for(sandbox, "launch.train", times=2)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 0 and sandbox.calls().count("asked to stop") == 2


@pytest.mark.parametrize("number", ["0", "-1", "two", ""])
def test_a_wrong_number_of_processes_is_refused(sandbox, number):
    code, _, err = sandbox.run("train", f"--processes={number}")
    assert code == 2 and "--processes" in err


def wait_for(sandbox: Sandbox, text: str, times: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if sandbox.calls_file.exists() and sandbox.calls_file.read_text().count(text) >= times:
            time.sleep(0.2)
            return
        time.sleep(0.05)
    raise AssertionError(f"{text} was not started {times} times within 20 s")
