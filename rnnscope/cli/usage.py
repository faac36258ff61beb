"""What --help shows, and what is said of words that are no flag, no command, or lack a value.

Both are read off the declarations of the flags. Nothing is parsed here, and no value is checked.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.pages.page import enumerated
from rnnscope.spec.flags import Flag, Switch, Words, help_of, nearest

Flags = Mapping[str, Flag]
"""Flags by the names of their values."""

PANELS = (
    *("Shapes", "Trace", "Benchmark", "Sweep", "Check", "Sides", "Comparison", "Files"),
    *("Network", "Input", "Where it runs", "Output"),
)
"""In this order --help shows them: a command's own come first."""

LONGEST_NAME = 27
"""A flag that has more signs stands in a line of its own."""

WIDEST = 120
"""Columns of a help: longer lines are hard to read."""

INSTEAD = {
    **dict.fromkeys(("--color", "--colour"), "NO_COLOR=1 or FORCE_COLOR=1 before the command decides"),
    **dict.fromkeys(("--no-color", "--no-colour"), "set NO_COLOR=1 before the command"),
    "--verbose": "--debug shows the traceback of an error",
    "-v": "-V shows the version, and --debug the traceback of an error",
    **dict.fromkeys(("--silent", "-s"), "use --quiet"),
    **dict.fromkeys(("--output", "-o", "--out"), "use --export page.svg for the page, or --format and > FILE"),
    **dict.fromkeys(("--tsv", "--csv"), "use --format tsv"),
    **dict.fromkeys(("--markdown", "--md"), "use --format markdown"),
    "--table": "use --format table",
    "-f": "use --format",
    **dict.fromkeys(("--yes", "--overwrite"), "use --force"),
    "--width": "COLUMNS=100 before the command decides",
    **dict.fromkeys(("--gpu", "--cuda"), "use --device cuda"),
    "--cpu": "use --device cpu",
    **dict.fromkeys(("--fp16", "--half"), "use --dtype float16"),
    "--bf16": "use --dtype bfloat16",
    **dict.fromkeys(("--fp32", "--float"), "use --dtype float32"),
    **dict.fromkeys(("--fp64", "--double"), "use --dtype float64"),
    "--precision": "use --dtype",
    "--num-threads": "use --threads",
    **dict.fromkeys(("--workers", "--jobs", "-j"), "start it with torchrun --nproc-per-node 4 -m rnnscope sweep"),
    **dict.fromkeys(("--tol", "--tolerance", "--eps"), "use --rtol and --atol"),
    **dict.fromkeys(("--gradient", "--gradients", "--backward"), "use --grad"),
    "--rnn": "use --kind rnn",
    "--lstm": "use --kind lstm",
    "--gru": "use --kind gru",
    **dict.fromkeys(("--type", "--cell"), "use --kind"),
    "--model": "use --kind for the network, or --weights for a file",
    **dict.fromkeys(("--checkpoint", "--state-dict"), "use --weights"),
    "--expected": "use --left",
    "--actual": "use --right",
    **dict.fromkeys(("--steps", "--num-steps", "--time-steps", "--length"), "use --seq-len"),
    **dict.fromkeys(("--hidden", "--hidden-dim"), "use --hidden-size"),
    **dict.fromkeys(("--input-dim", "--features"), "use --input-size"),
    **dict.fromkeys(("--n-layers", "--depth"), "use --layers"),
    "--bi": "use --bidirectional",
    "--projection": "use --proj-size",
    "--activation": "use --nonlinearity",
    "--relu": "use --nonlinearity relu",
    "--random-seed": "use --seed",
    "--help-all": "it goes after a command: rnnscope compare --help-all",
    "--install-completion": "it stands alone: rnnscope --install-completion bash",
    "--show-completion": "it stands alone: rnnscope --show-completion bash",
}
"""What mends a flag that other tools have. What is to be used must be a flag of the command."""

COMMAND_INSTEAD = {
    **dict.fromkeys(("diff", "cmp", "equal", "equals", "assert", "verify", "test", "run"), "compare"),
    **dict.fromkeys(("summary", "shape", "describe", "dims", "params"), "shapes"),
    **dict.fromkeys(("grid", "search", "fuzz"), "sweep"),
    **dict.fromkeys(("unroll", "draw", "plot", "steps", "show"), "trace"),
    **dict.fromkeys(("time", "timing", "benchmark", "profile", "speed"), "bench"),
    **dict.fromkeys(("script", "generate", "source"), "code"),
    **dict.fromkeys(("inspect", "info", "list", "ls", "checkpoint"), "weights"),
    **dict.fromkeys(("export", "to", "transform"), "convert"),
    **dict.fromkeys(("man", "manual", "docs", "topics"), "help"),
    "version": "--version",
}
"""The command that answers what another tool would call so."""


_TENSORS = r"\.(pt|pth|ckpt|bin|safetensors)$"
"""How names of files with weights end."""


def names_of(flag: Flag) -> list[str]:
    """Every name under which a flag is typed."""
    return [each for name in flag.names for each in name.split("/") if each.startswith("-")]


def by_name(flags: Iterable[Flag]) -> dict[str, Flag]:
    """Flags by every name under which they are typed."""
    return {name: flag for flag in flags for name in names_of(flag)}


def check_words(
    words: Sequence[str], flags: Iterable[Flag], command: str | None, others: Callable[[], Mapping[str, Flags]]
) -> None:
    """Raise where a word is none of the flags that can stand there, or where a flag gets no value.

    A flag takes the next word, whatever it is. One that is a flag itself was hardly meant as a value; it can be given
    as --prefix=--json.

    Args:
        flags: those of the command, or those that stand before it where command is None.
        others: gives the flags of every command, which are looked at when a flag is none of this one's.
    """
    known = by_name(flags)
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        name, has_value, _ = word.partition("=")
        if name.startswith("--") and name not in known:
            raise unknown_flag(name, known, command, others())
        flag = known.get(name)
        if isinstance(flag, Switch) and has_value and name.startswith("--"):
            both = flag.names[0].replace("/", " or ")
            raise RnnscopeError(f"{word[:40]}: {name} takes no value", f"use {both}")
        if flag is None or isinstance(flag, Switch) or has_value:
            continue
        value = next(rest, None)
        if value is None or value in known:
            raise RnnscopeError(f"{name} needs {flag.needs}", flag.hint(None))


def unknown_flag(typed: str, known: dict[str, Flag], command: str | None, others: Mapping[str, Flags]) -> RnnscopeError:
    """What is said of a word that looks like a flag: where it belongs, what it is called here, or what is near.

    Args:
        known: the flags that can stand where it was typed, by every name.
        others: the flags of every command.
    """
    name = typed.replace("_", "-")
    having = [each for each, flags in others.items() if name in by_name(flags.values())]
    if command is None and having and name not in known:
        which = "every command" if len(having) == len(others) else enumerated(having)
        return RnnscopeError(f"{name} is a flag of {which}", "it goes after the command")
    if command is None:
        known = by_name(flag for flags in others.values() for flag in flags.values()) | known
    return RnnscopeError(f"no such flag: {typed[:40]}", _meant(name, known, command, having))


def _meant(name: str, known: dict[str, Flag], command: str | None, having: Sequence[str]) -> str:
    """What to type instead of a flag that is not known, or where to look.

    Args:
        having: the commands that have it.
    """
    if name in known:  # it was typed with underscores
        return f"did you mean {name}?"
    if command == "sweep" and name.startswith("--no-") and f"--{name[5:]}" in known:
        return f"use --{name[5:]} off"
    if (instead := INSTEAD.get(name)) and _is_of(instead, known):
        return instead
    if having:
        return f"it is a flag of {enumerated(having)}"
    near = _near(name, known)
    return f"did you mean {near}?" if near else see_help(command)


def see_help(command: str | None) -> str:
    """Where to look for what can be typed."""
    return f"see rnnscope {command} --help" if command else "see rnnscope --help"


def unknown_command(typed: str, commands: Iterable[str]) -> RnnscopeError:
    """What is said of a first word that is no command."""
    message, commands = f"no such command: {typed[:40] if typed.strip() else repr(typed)}", list(commands)
    if re.search(_TENSORS, typed):
        return RnnscopeError(message, f"did you mean rnnscope weights {typed}?")
    near = COMMAND_INSTEAD.get(typed.lower()) or nearest(typed, commands, cutoff=0.6)
    return RnnscopeError(message, f"did you mean {near}?" if near else see_help(None))


def unexpected(word: str, flags: Flags) -> str | None:
    """Which flag would take a word that stands alone; None where none would."""
    taking = next((each.name for each in flags.values() if word and word in each.completions(word)), None)
    if re.search(r"\.py:\w+$", word):
        taking = "--right" if "right" in flags else None
    elif re.search(_TENSORS, word):
        taking = "--weights" if "weights" in flags else None
    return f"did you mean {taking} {word}?" if taking else None


def _is_of(instead: str, known: Mapping[str, Any]) -> bool:
    """Whether every flag that a sentence tells to use can be given."""
    return not instead.startswith("use") or set(re.findall(r"(?<!\S)--[a-z][a-z-]*", instead)) <= known.keys()


def _near(typed: str, known: Mapping[str, Any]) -> str | None:
    """The flag that was probably meant: one that is spelt nearly so, or that begins so."""
    bare = {name.lstrip("-"): name for name in known if name.startswith("--")}
    word = typed.lstrip("-").lower()
    near = nearest(word, bare, cutoff=0.75)
    if near is None and len(word) > 2:
        near = next((each for each in bare if each.startswith(word)), None)
    return near and bare[near]


def write_flags(formatter: Any, flags: Iterable[Flag], is_coloured: bool, is_whole: bool) -> int:
    """Write flags under their headings, and say how many rare ones were left out.

    Args:
        formatter: Typer's, which knows the width.
        is_whole: whether rare flags are shown, and the longer names of all.
    """
    flags = list(flags)
    shown = [(each, _left(each, is_whole)) for each in flags if is_whole or not each.rare]
    indent = max(len(left) for _, left in shown if len(left) <= LONGEST_NAME) + 4
    for panel in PANELS:
        if any(flag.panel == panel for flag, _ in shown):
            formatter.write_paragraph()
            formatter.write(f"{coloured(panel, '1', is_coloured)}:\n")
        for flag, left in shown:
            if flag.panel == panel:
                lines = wrap(help_text(flag), formatter.width - indent, break_on_hyphens=False)
                lines = ["", *lines] if len(left) > LONGEST_NAME else lines
                padded = _coloured_names(f"  {left}".ljust(indent), is_coloured)
                formatter.write(padded + f"\n{' ' * indent}".join(lines) + "\n")
    return len(flags) - len(shown)


def _left(flag: Flag, is_whole: bool) -> str:
    short = [name for name in flag.names if re.fullmatch("-[a-zA-Z]", name)]
    names = list(flag.names) if is_whole else [flag.names[0], *short]
    has_value = not isinstance(flag, Switch) and flag.name.startswith("-")
    text = flag.metavar if isinstance(flag, Words) else ", ".join(names)
    return f"{text} {flag.metavar}" if has_value else text


def help_text(flag: Flag) -> str:
    """What is said of a flag, with its default."""
    text = help_of(flag)
    if flag.default not in (None, ()) and flag.default is not False:
        text += f" Default: {flag.as_typed(flag.default)[-1]}."
    return text


def coloured(text: str, code: str, is_coloured: bool) -> str:
    """A text in a colour of the terminal: 94, bright blue, can be read on a dark and on a light ground."""
    return f"\x1b[{code}m{text}\x1b[0m" if is_coloured else text


def _coloured_names(left: str, is_coloured: bool) -> str:
    return re.sub(r"(?<![\w-])--?[a-zA-Z][\w-]*", lambda name: coloured(name[0], "94", is_coloured), left)
