"""How kvengine starts its own processes.

Invariants:

* It runs what is installed, or what this process runs, and nothing that happens to lie in the
  current directory: `python -m` would put that first on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The folder of this package comes last: what is beside it, in a source tree, hides nothing.
RUN = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python_running(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package as a program.

    Args:
        module: its name, such as "kvengine.server.worker".
        arguments: of the program.
    """
    root = Path(__file__).absolute().parents[2]
    return [sys.executable, "-P", "-c", RUN, str(root), module, *arguments]
