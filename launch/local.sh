#!/usr/bin/env bash
# Run dlcore on this machine: makes .venv on first use, installs what the verb needs, and starts the program.
#   launch/local.sh train --experiment=classify --data=digits [--processes=2]
#   launch/local.sh eval|predict|sample|report|export|compare|list|bench|doctor|verify ...
#   launch/local.sh test [pytest arguments] | docs
# --processes=N starts N processes that compute as one. DLCORE_EXTRAS=cuda12,tpu,... says which optional dependencies
# there are to be (none: DLCORE_EXTRAS=), else those that fit this machine,
# DLCORE_PYTHON names the interpreter, DLCORE_VENV the environment's folder. What is installed has the tested versions,
# of launch/constraints.txt; DLCORE_NEWEST=1 takes the newest ones.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${DLCORE_VENV:-$root/.venv}
verbs="train eval predict sample report export compare list bench doctor verify test docs"

fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

supported() { case $1 in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The newest Python from 3.11 to 3.13: a newer JAX is much faster on CPU.
find_python() {
  local candidate version best="" best_minor=0 found=""
  if [ -n "${DLCORE_PYTHON:-}" ]; then
    version=$(version_of "$DLCORE_PYTHON") || fail "DLCORE_PYTHON=$DLCORE_PYTHON does not start"
    supported "$version" || fail "dlcore needs Python 3.11 to 3.13; DLCORE_PYTHON=$DLCORE_PYTHON is $version"
    printf '%s\n' "$DLCORE_PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python; do
    version=$(version_of "$candidate") || continue
    found="$found $version"
    if supported "$version" && [ "${version#3.}" -gt "$best_minor" ]; then best=$candidate best_minor=${version#3.}; fi
  done
  [ -n "$best" ] || fail "dlcore needs Python 3.11 to 3.13; found${found:- none}. Install one, or set DLCORE_PYTHON."
  printf '%s\n' "$best"
}

# CUDA wheels for the driver's version, or oneDNN where it can be compiled, unless DLCORE_EXTRAS says otherwise.
default_extras() {
  local driver
  if ! command -v nvidia-smi >/dev/null; then
    if command -v "${CXX:-g++}" >/dev/null && [ "$(uname -sm 2>/dev/null)" = "Linux x86_64" ]; then echo onednn; fi
    return 0
  fi
  driver=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p') || return 0
  case $driver in 12) echo cuda12 ;; 1[3-9]) echo cuda13 ;; esac
}

# What an installation depends on: the stamp of one holds this very text, and its name the extras.
constraints=$root/launch/constraints.txt
if [ -n "${DLCORE_NEWEST:-}" ] || [ ! -f "$constraints" ]; then constraints=""; fi
wanted() { cat "$root/pyproject.toml" ${constraints:+"$constraints"}; }

installed() { [ -f "$1" ] && wanted | cmp -s - "$1" && [ -x "$venv/bin/python" ]; }

# Only a folder that this script began (it holds the lock file) is ever emptied.
make_venv() {
  local python
  python=$(find_python)
  find "$venv" -mindepth 1 -not -name .dlcore-lock -delete
  if command -v uv >/dev/null; then uv venv --quiet --allow-existing --python "$python" "$venv"; else "$python" -m venv "$venv"; fi
  : >"$venv/.made"
}

install() {
  local stamp=$1 extras=$2 log=$venv/install.log
  if [ ! -f "$venv/.made" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then make_venv; fi
  printf 'dlcore: installing into %s with %s (first use; a minute or two)\n' "$venv" "$("$venv/bin/python" -V)" >&2
  local target="$root${extras:+[$extras]}"
  if command -v uv >/dev/null; then
    uv pip install --quiet --python "$venv/bin/python" ${constraints:+-c "$constraints"} -e "$target" >"$log" 2>&1
  else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check ${constraints:+-c "$constraints"} \
      -e "$target" >"$log" 2>&1
  fi || { cat "$log" >&2; fail "the installation failed; see above, and run the same command again"; }
  wanted >"$stamp"
}

prepare() {
  local extras=${DLCORE_EXTRAS-$(default_extras)} wanted stamp
  # What the pages need includes what the tests need, and that what the other verbs need.
  case $1 in
  docs) set -- docs,test ;;
  test) set -- test docs,test ;;
  *) set -- "" test docs,test ;;
  esac
  for wanted; do if installed "$(stamp_of "$wanted${wanted:+${extras:+,}}$extras")"; then return; fi; done
  extras="$1${1:+${extras:+,}}$extras"
  stamp=$(stamp_of "$extras")
  mkdir -p "$venv" 2>/dev/null || fail "cannot make $venv; set DLCORE_VENV to a folder that can be written"
  adopt
  exec 9>>"$venv/.dlcore-lock"
  if command -v flock >/dev/null; then flock 9; fi
  installed "$stamp" || install "$stamp" "$extras"
  exec 9>&-
}

stamp_of() { printf '%s' "$venv/.installed-${1:-base}"; }

# An environment that the user made is used as it is; any other folder is left alone.
adopt() {
  if [ -z "$(ls -A "$venv")" ] || [ -e "$venv/.dlcore-lock" ]; then return; fi
  supported "$(version_of "$venv/bin/python")" ||
    fail "$venv is not a virtual environment of Python 3.11 to 3.13; remove it, or set DLCORE_VENV to another folder"
  : >"$venv/.made"
}

# Several jax.distributed processes on this machine; the first failure ends all.
run_processes() {
  local count=$1 port i code pids=() status=0 deadline=0 distributed
  shift
  port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
  trap 'kill -TERM ${pids[@]+"${pids[@]}"} 2>/dev/null || true' TERM INT
  set -m # each in a process group of its own: Ctrl-C reaches it once, through the trap
  for ((i = 0; i < count; i++)); do
    distributed=(--coordinator="localhost:$port" --num_processes="$count" --process_id="$i")
    if ((i == 0)); then
      "$venv/bin/python" -m "$@" "${distributed[@]}" &
    else
      "$venv/bin/python" -m "$@" "${distributed[@]}" > >(exec sed "s/^/[$i] /" >&2) 2>&1 &
    fi
    pids[i]=$!
  done
  set +m
  while ((${#pids[@]})); do
    for i in "${!pids[@]}"; do
      if kill -0 "${pids[i]}" 2>/dev/null; then continue; fi
      code=0
      wait "${pids[i]}" || code=$?
      unset "pids[i]"
      if ((code && !status)); then
        status=$code deadline=$((SECONDS + 10))
        kill -TERM ${pids[@]+"${pids[@]}"} 2>/dev/null || true
      fi
    done
    if ((deadline && SECONDS > deadline)); then kill -KILL ${pids[@]+"${pids[@]}"} 2>/dev/null || true; fi
    sleep 0.1
  done
  exit "$status"
}

usage() {
  cat <<'END'
usage: launch/local.sh VERB [flags]     (VERB --help says all flags of a verb)
  train     train a system, or go on with a run     --experiment=vae --data=digits [--preset=smoke] [--seeds=0,1,2]
  list      systems, presets, data sets              [--experiment=vae: its settings]
  eval      metrics of a run on a split              --workdir=RUN [--split=validation]
  predict   classes of images of your own            --workdir=RUN --images=DIR
  sample    samples of a generative model            --workdir=RUN [--num=64]
  report    figures and report.html again            --workdir=RUN
  export    weights and program of a trained model   --workdir=RUN
  compare   table and figure over runs               RUN RUN ...
  bench     speed of a system's training             --experiment=vae
  doctor    versions, devices, data sets, speed
  verify    trains a system twice: is it resumed to the bit here?   --experiment=vae
  test      the tests                                [pytest arguments]
  docs      the pages, into build/docs/html
END
}

verb=${1:-}
case $verb in help | --help | -h) usage; exit 0 ;; esac
case " $verbs " in
*" ${verb:-none} "*) shift ;;
*) fail "unknown verb '${verb}'; usage: launch/local.sh ${verbs// /|} [flags]" ;;
esac

processes=1
arguments=()
for argument in "$@"; do
  case $argument in
  --processes=*) processes=${argument#--processes=} ;;
  *) arguments+=("$argument") ;;
  esac
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "--processes must be a positive number, got '$processes'"

prepare "$verb"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# Large arrays in huge pages: else each step of a larger network waits for tens of thousands of page faults.
export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}
if [ "$verb" = test ]; then
  cd "$root"
  # One worker per core: most of a test's time is compiling, on one thread.
  exec "$venv/bin/python" -m pytest -n auto --dist worksteal ${arguments[@]+"${arguments[@]}"}
fi
if [ "$processes" -gt 1 ]; then run_processes "$processes" "launch.$verb" ${arguments[@]+"${arguments[@]}"}; fi
exec "$venv/bin/python" -m "launch.$verb" ${arguments[@]+"${arguments[@]}"}
