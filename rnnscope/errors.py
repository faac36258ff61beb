"""The exceptions that a user sees without a traceback."""

import signal


class RnnscopeError(Exception):
    """Trouble that the user can mend: a wrong flag or value, no such device, too little memory.

    Args:
        message: what is wrong, naming the flag or file and the value that it got.
        hint: what would mend it, or None.

    >>> try:
    ...     Spec(num_layers=0)
    ... except RnnscopeError as error:
    ...     print(error)
    --layers is 0, but it must be a whole number of at least 1; try --layers 2
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}; {hint}")
        self.message = message
        self.hint = hint

    @property
    def in_a_row(self) -> str:
        """What a row of a result says of it: one row of many has no traceback to ask for."""
        return self.message if self.hint is not None and "--debug" in self.hint else str(self)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or another signal that asks a process to end.

    Args:
        number: of the signal.
        hint: what is kept, and how to go on.
    """

    def __init__(self, number: int = signal.SIGINT, hint: str | None = None) -> None:
        super().__init__(number)
        self.number = number
        self.hint = hint
