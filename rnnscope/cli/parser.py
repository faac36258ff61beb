"""How a command is typed: flags, read off where they are declared, become values, and its result an Outcome.

Typer parses; what a flag allows is said where the flag is declared. A command is declared by its function alone. Its
options are made when it is called.
"""

import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import rnnscope
from rnnscope.errors import RnnscopeError
from rnnscope.network.costs import COSTLY, check_memory, check_rows
from rnnscope.network.shapes import GATES
from rnnscope.pages.render import FORMATS, Result, check_ending, check_place
from rnnscope.spec.flags import Choice, FileName, Flag, Listed, Switch, help_of
from rnnscope.spec.options import FORCE, NO_FILES, RECORDED, SOURCE_FLAGS, Sources
from rnnscope.spec.question import Question
from rnnscope.spec.spec import SPEC_FLAGS, Spec

if TYPE_CHECKING:  # its module imports torch
    from rnnscope.files.loading import Loaded

EXPORTS = (".svg", ".html", ".txt")
"""What --export can write, by the ending of the name."""

MANNERS = {
    "json": Switch(("--json",), "Short for --format json.", "Output", False),
    "quiet": Switch(("--quiet", "-q"), "Print nothing; only the exit code answers.", "Output", False),
    "debug": Switch(("--debug",), "Show the traceback of an error.", "Output", False),
}
"""The flags that may stand before the command, too."""

OUTPUT_FLAGS = {
    "format": Choice(("--format",), "How it is written:", "Output", "table", choices=FORMATS),
    "json": MANNERS["json"],
    "quiet": MANNERS["quiet"],
    "export": FileName(("--export",), "Keep the page as a picture or a page to share.", "Output", example="page.svg"),
    "force": FORCE,
    "debug": MANNERS["debug"],
}
"""The flags of every command that are no part of the Spec."""


@dataclass
class Manners:
    """How an answer is to be given, as the parse found it: filled in while a command line is parsed.

    is_parsed: whether the whole line was understood; before that its words have to be looked at.
    """

    quiet: bool = False
    json: bool = False
    debug: bool = False
    is_parsed: bool = False

    def add(self, given: dict[str, Any]) -> None:
        """Take in what was given in one place of the line; what was given before stays."""
        for name in MANNERS:
            setattr(self, name, getattr(self, name) or bool(given[name]))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Run a command: what a class of the user's prints is nobody's business where nothing is to be printed."""
        if not self.quiet:
            yield
            return
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


@dataclass(frozen=True, eq=False, repr=False)
class Asked:
    """The Spec that flags and files say together. loaded: what else the files gave; None without files."""

    spec: Spec
    loaded: "Loaded | None"

    @property
    def sources(self) -> Sources:
        """The files."""
        return self.loaded.sources if self.loaded else NO_FILES


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """A result, the format in which it was asked for, and the file in which its page is kept.

    force: whether that file is replaced where it is there already.
    """

    result: Result
    format: str
    export: str | None
    force: bool


@dataclass(frozen=True, eq=False, repr=False)
class Command:
    """A command as it is declared.

    Args:
        function: takes what was typed, and gives a result.
        examples: what its help ends with.
        runs: whether a network is run, for which there must be memory.
    """

    function: Callable[..., Result]
    examples: tuple[str, ...]
    runs: bool


COMMANDS: dict[str, Command] = {}
"""The commands by their names, in the order in which they are declared."""


def command(*examples: str, runs: bool = True) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Declare a command under the name of its function: see `Command`."""

    def declare(function: Callable[..., Result]) -> Callable[..., Result]:
        COMMANDS[function.__name__] = Command(function, examples, runs)
        return function

    return declare


def app_of(called: str | None, main: Callable[..., None]) -> typer.Typer:
    """The app with the command that is called; without one all commands by name alone, since making options takes long.

    Args:
        main: what stands before a command.
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(invoke_without_command=True)(main)
    if called is None:
        for name, each in COMMANDS.items():
            app.command(name, help=each.function.__doc__)(lambda: None)
    else:
        examples = (f"rnnscope {called} {each}".rstrip() for each in COMMANDS[called].examples)
        app.command(called, epilog="\n\n".join(("Examples:", *examples)))(_parser(COMMANDS[called]))
    return app


def is_helper(name: str | None) -> bool:
    """Whether this process only helps another one, which torchrun started as rank 0, to answer a command."""
    if name != "sweep":
        return False
    from rnnscope.sweeps.workers import is_follower

    return is_follower()


def _parser(command: Command) -> Callable[..., Outcome]:
    """What Typer calls: a command's own flags, then those of the Spec where it takes one, then those of the output."""
    function = command.function
    parameters = inspect.signature(function).parameters
    own = {name: get_args(each.annotation)[1] for name, each in parameters.items()}
    needed = {name for name, each in parameters.items() if get_args(each.annotation)[0] is str}
    files, axes = own.pop("asked", None), own.pop("axes", dict)()
    asks = own.pop("question", {})
    own |= asks
    # A command may take several values of a flag of the Spec: then that flag is its own, and stands in the same place.
    of_spec = {} if files is None else {name: each for name, each in SPEC_FLAGS.items() if name not in own}
    every = {name: each for name, each in own.items() if name not in SPEC_FLAGS} | axes
    every |= {name: SOURCE_FLAGS[name] for name in files or ()}
    every |= {} if files is None else {name: own.get(name, each) for name, each in SPEC_FLAGS.items()}
    every |= OUTPUT_FLAGS

    def parsed(context: typer.Context, **typed: Any) -> Outcome:
        manners: Manners = context.obj
        manners.add(typed)
        manners.json |= typed["format"] == "json"
        manners.is_parsed = True
        values = {name: _value(flag, typed[name]) for name, flag in every.items()}
        for name, flag in (own | OUTPUT_FLAGS).items():
            if values[name] is not None:
                flag.check(values[name])
            elif name in needed:
                raise RnnscopeError(f"{flag.name} is missing", flag.hint(None))
        form, export, force = _format(values["format"], manners.json), values["export"], values["force"]
        if export is not None and not is_helper(function.__name__):
            check_ending(export, EXPORTS)
            check_place(export, force)
        options = {name: values[name] for name in own if name in parameters}
        if axes:
            options["axes"] = {name: values[name] for name in axes if typed[name] is not None}
        with manners.kept():
            if files is not None:
                given = {name: values[name] for name in of_spec if typed[name] is not None}
                options["asked"] = asked = _asked(given, values)
                _check_size(asked.spec, form, values, command.runs and not values.get("dry_run"))
            if asks:
                options["question"] = Question(**{name: values[name] for name in asks})
            return Outcome(function(**options), form, export, force)

    parsed.__doc__ = function.__doc__
    typed = [_parameter(name, flag) for name, flag in every.items()]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parsed.__signature__ = inspect.Signature([context, *typed])  # type: ignore[attr-defined]
    parsed.__annotations__ = {each.name: each.annotation for each in (context, *typed)}
    return parsed


def _asked(given: dict[str, Any], values: dict[str, Any]) -> Asked:
    """What flags and files say together.

    Args:
        given: the fields of the Spec that were given as flags.
        values: of all flags.
    """
    sources = Sources(**{name: values.get(name) for name in SOURCE_FLAGS})
    left, right = (values.get(side, "") for side in ("left", "right"))
    if not (any(sources.given()) or left.startswith(RECORDED) or right.startswith(RECORDED)):
        return Asked(Spec(**given), None)
    for name, value in given.items():
        SPEC_FLAGS[name].check(value)
    loaded = rnnscope.load(sources, given, left, right)
    return Asked(loaded.spec, loaded)


def _check_size(spec: Spec, form: str, values: dict[str, Any], runs: bool) -> None:
    if form in ("json", "tsv") and runs:
        of_map = 1 + len(GATES[spec.kind]) if values.get("map") else 0
        by_step = 1 if "values" in values else of_map
        check_rows(spec, by_step if form == "json" else 0)
    if spec.memory_check and runs:
        check_memory(spec, **{name: values[name] for name in COSTLY if name in values})


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    """The parameter from which Typer makes the option. It reads text: what it says of wrong numbers is too little."""
    if not flag.name.startswith("-"):
        argument = typer.Argument(help=_help(flag), metavar=flag.metavar, show_default=False)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, argument])
    # None where it was not typed: what is given must be told from a default.
    # A list that is typed in several parts is one list.
    kind: Any = (
        bool | None if isinstance(flag, Switch) else list[str] | None if isinstance(flag, Listed) else str | None
    )
    annotation = Annotated[kind, option(flag)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def option(flag: Flag) -> Any:
    """What Typer is told of a flag."""
    return typer.Option(
        *flag.names,
        help=_help(flag),
        rich_help_panel=flag.panel,
        show_default=False,
        metavar=" " if isinstance(flag, Switch) else flag.metavar,  # a switch takes no value
    )


def _help(flag: Flag) -> str:
    text = help_of(flag)
    if not (flag.default is None or flag.default is False):
        text += f" Default: {flag.as_typed(flag.default)[-1]}."
    return text


def _value(flag: Flag, typed: Any) -> Any:
    """What a flag stands for: what was typed, or its default."""
    if typed is None:
        return flag.default
    if isinstance(typed, list):
        parsed = [flag.parse(each) for each in typed]
        return tuple(dict.fromkeys(value for each in parsed for value in each))
    return flag.parse(typed) if isinstance(typed, str) else typed


def _format(form: str, json: bool) -> str:
    if json and form not in ("table", "json"):
        raise RnnscopeError(f"--json means --format json, but --format is {form}", "give one of the two")
    return "json" if json else form
