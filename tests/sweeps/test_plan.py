"""Configurations and plans: known by one command line each, listed, drawn, and read from lines of JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Cli

from rnnscope import RnnscopeError, Spec, compare
from rnnscope.spec.spec import SPEC_FLAGS
from rnnscope.sweeps.plan import FIELDS, Configuration, check_flags, plan_of, read_lines, read_rerun, sweep_line


def everything() -> st.SearchStrategy[dict[str, Any]]:
    """Values of flags, also those that contradict each other."""
    size = st.integers(1, 40)
    fields = {
        "kind": st.sampled_from(["rnn", "lstm", "gru"]),
        **dict.fromkeys(("input_size", "hidden_size", "num_layers", "seq_len", "batch_size"), size),
        "proj_size": st.integers(0, 5),
        "dropout": st.floats(0, 1),
        "lengths": st.lists(size, min_size=1, max_size=4).map(tuple),
        **dict.fromkeys(("bias", "unbatched", "bidirectional", "onednn", "train", "grad", "reference"), st.booleans()),
        "right": st.sampled_from(["cells", "equations", "module@cpu/bfloat16", "my file.py:Own"]),
        "weights": st.sampled_from(["a.pt", "it's here.pt"]),
        "rtol": st.floats(0, 1e300),
    }
    return st.fixed_dictionaries({}, optional=fields)


@given(everything())
def test_a_command_line_says_it_all(values: dict[str, Any]) -> None:
    line = Configuration(values).rerun
    assert Configuration(read_rerun(line)).rerun == line


@given(everything())
def test_a_command_line_makes_the_same_spec(values: dict[str, Any]) -> None:
    asked = Configuration(values)
    try:
        spec = Spec(**asked.of(SPEC_FLAGS))
    except RnnscopeError:
        return
    assert Spec(**Configuration(read_rerun(asked.rerun)).of(SPEC_FLAGS)) == spec


def test_two_ways_to_say_the_same_have_one_line() -> None:
    one, other = Configuration({"lengths": (4, 2)}), Configuration({"batch_size": 2, "lengths": (4, 2), "seq_len": 4})
    assert one.rerun == other.rerun == "rnnscope compare --seq-len 4 --batch 2 --lengths 4,2"


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a default": ({}, {"kind": "rnn", "seq_len": 3, "left": "module", "chunk": None}),
    "sizes that follow from lengths": ({"lengths": (4, 2)}, {"lengths": (4, 2), "seq_len": 4, "batch_size": 2}),
    "a size that follows from unbatched": ({"unbatched": True}, {"unbatched": True, "batch_size": 1}),
    "sizes of what contradicts itself": (
        {"kind": "gru", "proj_size": 4, "lengths": (4, 2)},
        {"kind": "gru", "proj_size": 4, "lengths": (4, 2), "seq_len": 4},
    ),
    "a default of what contradicts itself": (
        {"kind": "gru", "proj_size": 4},
        {"kind": "gru", "proj_size": 4, "seq_len": 3},
    ),
    "a whole number": ({"rtol": 1.0, "atol": 0.0}, {"rtol": 1, "atol": 0}),
    "a switch that is off beside a file": ({"weights": "a.pt"}, {"weights": "a.pt", "bidirectional": False}),
}

OTHER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a size that contradicts lengths": ({"lengths": (3, 2, 2)}, {"lengths": (3, 2, 2), "batch_size": 5}),
    "a default beside a file": ({"weights": "a.pt"}, {"weights": "a.pt", "num_layers": 2}),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_two_that_ask_for_the_same_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    asked = {Configuration(one), Configuration(other), Configuration(read_rerun(Configuration(other).rerun))}
    assert len(asked) == len({each.rerun for each in asked}) == 1


@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
def test_two_that_ask_for_something_else_are_not_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Configuration(one) != Configuration(other)
    assert Configuration(one).rerun != Configuration(other).rerun


def test_a_size_that_contradicts_is_said_though_it_is_the_default(cli: Cli) -> None:
    line = Configuration({"lengths": (3, 2, 2), "batch_size": 5}).rerun
    assert line == "rnnscope compare --batch 5 --lengths 3,2,2"
    assert cli(*line.split()[1:]).err == "rnnscope: --batch is 5, but --lengths has 3 sequences; leave --batch out\n"


def test_it_is_the_line_of_the_comparison() -> None:
    values = {"kind": "gru", "lengths": (4, 2), "threads": 1, "right": "equations"}
    assert Configuration(values).rerun == compare(Spec(kind="gru", lengths=(4, 2), threads=1), right="equations").rerun


@pytest.mark.parametrize("line", ["rnnscope shapes", "rnnscope compare --nothing", "compare", "rnnscope compare '", ""])
def test_what_is_no_comparison_is_refused(line: str) -> None:
    with pytest.raises(RnnscopeError):
        read_rerun(line)


def lines_of(axes: dict[str, tuple[Any, ...]], **options: Any) -> list[str]:
    plan = plan_of(axes, **options)
    return [plan[number].rerun for number in range(len(plan))]


def test_every_combination_is_there_once() -> None:
    assert lines_of({"kind": ("rnn", "lstm"), "num_layers": (1, 2), "bias": (True, False)}) == [
        "rnnscope compare --layers 1 --threads 1",
        "rnnscope compare --layers 1 --no-bias --threads 1",
        "rnnscope compare --threads 1",
        "rnnscope compare --no-bias --threads 1",
        "rnnscope compare --kind lstm --layers 1 --threads 1",
        "rnnscope compare --kind lstm --layers 1 --no-bias --threads 1",
        "rnnscope compare --kind lstm --threads 1",
        "rnnscope compare --kind lstm --no-bias --threads 1",
    ]


def test_threads_that_were_given_are_kept() -> None:
    assert lines_of({"threads": (2,)}) == ["rnnscope compare --threads 2"]


def test_no_flag_is_one_configuration() -> None:
    assert lines_of({}) == ["rnnscope compare --threads 1"]


AXES = {"kind": ("rnn", "gru"), "hidden_size": tuple(range(1, 1001))}


def test_drawing_is_drawn_from_the_lists_with_a_seed_each() -> None:
    plan = plan_of(AXES | {"seed": (7,)}, 100)
    drawn = [plan[number] for number in range(100)]
    assert [each.value("seed") for each in drawn] == list(range(7, 107))
    assert {each.value("kind") for each in drawn} == {"rnn", "gru"}
    assert len({each.value("hidden_size") for each in drawn}) > 80


def test_the_first_ones_stay_where_more_are_drawn() -> None:
    assert lines_of(AXES, random=20) == lines_of(AXES, random=50)[:20]


def test_another_seed_draws_others() -> None:
    sizes = [[each.value("hidden_size") for each in plan_of(AXES | {"seed": (seed,)}, 20)] for seed in (0, 1)]
    assert sizes[0] != sizes[1]


def test_a_line_keeps_what_it_says_and_gets_what_it_leaves_open() -> None:
    lines = read_lines('{"kind": "lstm", "batch_size": null}\n\r\n{"num_layers": 3, "lengths": [3, 1]}\r\n', "f")
    assert lines_of({"dtype": ("float64",), "bias": (True, False)}, lines=lines) == [
        "rnnscope compare --kind lstm --dtype float64 --threads 1",
        "rnnscope compare --kind lstm --no-bias --dtype float64 --threads 1",
        "rnnscope compare --layers 3 --batch 2 --lengths 3,1 --dtype float64 --threads 1",
        "rnnscope compare --layers 3 --no-bias --batch 2 --lengths 3,1 --dtype float64 --threads 1",
    ]


def test_a_flag_that_is_given_goes_before_what_lines_say() -> None:
    lines = read_lines('{"num_layers": 1}\n{"num_layers": 2, "bias": false}\n', "f")
    assert lines_of({"num_layers": (3,)}, lines=lines) == [
        "rnnscope compare --layers 3 --threads 1",
        "rnnscope compare --layers 3 --no-bias --threads 1",
    ]


def test_the_spec_of_a_document_is_a_line() -> None:

    spec = Spec(kind="lstm", unbatched=True, proj_size=3, threads=2)
    (line,) = read_lines(json.dumps(compare(spec, right="equations").document()["spec"]), "f")
    assert Spec(**Configuration(line).of(SPEC_FLAGS)) == spec


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "f has no configuration in it"),
        ("\n \n", "f has no configuration in it"),
        ("{}\nx\n", "f, line 2: no JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "f, line 1: '[1]' is no object"),
        ('{"layers": 2}', "f, line 1: there is no 'layers'; did you mean num_layers?"),
        ('{"num_layers": 0}', "f, line 1: --layers is 0, but it must be a whole number of at least 1"),
        ('{"num_layers": true}', "f, line 1: --layers is True, but it must be a whole number of at least 1"),
        ('{"bias": 1}', "f, line 1: --bias is 1, but it must be True or False"),
        ('{"rtol": NaN}', "f, line 1: --rtol is nan, but it must be a finite number of at least 0"),
        ('{"lengths": []}', "f, line 1: --lengths is '', but it must be whole numbers of at least 1"),
        ('{"spec": {}}', "f, line 1: there is no 'spec'; give what is in it, or the whole row"),
        ('{"rerun": "rnnscope compare", "seed": 7}', "f, line 1: there is no 'rerun'"),
        ('{"rtol": 1' + "0" * 400 + "}", "f, line 1: --rtol is a number of more than 300 digits, but it must be"),
        ('{"seed": 1' + "0" * 5000 + "}", "f, line 1: no JSON (too deep, or a number too long)"),
        ('{"weights": 3}', "f, line 1: --weights is 3, but it must be the name of a file"),
        ('{"schema": 1, "rerun": "rnnscope shapes"}', "f, line 1: 'rnnscope shapes' is no rnnscope compare"),
        ("[" * 100_000, "f, line 1: no JSON"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(text: str, sentence: str) -> None:
    with pytest.raises(RnnscopeError) as refused:
        read_lines(text, "f")
    assert f"{refused.value.message}; {refused.value.hint}".startswith(sentence)


NOTHING: dict[str, Any] = {"axes": {}, "random": None, "configs": None, "out": None, "resume": False, "report": None}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"report": "a", "axes": {"kind": ("rnn",)}}, "--report runs nothing, and --kind is given"),
        ({"report": "a", "random": 3}, "--report runs nothing, and --random is given"),
        ({"report": "a", "out": "b", "resume": True}, "--report runs nothing, and --out is given"),
        ({"report": "a", "resume": True}, "--report runs nothing, and --resume is given"),
        ({"random": 3, "configs": "a"}, "--random draws configurations, and --configs brings them"),
        ({"resume": True}, "--resume is given without --out"),
        ({"out": "-"}, "--out is -, and stdout gets the summary"),
        ({"random": 3, "axes": {"seed": (1, 2)}}, "--random draws with one --seed, and each configuration gets a seed"),
        (
            {"axes": dict.fromkeys(("hidden_size", "seq_len"), tuple(range(1, 1002)))},
            "these lists make 1002001 configurations, but a sweep may have 1000000",
        ),
        (
            {"axes": dict.fromkeys(("hidden_size", "seq_len", "seed", "input_size"), tuple(range(1, 100_001)))},
            "these lists make 100000000000000000000 configurations, but a sweep may have 1000000",
        ),
        ({"axes": {"layers": (1,)}}, "there is nothing called layers to list"),
        ({"axes": {"num_layers": (1, 0)}}, "--layers is 0, but it must be a whole number of at least 1"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RnnscopeError) as refused:
        check_flags(**(NOTHING | flags))
    assert refused.value.message.startswith(sentence)


def test_the_line_of_a_sweep_has_its_lists() -> None:
    axes = {"kind": ("rnn", "gru"), "bidirectional": (False, True), "lengths": ((3, 2), (4,))}
    line = sweep_line(axes, 5, None)
    assert line == "rnnscope sweep --kind rnn,gru --bidirectional both --lengths 3,2/4 --random 5"


def test_every_flag_of_compare_can_be_listed() -> None:
    import typer.main

    from rnnscope.cli.commands import main
    from rnnscope.cli.parser import app_of

    def names(command: str) -> set[str]:
        made = typer.main.get_command(app_of(command, main)).commands[command]  # type: ignore[attr-defined]
        return {param.name for param in made.params}

    assert names("compare") - names("sweep") == {"record"}
    assert set(FIELDS) >= set(SPEC_FLAGS)
