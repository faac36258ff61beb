"""What is said of a class of one's own: which texts are allowed, of which sides, and how it is typed again."""

import shlex
from typing import Any

import pytest
from support import OWN, Cli

from rnnscope import RnnscopeError, Spec, compare
from rnnscope.spec.flags import Flag
from rnnscope.spec.sides import LEFT, OWN_FLAGS, SUBJECT, Own, OwnSides, is_own
from rnnscope.sweeps.plan import AXES, Configuration, read_rerun

CLASS = f"{OWN}:Lstm"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1", 1),
        ("x=-0.5", -0.5),
        ("x=(3, 4)", (3, 4)),
        ("x=None", None),
        ("x='1'", "1"),
        ("x=relu", "relu"),
        ("x=a=b", "a=b"),
        ("x=", ""),
        ("x=open('f')", "open('f')"),
        ("x=" + "(" * 5000, "(" * 5000),
    ],
)
def test_an_argument_is_a_literal_and_a_text_otherwise(text: str, value: object) -> None:
    assert Own(args=(text,)).arguments == {"x": value}


def test_names_are_texts() -> None:
    assert Own(names=("W=weight_ih_l0", "n=1")).torch_names == {"W": "weight_ih_l0", "n": "1"}


@pytest.mark.parametrize("typed", ["own.py:Cls", "a.b:C.D", "cell:own.py:Cls", "cell:a.b:Cls@cpu/float64"])
@pytest.mark.parametrize("flag", [LEFT, SUBJECT], ids=lambda flag: flag.name)
def test_a_class_of_ones_own_may_stand_for_a_side(typed: str, flag: Flag) -> None:
    flag.check(typed)
    assert is_own(typed)


@pytest.mark.parametrize(
    "typed", ["cell:", "cell:Cls", "cell:own.py", "cell:cell:own.py:Cls", "cell:recorded:own.py:C"]
)
def test_a_cell_is_a_class(typed: str) -> None:
    assert not is_own(typed)
    with pytest.raises(RnnscopeError, match=r"it must be cell:FILE\.py:Class or cell:package\.module:Class"):
        LEFT.check(typed)


@pytest.mark.parametrize("typed", ["module", "cells@cuda:1", "deviation:gates", "recorded:own.py:Cls"])
def test_other_sides_are_nobodys_class(typed: str) -> None:
    assert not is_own(typed)


NOT_OWN = "is said of a class of your own, and"
WRONG: dict[str, tuple[str, str]] = {
    "--right-arg x=1": (
        f"--right-arg x=1 {NOT_OWN} --right is cells",
        "name the class, such as --right mine.py:MyLSTM, or leave --right-arg out",
    ),
    "--no-left-batch-first": (
        f"--no-left-batch-first {NOT_OWN} --left is module",
        "name the class, such as --left mine.py:MyLSTM, or leave --no-left-batch-first out",
    ),
    f"--right {CLASS} --right-arg x": (
        "--right-arg is 'x', but it must be NAME=VALUE, with a name as in Python",
        "try --right-arg vocabulary=100",
    ),
    f"--right {CLASS} --right-arg 1x=2": (
        "--right-arg is '1x=2', but it must be NAME=VALUE, with a name as in Python",
        "try --right-arg vocabulary=100",
    ),
    f"--right {CLASS} --right-arg x=1 --right-arg y=1 --right-arg x=2": (
        "--right-arg gives x twice: x=1 and x=2",
        "give one of the two",
    ),
    f"--right {CLASS} --right-name W": (
        "--right-name is 'W', but it must be OWN=TORCH, the parameter's own name and torch's",
        "try --right-name W_hh=weight_hh_l0",
    ),
}


@pytest.mark.parametrize("flags", WRONG, ids=lambda flags: flags.replace(str(OWN), "own.py"))
def test_what_cannot_be_said_of_a_side_is_refused(flags: str, cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", *flags.split())
    assert (answer.code, answer.out, answer.err) == (2, "", f"rnnscope: {'; '.join(WRONG[flags])}\n")


@pytest.mark.parametrize("value", ["x=1", ["x=1"], 3])
def test_texts_are_a_tuple(value: Any) -> None:
    with pytest.raises(RnnscopeError, match="but it must be a tuple of texts"):
        OwnSides(right_args=value)


NAME = "cells.0.weight_ih=weight_ih_l0"
SAID = ("--left-arg", "bias=True", "--left-arg", "num_layers=2", "--left-name", NAME, "--no-left-batch-first")


def test_the_rerun_line_says_it_again(cli: Cli) -> None:
    out = cli("compare", "--kind", "lstm", "--left", CLASS, *SAID, "--format", "markdown").out
    (line,) = (each for each in out.splitlines() if "rnnscope compare" in each)
    words = shlex.split(line.partition("rnnscope compare")[2].strip("`"))
    assert words[words.index("--left-arg") :] == list(SAID)


def test_what_has_spaces_is_quoted() -> None:
    said: dict[str, Any] = {"left_args": ("vocabulary=a b",), "left_batch_first": False}
    found = compare(Spec(kind="lstm", num_layers=1), f"{OWN}:NeedsMore", **said)
    assert found.rerun.endswith("--left-arg 'vocabulary=a b' --no-left-batch-first")


def test_a_line_is_read_again_with_all_that_it_says() -> None:
    values = {"left": CLASS, "left_args": ("x=a b", "y=2"), "right_batch_first": False, "right": CLASS}
    assert read_rerun(Configuration(values).rerun) == values


def test_a_sweep_says_it_of_every_configuration(cli: Cli) -> None:
    sweep = cli("sweep", "--kind", "lstm", "--seed", "1,2", "--left", CLASS, *SAID[:-1], "--format", "tsv").out
    (head, *rows) = (each.split("\t") for each in sweep.splitlines())
    reruns = [row[head.index("rerun")] for row in rows]
    assert len(reruns) == 2
    assert all(" ".join(SAID[:-1]) in each for each in reruns)


def test_a_sweep_takes_one_value_of_what_is_repeated() -> None:
    with pytest.raises(RnnscopeError, match="--left-arg has 2 values, but it holds for every configuration"):
        AXES["left_args"].check((("x=1",), ("x=2",)))


def test_every_flag_is_rare() -> None:
    assert [flag.rare for flag in OWN_FLAGS.values()] == [True] * 6
