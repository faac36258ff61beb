"""What an entry of `rnnscope explain` is: the words for one deviation, cause, verdict, relation or blind spot.

The rows themselves stand in the files beside this one; adding an entry is adding a row.
"""

import re
from dataclasses import dataclass

SORTS = ("deviation", "cause", "verdict", "relation", "blind spot")
"""The sorts of entries, in the order in which they are listed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What there is to know of one name that a verdict, a page or JSON may have.

    Args:
        name: as JSON has it.
        sort: one of SORTS.
        does: the sentence, without capital and full stop. That of a deviation lacks its subject, which is a side.
        command: lines of shell that show it.
        says: words of the page that the command prints.
        torch, theirs: the line as torch has it, and as people write it.
        shows: in which tensors it shows, from which step on, and where it hides.
        frameworks: who does it that way; only what was read in their documentation or source.
        mends: what to do about it.
    """

    name: str
    sort: str
    does: str
    command: str
    says: str
    torch: str = ""
    theirs: str = ""
    shows: str = ""
    frameworks: str = ""
    mends: str = ""

    @property
    def slug(self) -> str:
        """The name as one word of a shell."""
        return slug(self.name)


def slug(name: str) -> str:
    """A name as one word of a shell."""
    return name.replace(" ", "-")


def key(typed: str) -> str:
    """What names are found by: neither case nor how words are joined makes a difference."""
    return re.sub(r"[\s_-]+", "-", typed.strip().lower())
