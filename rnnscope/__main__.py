"""The entry point of `rnnscope` and of `python -m rnnscope`; a failure to start is trouble too."""

import contextlib
import gc
import os
import sys

LEAST_HELP_WIDTH = 80


def main() -> int:
    """Run the command line in sys.argv and return its exit code."""
    # What torch makes when it is imported lives as long as the process: to search it for garbage again and again, and
    # once more when the process ends, would cost a tenth of a short compare.
    gc.set_threshold(300_000, 10, 10)
    _settle_width(sys.argv[1:])
    try:
        from rnnscope.cli.shell import run

        code = run(sys.argv[1:])
        _silence_what_is_left()
        gc.freeze()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"rnnscope: cannot start ({type(error).__name__}: {error})", file=sys.stderr)
        return 2


def _silence_what_is_left() -> None:
    """The answer is out: what code of the user's prints when the process ends goes to stderr, not behind it."""
    if "rnnscope.subjects.user_code" in sys.modules:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)


def _settle_width(words: list[str]) -> None:
    """Set COLUMNS where rich would find something else."""
    if sys.stdout is None or not sys.stdout.isatty():
        # Otherwise rich would take the width of a terminal that stdin or stderr happens to be.
        os.environ.setdefault("COLUMNS", "80")
    columns = os.environ.get("COLUMNS", "")
    if {"--help", "-h"} & set(words) and columns.isdecimal() and int(columns) < LEAST_HELP_WIDTH:
        # Typer cuts the names of flags where they do not fit.
        os.environ["COLUMNS"] = str(LEAST_HELP_WIDTH)


if __name__ == "__main__":
    sys.exit(main())
