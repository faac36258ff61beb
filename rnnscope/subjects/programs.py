"""Programs, which get the network in a file and write what comes out into another."""

from rnnscope.subjects.foreign import Foreign, Refused


def program_of(words: str, timeout: float) -> Foreign:
    """The program that some words start."""
    raise Refused(f"{words} cannot be run yet")
