"""How a command is typed: flags, read off where they are declared, become values, and its result an Outcome.

Which commands there are is in cli.py. Typer parses; what a flag allows is said in flags.py.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import rnnscope
from rnnscope.errors import RnnscopeError
from rnnscope.files.loaded import Loaded
from rnnscope.network.costs import COSTLY, check_memory
from rnnscope.network.dims import GATES
from rnnscope.pages import render
from rnnscope.pages.targets import check_ending, check_place
from rnnscope.shapes.result import check_rows
from rnnscope.spec.flags import Choice, FileName, Flag, Switch
from rnnscope.spec.listed import Listed
from rnnscope.spec.sides import RECORDED
from rnnscope.spec.sources import FORCE, SOURCE_FLAGS, Sources
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.sweeps.workers import is_follower

if TYPE_CHECKING:
    from rnnscope.pages.documents import Result

_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["--help", "-h"]},
}

app = typer.Typer(**_SETTINGS)

EXPORTS = (".svg", ".html", ".txt")
"""What --export can write, by the ending of the name."""

COMMANDS: list[str] = []
"""The names of the commands, in the order in which they are declared."""

OUTPUT_FLAGS = {
    "format": Choice(("--format",), "How it is written:", "Output", "table", choices=render.FORMATS),
    "json": Switch(("--json",), "Short for --format json.", "Output", False),
    "quiet": Switch(("--quiet", "-q"), "Print nothing; only the exit code answers.", "Output", False),
    "export": FileName(("--export",), "Keep the page as a picture or a page to share.", "Output", example="page.svg"),
    "force": FORCE,
    "debug": Switch(("--debug",), "Show the traceback of an error.", "Output", False),
}
"""The flags of every command that are no part of the Spec."""


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """A result, the format in which it was asked for, and the file in which its page is kept.

    force: whether that file is replaced where it is there already.
    """

    result: "Result"
    format: str
    export: str | None
    force: bool


def app_of(called: str | None) -> typer.Typer:
    """The app with the one command that is called, or with all where none is: Typer makes the options of each."""
    if called is None:
        return app
    one = typer.Typer(**_SETTINGS)
    one.registered_callback = app.registered_callback
    one.registered_commands = [each for each in app.registered_commands if each.name == called]
    return one


def command(*examples: str, runs: bool = True) -> Callable[[Callable[..., "Result"]], Callable[..., "Result"]]:
    """Register a command under its name.

    Args:
        examples: what its help ends with.
        runs: whether a network is run, for which there must be memory.
    """

    def register(function: Callable[..., "Result"]) -> Callable[..., "Result"]:
        epilog = "\n\n".join(("Examples:", *(f"rnnscope {function.__name__} {each}".rstrip() for each in examples)))
        app.command(function.__name__, epilog=epilog)(_parser(function, runs))
        COMMANDS.append(function.__name__)
        return function

    return register


def _parser(function: Callable[..., "Result"], runs: bool) -> Callable[..., Outcome]:
    """What Typer calls: a command's own flags, then those of the Spec where it takes one, then those of the output."""
    parameters = inspect.signature(function).parameters
    own = {name: get_args(each.annotation)[1] for name, each in parameters.items()}
    needed = {name for name, each in parameters.items() if get_args(each.annotation)[0] is str}
    files, axes = own.pop("loaded", None), own.pop("axes", {})
    # Of a flag of the Spec a command may take several values: that one is its own, and stands where the other would.
    of_spec = {} if files is None else {name: each for name, each in SPEC_FLAGS.items() if name not in own}
    every = {name: each for name, each in own.items() if name not in SPEC_FLAGS} | axes
    every |= {name: SOURCE_FLAGS[name] for name in files or ()}
    every |= {} if files is None else {name: own.get(name, each) for name, each in SPEC_FLAGS.items()}
    every |= OUTPUT_FLAGS

    def parsed(**typed: Any) -> Outcome:
        values = {name: _value(flag, typed[name]) for name, flag in every.items()}
        for name, flag in (own | OUTPUT_FLAGS).items():
            if values[name] is not None:
                flag.check(values[name])
            elif name in needed:
                raise RnnscopeError(f"{flag.name} is missing", flag.mend(None))
        form, export, force = _format(values["format"], values["json"]), values["export"], values["force"]
        if export is not None and not is_follower():
            check_ending(export, EXPORTS)
            check_place(export, force)
        options = {name: values[name] for name in own}
        if axes:
            options["axes"] = listed = {name: values[name] for name in axes if typed[name] is not None}
            for name, several in listed.items():
                axes[name].check(several)
        if files is not None:
            given = {name: values[name] for name in of_spec if typed[name] is not None}
            options["loaded"] = loaded = _loaded(given, values)
            _check_size(loaded.spec, form, values, runs and not values.get("dry_run"))
        return Outcome(function(**options), form, export, force)

    signature = inspect.Signature([_parameter(name, flag) for name, flag in every.items()])
    parsed.__doc__ = function.__doc__
    parsed.__signature__ = signature  # type: ignore[attr-defined]
    parsed.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    return parsed


def _loaded(given: dict[str, Any], values: dict[str, Any]) -> Loaded:
    """The Spec that flags and files say together, and what else the files gave.

    Args:
        given: the fields of the Spec that were given as flags.
        values: of all flags.
    """
    sources = Sources(**{name: values.get(name) for name in SOURCE_FLAGS})
    left, right = (values.get(side, "") for side in ("left", "right"))
    if any(sources.given()) or left.startswith(RECORDED) or right.startswith(RECORDED):
        for name, value in given.items():
            SPEC_FLAGS[name].check(value)
        return rnnscope.load(sources, given, left, right)
    return Loaded(sources, Spec(**given))


def _check_size(spec: Spec, form: str, values: dict[str, Any], runs: bool) -> None:
    if form in ("json", "tsv") and runs:
        of_map = 1 + len(GATES[spec.kind]) if values.get("map") else 0
        by_step = 1 if "values" in values else of_map
        check_rows(spec, by_step if form == "json" else 0)
    if spec.memory_check and runs:
        check_memory(spec, **{name: values[name] for name in COSTLY if name in values})


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    """The parameter from which Typer makes the option. It reads text: what it says of wrong numbers is too little."""
    is_switch = isinstance(flag, Switch)
    help_text = f"{flag.help} {', '.join(flag.choices)}." if isinstance(flag, Choice) else flag.help
    if not (flag.default is None or flag.default is False):
        help_text += f" Default: {flag.words(flag.default)[-1]}."
    if not flag.name.startswith("-"):
        argument = typer.Argument(help=help_text, metavar=flag.metavar, show_default=False)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, argument])
    option = typer.Option(
        *flag.names,
        help=help_text,
        rich_help_panel=flag.panel,
        show_default=False,
        metavar=" " if is_switch else flag.metavar,  # a switch takes no value, so nothing stands for it in the help
    )
    # None where it was not typed: what is given must be told from a default.
    # A list that is typed in several parts is one list.
    kind: Any = bool | None if is_switch else list[str] | None if isinstance(flag, Listed) else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


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
