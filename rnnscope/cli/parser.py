"""How a command is typed: flags, read off where they are declared, become values, and its result an Outcome.

Typer parses; what a flag allows is said where the flag is declared. A command is declared by its function alone. Its
options are made when it is called.
"""

import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

import rnnscope
from rnnscope.cli.usage import WIDEST, check_words, coloured, help_text, write_flags
from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import Work, check_memory, check_rows
from rnnscope.network.shapes import GATES
from rnnscope.pages.render import FORMATS, FORMATS_OF_A_TEST, Result, check_ending, check_place
from rnnscope.spec.flags import Choice, FileName, Flag, Listed, Repeated, Switch, Words
from rnnscope.spec.options import FORCE, NO_FILES, SOURCE_FLAGS, Sources
from rnnscope.spec.sides import is_file, recorded_files
from rnnscope.spec.spec import SPEC_FLAGS, Spec

if TYPE_CHECKING:  # its module imports torch
    from rnnscope.files.loading import Loaded

EXPORTS = (".svg", ".html", ".txt")
"""What --export can write, by the ending of the name."""

HELP = Switch(("--help", "-h"), "Show this, and exit.", "Output", False)
HELP_ALL = Switch(("--help-all",), "Show the rarer flags, too.", "Output", False)

FORMAT = Choice(("--format",), "Written as", "Output", "table", choices=FORMATS)

FORMAT_OF_A_TEST = replace(FORMAT, choices=FORMATS_OF_A_TEST)

MANNERS: dict[str, Flag] = {
    "format": FORMAT_OF_A_TEST,
    "json": Switch(("--json",), "Short for --format json.", "Output", False),
    "quiet": Switch(("--quiet", "-q"), "Print no result: the exit code alone answers.", "Output", False),
    "debug": Switch(("--debug",), "Show the traceback of an error.", "Output", False),
}
"""The flags that may stand before the command, too."""

OUTPUT_FLAGS: dict[str, Flag] = {
    "format": FORMAT,
    "json": MANNERS["json"],
    "quiet": MANNERS["quiet"],
    "export": FileName(("--export",), "Keep the page: page.svg, .html or .txt.", "Output", example="page.svg"),
    "force": FORCE,
    "debug": MANNERS["debug"],
}
"""The flags that every command has: how its result is written."""

ROOT_FLAGS: dict[str, Flag] = {
    "version": Switch(("--version", "-V"), "Print the version, and exit.", "Output", False),
    **MANNERS,
    "install": Choice(
        ("--install-completion",), "Let a shell complete commands, flags and values.", "Output", placeholder="[SHELL]"
    ),
    "show": Choice(("--show-completion",), "Print what would be installed.", "Output", placeholder="[SHELL]"),
    "help": HELP,
}
"""The flags that stand before a command, or alone."""


@dataclass
class Manners:
    """How an answer is to be given, as the parse found it: filled in while a command line is parsed.

    is_parsed: whether the whole line was understood; before that its words have to be looked at.
    """

    format: str | None = None
    quiet: bool = False
    json: bool = False
    debug: bool = False
    is_parsed: bool = False

    @property
    def form(self) -> str:
        """The format that was asked for."""
        return "json" if self.json else self.format or "table"

    def add(self, given: dict[str, Any]) -> None:
        """Take in what was given in one place of the line; a switch that was given before stays."""
        for name in MANNERS:
            setattr(self, name, given[name] or getattr(self, name))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Run a command; with --quiet, drop what code of the user's prints."""
        if not self.quiet:
            yield
            return
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


@dataclass(frozen=True, eq=False, repr=False)
class Asked:
    """The Spec that flags and files say together. loaded: what else the files gave; None without files.

    given: the fields of the Spec that were given as flags.
    """

    spec: Spec
    loaded: "Loaded | None" = None
    sources: Sources = NO_FILES
    given: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """A result, the format in which it was asked for, and the file in which its page is kept.

    force: whether that file is replaced where it is there already.
    """

    result: Result
    format: str
    export: str | None
    force: bool


Ask = Callable[[], Outcome]
"""Runs a command that was typed."""


@dataclass(frozen=True, eq=False, repr=False)
class Command:
    """A command as it is declared: its function takes what was typed, and gives a result."""

    function: Callable[..., Result]
    examples: tuple[str, ...]
    runs: bool
    tests: bool


COMMANDS: dict[str, Command] = {}
"""The commands by their names, in the order in which they are declared."""


def command(
    *examples: str, runs: bool = True, tests: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Declare a command under the name of its function.

    Args:
        examples: what its help ends with.
        runs: whether a network is run, for which there must be memory.
        tests: whether it finds something right or wrong, so that a CI may ask for it.
    """

    def declare(function: Callable[..., Result]) -> Callable[..., Result]:
        COMMANDS[function.__name__] = Command(function, examples, runs, tests)
        return function

    return declare


def app_of(called: str | None, main: Callable[..., None]) -> typer.Typer:
    """The app with the command that is called; without one all commands by name alone, since making options takes long.

    Args:
        main: what stands before a command.
    """
    app = typer.Typer(
        cls=_Root,
        # Only a shell that completes a line needs what Typer prepares for that; the flags are our own.
        add_completion=is_completing(),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": WIDEST},
    )
    app.callback(invoke_without_command=True)(main)
    if called is None:
        for name, each in COMMANDS.items():
            app.command(name, help=each.function.__doc__)(lambda: None)
    else:
        app.command(called, cls=_Called)(_parser(COMMANDS[called]))
    return app


COMPLETING = "_RNNSCOPE_COMPLETE"
"""The variable by which a shell asks for completions."""


def is_completing() -> bool:
    """Whether a shell asks for completions; an empty variable asks for nothing."""
    return bool(os.environ.get(COMPLETING))


def called_by(words: Sequence[str]) -> str | None:
    """The command of a line."""
    word = first_word(words)
    return word if word in COMMANDS else None


def first_word(words: Sequence[str]) -> str | None:
    """The word that should be a command: the first one that is neither a flag nor the value of --format."""
    return next(iter(words[len(_before_command(words)) :]), None)


def _before_command(words: Sequence[str]) -> list[str]:
    pairs = zip(("", *words), words, strict=False)
    return [word for before, word in takewhile(lambda pair: pair[1].startswith("-") or pair[0] == "--format", pairs)]


def flags_of_all() -> dict[str, dict[str, Flag]]:
    """The flags of every command. For a line that was not understood."""
    return {name: _flags_of(each).every for name, each in COMMANDS.items()}


class _Called(TyperCommand):
    """The command that is called, with its own help, and its own words about flags that it does not have."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # a shell completes a line that is not whole
            flags = (*_flags_of(COMMANDS[str(self.name)]).every.values(), HELP, HELP_ALL)
            check_words(args, flags, str(self.name), flags_of_all)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.color = wants_colour()
        write_help(str(self.name), formatter, is_whole=False)


class _Root(TyperGroup):
    """What stands before a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            flags = (each for name, each in ROOT_FLAGS.items() if name not in ("install", "show"))  # these stand alone
            check_words(_before_command(args), flags, None, flags_of_all)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.color = is_coloured = wants_colour()
        formatter.write_usage("rnnscope", "COMMAND [FLAGS]")
        _write_text(formatter, self.help)
        with formatter.section(coloured("Commands", "1", is_coloured)):
            rows = [(coloured(name, "94", is_coloured), each.function.__doc__ or "") for name, each in COMMANDS.items()]
            formatter.write_dl(rows)
        write_flags(formatter, ROOT_FLAGS.values(), is_coloured, is_whole=True)
        _write_text(formatter, "rnnscope COMMAND --help shows the flags of a command; rnnscope help is the manual.")


def write_help(name: str, formatter: Any, is_whole: bool) -> None:
    """The help of a command: what it answers, its flags, two examples, and where more is said.

    is_whole: whether rare flags are shown.
    """
    command = COMMANDS[name]
    flags = _flags_of(command).every.values()
    arguments = " ".join(each.metavar for each in flags if not each.name.startswith("-"))
    formatter.write_usage("rnnscope", " ".join(filter(None, (name, arguments, "[FLAGS]"))))
    _write_text(formatter, command.function.__doc__)
    hidden = write_flags(formatter, (*flags, HELP), wants_colour(), is_whole)
    with formatter.section(coloured("Examples", "1", wants_colour())):
        for each in command.examples:
            formatter.write_text(f"rnnscope {name} {each}".rstrip())
    more = f"--help-all shows {hidden} rarer flag{'s' * (hidden > 1)}, too; " if hidden else ""
    topic = "" if name == "help" else f" {name}"
    _write_text(formatter, f"{more}rnnscope help{topic} is the manual.")


def _write_text(formatter: Any, text: str | None) -> None:
    formatter.write_paragraph()
    formatter.write_text(inspect.cleandoc(text or ""))


def wants_colour() -> bool:
    """Whether what is printed is coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def is_helper(name: str | None) -> bool:
    """Whether this process only helps another one, which torchrun started as rank 0, to answer a command."""
    if name != "sweep":
        return False
    from rnnscope.sweeps.workers import is_follower

    return is_follower()


@dataclass(frozen=True, eq=False, repr=False)
class _Flags:
    """The flags of a command.

    own: those in its signature. needed: those that must be given. groups: those that make one argument together, with
    what makes it. axes: those that take lists. files: the names of those that name files; None for a command without a
    Spec. every: all, as help lists them.
    """

    own: dict[str, Flag]
    needed: frozenset[str]
    groups: dict[str, tuple[Callable[..., Any], dict[str, Flag]]]
    axes: dict[str, Flag]
    files: tuple[str, ...] | None
    every: dict[str, Flag]


def _flags_of(command: Command) -> _Flags:
    """A command's own flags, then those of the Spec if it takes one, then those of the output."""
    signature = inspect.signature(command.function)
    parameters = {name: get_args(each.annotation) for name, each in signature.parameters.items()}
    own: dict[str, Any] = {name: flag for name, (_, flag) in parameters.items()}
    files, axes = own.pop("asked", None), own.pop("axes", dict)()
    groups = {name: parameters[name] for name, flags in own.items() if isinstance(flags, dict)}
    own = {name: flag for name, flag in own.items() if name not in groups}
    grouped = {name: flag for _, flags in groups.values() for name, flag in flags.items()}
    # A command may take several values of a flag of the Spec: then that flag is its own, and stands in the same place.
    every = {name: each for name, each in (own | grouped).items() if name not in SPEC_FLAGS} | axes
    if files is not None:
        every |= {name: SOURCE_FLAGS[name] for name in files} | SPEC_FLAGS | {n: own[n] for n in own if n in SPEC_FLAGS}
    needed = frozenset(name for name, (kind, _) in parameters.items() if kind is str)
    output = OUTPUT_FLAGS | ({"format": FORMAT_OF_A_TEST} if command.tests else {})
    return _Flags(own, needed, groups, axes, files, every | output)


def _parser(command: Command) -> Callable[..., Ask]:
    """What Typer calls. It gives what is to be run: Typer itself has other ways with Ctrl-C and with a closed pipe."""
    flags = _flags_of(command)

    def parsed(context: typer.Context, **typed: Any) -> Ask:
        return partial(_outcome, command, flags, typed, context.obj)

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    whole = inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_HELP_ALL)
    parameters = [context, whole, *(_parameter(name, flag) for name, flag in flags.every.items())]
    parsed.__doc__ = command.function.__doc__
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {each.name: each.annotation for each in parameters}
    return parsed


def _show_all(context: typer.Context, _: Any, value: bool | None) -> None:
    if value and not context.resilient_parsing:
        formatter = context.make_formatter()
        write_help(str(context.command.name), formatter, is_whole=True)
        print(formatter.getvalue(), end="")
        raise typer.Exit


_HELP_ALL: Any = Annotated[
    bool | None, typer.Option("--help-all", is_eager=True, expose_value=False, callback=_show_all, help=HELP_ALL.help)
]


def _outcome(command: Command, flags: _Flags, typed: dict[str, Any], manners: Manners) -> Outcome:
    """Check what was typed, and run the command with it."""
    manners.add(typed)
    typed["format"] = manners.format
    manners.json |= manners.format == "json"
    manners.is_parsed = True
    values = {name: _value(flag, typed[name]) for name, flag in flags.every.items()}
    of_groups = {name: flag for _, group in flags.groups.values() for name, flag in group.items()}
    for name, flag in (flags.own | of_groups | {name: flags.every[name] for name in OUTPUT_FLAGS}).items():
        if values[name] is not None:
            flag.check(values[name])
        elif name in flags.needed:
            raise RnnscopeError(f"{flag.name} is missing", flag.hint(None))
    form, export, force = _format(values["format"], manners.json), values["export"], values["force"]
    if export is not None and not is_helper(command.function.__name__):
        check_ending(export, EXPORTS)
        check_place(export, force)
    options = {name: values[name] for name in flags.own}
    if flags.axes:
        options["axes"] = {name: values[name] for name in flags.axes if typed[name] is not None}
    is_run = command.runs and not values.get("dry_run")
    if is_run:
        _check_folder()
    with manners.kept():
        if flags.files is not None:
            given = {name: values[name] for name in SPEC_FLAGS if name not in flags.own and typed[name] is not None}
            options["asked"] = asked = _asked(given, values)
            if is_run:
                _check_size(asked.spec, form, Work.of(command.function.__name__, values))
        for argument, (made, group) in flags.groups.items():
            options[argument] = made(**{name: values[name] for name in group})
        return Outcome(command.function(**options), form, export, force)


def _check_folder() -> None:
    """Raise where the working directory was deleted: torch's libraries end the process there."""
    try:
        os.getcwd()
    except OSError as error:
        raise RnnscopeError("the working directory is not there any more", "go to another one: cd ~") from error


def _asked(given: dict[str, Any], values: dict[str, Any]) -> Asked:
    """What flags and files say together.

    Args:
        given: the fields of the Spec that were given as flags.
        values: of all flags.
    """
    sources = Sources(**{name: values.get(name) for name in SOURCE_FLAGS})
    left, right = (values.get(side, "") for side in ("left", "right"))
    sources.check_prefixes(left, right)
    if not (any(sources.given()) or is_file(left) or is_file(right)):
        return Asked(Spec(**given), given=tuple(given))
    if recorded_files(left, right):  # each module has a network and an input of its own
        return Asked(Spec(**given), None, sources, tuple(given))
    for name, value in given.items():
        SPEC_FLAGS[name].check(value)
    loaded = rnnscope.load(sources, given, left, right)
    return Asked(loaded.spec, loaded, sources)


def _check_size(spec: Spec, form: str, work: Work) -> None:
    if form in ("json", "tsv"):
        of_map = 1 + len(GATES[spec.kind]) if work.map else 0
        by_step = 1 if work.command == "trace" else of_map  # a trace has a record for each step
        check_rows(spec, by_step if form == "json" else 0)
    if spec.memory_check:
        check_memory(spec, **vars(work))


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    """The parameter from which Typer makes the option. It reads text: what it says of wrong numbers is too little."""
    if not flag.name.startswith("-"):
        argument = typer.Argument(help=flag.help, metavar=flag.metavar, show_default=False, autocompletion=_offer(flag))
        form: Any = Annotated[list[str] | None if isinstance(flag, Words) else str | None, argument]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=form)
    # None where it was not typed: what is given must be told from a default.
    # A list that is typed in several parts is one list.
    kind: Any = (
        bool | None
        if isinstance(flag, Switch)
        else list[str] | None
        if isinstance(flag, (Listed, Repeated))
        else str | None
    )
    annotation = Annotated[kind, option(flag)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def option(flag: Flag) -> Any:
    """What Typer is told of a flag."""
    return typer.Option(*flag.names, help=help_text(flag), show_default=False, autocompletion=_offer(flag))


def _offer(flag: Flag) -> Callable[[str], list[str]] | None:
    """What Typer asks for the values of a flag; looked at by Typer at every start, and so left out of most."""
    if not is_completing():
        return None

    def offer(incomplete: str) -> list[str]:
        return flag.completions(incomplete)

    return offer


def _value(flag: Flag, typed: Any) -> Any:
    """What a flag stands for: what was typed, or its default."""
    if isinstance(flag, Words):
        return tuple(typed or ())
    if typed is None:
        return flag.default
    if isinstance(flag, (Listed, Repeated)):
        return flag.gathered(typed)
    return flag.parse(typed) if isinstance(typed, str) else typed


def _format(form: str, json: bool) -> str:
    if json and form not in ("table", "json"):
        raise RnnscopeError(f"--json means --format json, but --format is {form}", "give one of the two")
    return "json" if json else form
