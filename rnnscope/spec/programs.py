"""How a program is written as a side: its words, in which the names of files have their place.

    command:python3 my_lstm.py {in} {out}

`{in}` stands for the file with the network and its input, `{out}` for the file that the program writes, `{spec}` for a
file with the sizes. An ending in the braces names the format: `{in.safetensors}`. Other braces are left as they are.
"""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property

FORMATS = (".npz", ".safetensors", ".pt")
"""What {in} and {out} may be; the first one where no ending is given."""

EXAMPLE = "./my_lstm {in} {out}"

ALLOWED = "{in} and {out}, or {in.safetensors} and {in.pt} likewise; {spec} may be among them"
"""What words may have for files."""

_FILE = re.compile(r"\{(in|out|spec)(\.\w*)?\}")


@dataclass(frozen=True)
class ProgramWords:
    """The words that start a program, as they were typed; `program_complaint` has found nothing wrong with them."""

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words, split as a shell splits them: nothing in them is a variable or a wildcard."""
        return tuple(shlex.split(self.text))

    @cached_property
    def files(self) -> dict[str, str]:
        """The name of the file that stands for each place: {"{in}": "in.npz", "{spec}": "spec.json"}."""
        return {found[0]: _file_of(found) for word in self.words for found in _FILE.finditer(word)}

    def file(self, name: str) -> str:
        """The name of the file of "in" or "out"; the first one where there are several formats."""
        return next(each for each in self.files.values() if each.startswith(f"{name}."))

    def placed(self, folder: str) -> list[str]:
        """The words with the files of a folder in their places."""
        return [_FILE.sub(lambda found: f"{folder}/{_file_of(found)}", word) for word in self.words]


def program_complaint(text: str) -> str | None:
    """What the words of a program would have to be; None where they may be run."""
    try:
        words = shlex.split(text)
    except ValueError:
        return "words as in a shell, with every quote closed"
    if not words or "\0" in text:
        return f"words that start a program, such as {EXAMPLE}"
    places = [found for word in words for found in _FILE.finditer(word)]
    has_odd = any(each[2] not in ((None,) if each[1] == "spec" else (None, *FORMATS)) for each in places)
    is_missing = {"in", "out"} - {each[1] for each in places}
    writes_several = len({each[2] for each in places if each[1] == "out"}) > 1
    if has_odd or is_missing or writes_several:
        return f"words with {ALLOWED}"
    return None


def _file_of(found: re.Match[str]) -> str:
    return "spec.json" if found[1] == "spec" else f"{found[1]}{found[2] or FORMATS[0]}"
