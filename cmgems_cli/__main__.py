"""`python -m cmgems_cli` is `cmgems`; torchrun needs the module form."""

import os
import sys

from cmgems_cli.cli import app

try:
    app(prog_name="cmgems")
except SystemExit as end:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise
    # One of torchrun's processes: now and then gloo's threads outlive what C++ takes down when a process ends,
    # which then aborts with all work done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(end.code if isinstance(end.code, int) else 0)
