"""The command `dlcore`: `dlcore train --experiment=vae` is `python -m launch.train --experiment=vae`."""

import ast
import runpy
import sys

from launch import settings

VERBS = ("train", "list", "eval", "predict", "sample", "report", "export", "compare", "verify", "bench", "doctor")


def main() -> None:
    """Run the program that the first argument names, with the others."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "help"
    if verb in ("help", "--help", "-h"):
        print("\n".join(usage()))
        return
    if verb not in VERBS:
        print(f"error: unknown verb {verb!r}; usage: dlcore {'|'.join(VERBS)} [flags]", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(f"launch.{verb}", run_name="__main__", alter_sys=True)


def usage() -> list[str]:
    """A line for each program, from the first of its description."""
    about = {verb: ast.get_docstring(settings.module(f"launch.{verb}").tree) or "" for verb in VERBS}
    lines = [f"  {verb:<8}  {text.splitlines()[0]}" for verb, text in about.items()]
    return ["usage: dlcore VERB [flags]     (VERB --help says all flags of a verb)", *lines]


if __name__ == "__main__":
    main()
