"""The entry point of `rnnscope` and of `python -m rnnscope`; Ctrl-C is already caught while modules are imported."""

import gc
import os
import sys


def main() -> int:
    """Run the command line in sys.argv and return its exit code."""
    # What torch makes when it is imported lives as long as the process: to search it for garbage again and again would
    # cost a fifth of a short compare.
    gc.set_threshold(100_000, 10, 10)
    if sys.stdout is None or not sys.stdout.isatty():
        # Or rich would take the width of a terminal that stdin or stderr happens to be.
        os.environ.setdefault("COLUMNS", "80")
    try:
        from rnnscope.shell import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
