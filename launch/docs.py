"""Build the pages: the lecture with its proofs and figures, a gallery, notebooks, and all public names.

./launch/local.sh docs

Everything is made on this machine and nothing is fetched: smoke runs of the experiments, the tests of the lecture that
have no result yet, then the pages in build/docs/html. A second build makes only what has changed. It fails on any
warning, and on a row of the table that has no function, no test, or neither figure nor number.
"""

import subprocess
import sys
from pathlib import Path

from launch import runtime

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "docs"


def main() -> None:
    """Gather the sources, then let Sphinx make the pages."""
    runtime.start()
    from docs.making import stage

    source = stage.prepare(BUILD)
    strict = ["--fail-on-warning", "--keep-going", "-d", str(BUILD / "doctrees")]
    done = subprocess.run([sys.executable, "-m", "sphinx", "-b", "html", *strict, str(source), str(BUILD / "html")])
    if done.returncode:
        raise ValueError("the pages have problems; see above")
    print(f"the pages: {BUILD / 'html' / 'index.html'}")


if __name__ == "__main__":
    runtime.run(main, uses=())
