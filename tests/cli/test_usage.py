"""What is said of words that are no flag and no command: what mends it, in one line."""

import re

import pytest
from support import Answer, Cli

import rnnscope.cli.commands  # noqa: F401 - declares the commands
from rnnscope.cli.parser import COMMANDS, ROOT_FLAGS, flags_of_all
from rnnscope.cli.usage import COMMAND_INSTEAD, INSTEAD, names_of

NO_FLAGS = {
    "shapes --layres 3": "no such flag: --layres; did you mean --layers?",
    "shapes --hidden_size 3": "no such flag: --hidden_size; did you mean --hidden-size?",
    "shapes --bidir": "no such flag: --bidir; did you mean --bidirectional?",
    "shapes --verbose": "no such flag: --verbose; --debug shows the traceback of an error",
    "shapes --wibble": "no such flag: --wibble; see rnnscope shapes --help",
    "shapes --grad": "no such flag: --grad; it is a flag of compare, sweep and bench",
    "weights a.pt --kind lstm": (
        "no such flag: --kind; it is a flag of shapes, compare, check, sweep, trace, bench and code"
    ),
    "shapes --color": "no such flag: --color; NO_COLOR=1 or FORCE_COLOR=1 before the command decides",
    "shapes --no-colour": "no such flag: --no-colour; set NO_COLOR=1 before the command",
    "shapes -v": "no such flag: -v; -V shows the version, and --debug the traceback of an error",
    "shapes -o a.txt": "no such flag: -o; use --export page.svg for the page, or --format and > FILE",
    "shapes --output a.txt": "no such flag: --output; use --export page.svg for the page, or --format and > FILE",
    "compare --gpu": "no such flag: --gpu; use --device cuda",
    "compare --cuda": "no such flag: --cuda; use --device cuda",
    "compare --tol 1e-3": "no such flag: --tol; use --rtol and --atol",
    "compare --tolerance=1e-3": "no such flag: --tolerance; use --rtol and --atol",
    "compare --lstm": "no such flag: --lstm; use --kind lstm",
    "compare --steps 4": "no such flag: --steps; use --seq-len",
    "compare --num-steps 4": "no such flag: --num-steps; use --seq-len",
    "weights a.pt --lstm": "no such flag: --lstm; see rnnscope weights --help",
    "sweep --no-bias": "no such flag: --no-bias; use --bias off",
    "sweep --grad": "--grad needs on, off or both; try --grad both",
    "sweep --grad --layers 2": "--grad needs on, off or both; try --grad both",
    "sweep --layers": "--layers needs a whole number of at least 1; try --layers 2",
    "convert a.pt --to": "--to needs one of cells, module; try --to cells",
    "convert a.pt -o --force": "-o needs the name of a file; try --out out.pt",
    "--format": "--format needs one of table, json, tsv, markdown, junit, github; try --format table",
    "--format --quiet shapes": "--format needs one of table, json, tsv, markdown, junit, github; try --format table",
    "--json=1 shapes": "--json=1: --json takes no value; use --json",
    "--quiet --install-completion": (
        "no such flag: --install-completion; it stands alone: rnnscope --install-completion bash"
    ),
    "--help-all": "no such flag: --help-all; it goes after a command: rnnscope compare --help-all",
    " ": "no such command: ''; see rnnscope --help",
    "--layers 3 shapes": (
        "--layers is a flag of shapes, compare, check, sweep, trace, bench and code; it goes after the command"
    ),
    "--export a.svg compare": "--export is a flag of every command; it goes after the command",
    "--grad compare": "--grad is a flag of compare, sweep and bench; it goes after the command",
    "--versoin": "no such flag: --versoin; did you mean --version?",
    "--gpu compare": "no such flag: --gpu; use --device cuda",
    "compare --show-completion": ("no such flag: --show-completion; it stands alone: rnnscope --show-completion bash"),
    "shapes lstm": "unexpected argument: lstm; did you mean --kind lstm?",
    "compare cells equations": "unexpected argument: cells equations; did you mean --left cells?",
    "compare model.pt": "unexpected argument: model.pt; did you mean --weights model.pt?",
    "compare my.py:Lstm": "unexpected argument: my.py:Lstm; did you mean --right my.py:Lstm?",
    "diff": "no such command: diff; did you mean compare?",
    "summary": "no such command: summary; did you mean shapes?",
    "comapre --kind lstm": "no such command: comapre; did you mean compare?",
    "model.pt": "no such command: model.pt; did you mean rnnscope weights model.pt?",
    "wibble": "no such command: wibble; see rnnscope --help",
    "version": "no such command: version; did you mean --version?",
}


@pytest.mark.parametrize("typed", NO_FLAGS)
def test_what_is_no_flag_and_no_command_is_answered_by_what_mends_it(cli: Cli, typed: str) -> None:
    assert cli(*typed.split(" ")) == Answer(2, "", f"rnnscope: {NO_FLAGS[typed]}\n")


def test_a_value_that_is_a_flag_can_be_given_with_a_sign(cli: Cli) -> None:
    assert cli("shapes", "--prefix=--json").err == "rnnscope: --prefix is given without --weights; add --weights FILE\n"


EVERY_NAME = {
    name for flags in (ROOT_FLAGS, *flags_of_all().values()) for each in flags.values() for name in names_of(each)
}


@pytest.mark.parametrize("typed", INSTEAD)
def test_a_sentence_names_flags_that_there_are(typed: str) -> None:
    named = set(re.findall(r"(?<!\S)--?[a-zA-Z][a-z-]*", INSTEAD[typed])) - {"--nproc-per-node", "-m", "--help-all"}
    assert named <= EVERY_NAME


@pytest.mark.parametrize("typed", COMMAND_INSTEAD)
def test_a_command_that_is_named_is_one(typed: str) -> None:
    assert COMMAND_INSTEAD[typed] in (*COMMANDS, "--version")
    assert typed not in COMMANDS
