"""Libraries of optional extras: imported where they are used, and named with their extra where they are missing."""

from __future__ import annotations

import importlib

from cmgems_cli.errors import CmgemsError


def need(module: str, extra: str, needs: str, *, instead: str = "") -> None:
    """Check that a library can be imported, before work begins that would be lost without it.

    Parameters
    ----------
    module : str
        The library.
    extra : str
        Of this package, which installs it.
    needs : str
        What needs it, in the singular: the subject of the message.
    instead : str, default ""
        What can be done without it.

    Raises
    ------
    CmgemsError
        If it cannot be imported; the message has the command that installs it.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        other = f", or {instead}" if instead else ""
        raise CmgemsError(
            f"{needs} needs {module}, which cannot be imported ({error}): pip install 'cmgems[{extra}]'{other}"
        ) from None
