"""How this process was started, for manifests."""

import sys
from collections.abc import Sequence
from pathlib import Path


def command_line(argv: Sequence[str] | None = None) -> list[str]:
    """Return the command line of this process, or the program that uses the package, such as a notebook's kernel.

    >>> command_line(["/bin/cmgems", "info", "x"]), command_line(["/lib/ipykernel_launcher.py", "-f", "kernel.json"])
    (['cmgems', 'info', 'x'], ['python', 'ipykernel_launcher.py'])
    """
    program, *words = sys.argv if argv is None else argv
    path = Path(program)
    if path.stem == "cmgems" or path.parts[-2:] == ("cmgems_cli", "__main__.py"):
        return ["cmgems", *words]
    return ["python", path.name]
