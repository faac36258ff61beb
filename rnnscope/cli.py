"""The commands and their flags: flags become a Spec, the library answers, and the answer is handed back as a value.

Nothing is computed and nothing is printed here: see shell.py for what happens to the answer. torch is imported by the
library, and only where something must be computed.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import rnnscope
from rnnscope import render
from rnnscope.comparability import (
    ATOL,
    GRAD,
    LEFT,
    POWER,
    REFERENCE,
    RESYNC,
    RIGHT,
    RTOL,
    check_comparable,
    chosen_tolerance,
)
from rnnscope.errors import RnnscopeError
from rnnscope.flags import Choice, Flag, Switch
from rnnscope.memory import check_memory
from rnnscope.shapes import DRY_RUN, PATH, PATHS, Shapes, check_rows, shapes_of
from rnnscope.spec import Spec, flag_of

if TYPE_CHECKING:
    from rnnscope.documents import Result

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

COMMANDS: list[str] = []
"""The names of the commands, in the order in which they are declared below."""

OUTPUT_FLAGS = {
    "format": Choice(("--format",), "How it is written:", "Output", "table", choices=render.FORMATS),
    "json": Switch(("--json",), "Short for --format json.", "Output", False),
    "quiet": Switch(("--quiet", "-q"), "Print nothing; only the exit code answers.", "Output", False),
    "debug": Switch(("--debug",), "Show the traceback of an error.", "Output", False),
}
"""The flags of every command that are no part of the Spec."""


@dataclass(frozen=True)
class Outcome:
    """A result and the format in which it was asked for."""

    result: "Result"
    format: str


def command(function: Callable[..., "Result"]) -> Callable[..., "Result"]:
    """Register a command: its own flags, then those of the Spec, then those of the output, each declared once."""
    own = {
        each.name: get_args(each.annotation)[1] for each in list(inspect.signature(function).parameters.values())[1:]
    }
    of_spec = {each.name: flag_of(each) for each in fields(Spec)}
    every = own | of_spec | OUTPUT_FLAGS

    def parsed(**typed: Any) -> Outcome:
        values = {name: _value(flag, typed[name]) for name, flag in every.items()}
        for name, flag in (own | OUTPUT_FLAGS).items():
            if values[name] is not None:
                flag.check(values[name])
        spec = Spec(**{name: values[name] for name in of_spec})
        form = _format(values["format"], values["json"])
        if form in ("json", "tsv"):
            check_rows(spec)
        if spec.memory_check and not values.get("dry_run"):
            needed = {name: values.get(name, False) for name in ("grad", "reference", "resync")}
            check_memory(spec, **needed)
        return Outcome(function(spec, **{name: values[name] for name in own}), form)

    signature = inspect.Signature([_parameter(name, flag) for name, flag in every.items()])
    parsed.__doc__ = function.__doc__
    parsed.__signature__ = signature  # type: ignore[attr-defined]
    parsed.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    app.command(function.__name__)(parsed)
    COMMANDS.append(function.__name__)
    return function


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    """The parameter from which Typer makes the option. It reads text: what it says of wrong numbers is too little."""
    is_switch = isinstance(flag, Switch)
    help_text = f"{flag.help} {', '.join(flag.choices)}." if isinstance(flag, Choice) else flag.help
    if not (is_switch or flag.default is None):
        help_text += f" Default: {flag.words(flag.default)[1]}."
    option = typer.Option(
        *flag.names,
        help=help_text,
        rich_help_panel=flag.panel,
        show_default=is_switch,
        metavar=" " if is_switch else flag.metavar,  # a switch takes no value, so nothing stands for it in the help
    )
    kind: Any = bool if is_switch else str | None
    default = flag.default if is_switch else None  # or what was typed could not be told from a default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _value(flag: Flag, typed: Any) -> Any:
    """What a flag stands for: what was typed, or its default."""
    if typed is None:
        return flag.default
    return flag.parse(typed) if isinstance(typed, str) else typed


def _format(form: str, json: bool) -> str:
    if json and form not in ("table", "json"):
        raise RnnscopeError(f"--json means --format json, but --format is {form}", "give one of the two")
    return "json" if json else form


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Every shape of a recurrent network in PyTorch, and whether two implementations are the same."""
    if version:
        print(f"rnnscope {rnnscope.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise RnnscopeError("no command was given", f"use {' or '.join(COMMANDS)}, or --help")


@command
def shapes(spec: Spec, path: Annotated[str, PATH], dry_run: Annotated[bool, DRY_RUN]) -> Shapes:
    """Which tensor has which shape, and why? Runs random input through the module and a stack of cells."""
    paths = PATHS if path == "both" else (path,)
    return shapes_of(spec, paths) if dry_run else rnnscope.observed_shapes(spec, paths)


@command
def compare(
    spec: Spec,
    left: Annotated[str, LEFT],
    right: Annotated[str, RIGHT],
    rtol: Annotated[float | None, RTOL],
    atol: Annotated[float | None, ATOL],
    grad: Annotated[bool, GRAD],
    reference: Annotated[bool, REFERENCE],
    resync: Annotated[bool, RESYNC],
    power: Annotated[bool, POWER],
) -> "Result":
    """Are the two the same network? Runs both with the same weights and input; exit code 0 if so, 1 if not."""
    check_comparable(spec, left, right, reference, resync)
    chosen_tolerance((spec.dtype,), rtol, atol)  # refused, as all above, before torch is imported
    return rnnscope.compare(spec, left, right, rtol, atol, grad, reference, resync, power)
