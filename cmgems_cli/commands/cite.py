"""`cmgems cite`: how to cite the method and this software."""

from __future__ import annotations

from cmgems_cli.options import Shared, takes


@takes("json quiet config")
def cite(*, io: Shared) -> None:
    """Print BibTeX entries of the paper and of this software.

    Example: cmgems cite > references.bib
    """
    import sys

    from cmgems_cli.reporting.methods import bibtex

    console = io.console()
    console.result({"bibtex": bibtex()})
    if not io.json:
        sys.stdout.write(bibtex())
