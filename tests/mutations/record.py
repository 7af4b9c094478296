"""Run every mutation that `record.json` does not hold yet as it stands now, and write which test noticed it.

PYTHONPATH=. .venv/bin/python tests/mutations/record.py      goes on where it was stopped
... record.py --again                                        runs the whole list anew
... record.py --counts                                       says what the record holds

The list takes about an hour. Each mutation has a process of its own, forked from one that has imported what is not
dlcore; the record is written after each.
"""

import argparse
import datetime
import importlib
import json
import os
import re
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutated import Broken, command, copy_repository, digest, mutations

RECORD = Path(__file__).with_name("record.json")
LIMIT_S = 600
"""Seconds of processor time after which a mutation has survived."""
IMPORTED = ("jax", "optax", "flax.linen", "flax.nnx", "hypothesis", "jaxtyping", "beartype", "chex", "scipy.stats")


def attempt(folder, entry):
    """pytest's exit code (negative past the limit) and output for the tests of `entry` in the copy."""
    output = folder / "output.txt"
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        with open(output, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        sys.path[:] = [path for path in sys.path if path not in ("", str(folder.parent))]
        import pytest

        os._exit(int(pytest.main(["-rfE", "--tb=line", *command(entry)])))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")


def outcome(code, output):
    """What the record says of one mutation."""
    failed = re.findall(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", output, re.MULTILINE)
    if code == 1 and failed:
        return {"killed_by": failed[0]}
    return {"survived": "past the limit" if code < 0 else f"exit code {code}: {output.strip()[-200:]}"}


def counts(record):
    """(killed, listed): mutations that the record says are noticed, of those listed now."""
    listed = {name: digest(entry) for name, entry in mutations()}
    known = [record[name] for name, key in listed.items() if record.get(name, {}).get("mutation") == key]
    return sum("killed_by" in said for said in known), len(listed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--counts", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the copy is made; else a temporary folder")
    given = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if not given.counts:
        listed = dict(mutations())
        record = {name: said for name, said in record.items() if name in listed}
        for name in IMPORTED:
            importlib.import_module(name)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "copy"
            folder.mkdir()
            copy_repository(folder)
            for name, entry in listed.items():
                if not given.again and record.get(name, {}).get("mutation") == digest(entry):
                    continue
                with Broken(folder, entry):
                    said = outcome(*attempt(folder, entry))
                date = datetime.date.today().isoformat()
                record[name] = {"mutation": digest(entry), **said, "date": date}
                print(name, said, flush=True)
                RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    killed, listed = counts(record)
    print(f"{killed} of {listed} mutations are noticed")


if __name__ == "__main__":
    main()
