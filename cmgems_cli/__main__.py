"""`cmgems`, the command: signals are handled before anything else is imported."""

from cmgems_cli import signals

signals.install(signals.end_at_once)

import os  # noqa: E402
import sys  # noqa: E402

from cmgems_cli.cli import app  # noqa: E402


def main() -> None:
    """Run `cmgems` with the arguments of the process."""

    try:
        app(prog_name="cmgems")
    except SystemExit as end:
        signals.install(signals.IGNORE)
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            raise
        # One of torchrun's processes: now and then gloo's threads outlive what C++ takes down when a process ends,
        # which then aborts with all work done.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)


if __name__ == "__main__":
    main()
