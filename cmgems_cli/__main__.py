"""`cmgems`, the command: signals are handled before anything else is imported."""

from cmgems_cli import signals

signals.install(signals.end_at_once)

import os  # noqa: E402
import sys  # noqa: E402

if signals.under_torchrun():
    # Before torch is imported: C++ otherwise prints its stack for each process that loses another one.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from cmgems_cli.cli import app  # noqa: E402


def main() -> None:
    """Run `cmgems` with the arguments of the process."""

    try:
        app(prog_name="cmgems")
    except SystemExit as end:
        signals.install(signals.IGNORE)
        if not signals.under_torchrun():
            raise
        # One of torchrun's processes: now and then gloo's threads outlive what C++ takes down when a process ends,
        # which then aborts with all work done.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)


if __name__ == "__main__":
    main()
