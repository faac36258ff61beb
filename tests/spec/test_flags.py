"""A flag that takes several values: lists, ranges, both settings of a switch, and what is said of wrong ones."""

from typing import Any

import pytest

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Flag, listed, nearest
from rnnscope.spec.question import RTOL
from rnnscope.spec.sides import RIGHT
from rnnscope.spec.spec import SPEC_FLAGS

FLAGS: dict[str, Flag] = {"right": RIGHT, "rtol": RTOL, **SPEC_FLAGS}

VALUES: list[tuple[str, str, tuple[Any, ...]]] = [
    ("kind", "rnn,lstm,gru", ("rnn", "lstm", "gru")),
    ("num_layers", "1,2,3", (1, 2, 3)),
    ("num_layers", "2,1,2", (2, 1)),
    ("seq_len", "1..4", (1, 2, 3, 4)),
    ("seq_len", "1..3,9,2..4", (1, 2, 3, 9, 4)),
    ("hidden_size", "1..1000:10", (1, 2, 5, 10, 22, 46, 100, 215, 464, 1000)),
    ("hidden_size", "1..4:10", (1, 2, 3, 4)),
    ("hidden_size", "8..512:7", (8, 16, 32, 64, 128, 256, 512)),
    ("hidden_size", "7..7:1", (7,)),
    ("rtol", "1e-6..1e-2:3", (1e-6, pytest.approx(1e-4), 1e-2)),
    ("rtol", "2.5E-6..0.25:2", (2.5e-6, 0.25)),
    ("seq_len", "1..100,200", (*range(1, 101), 200)),
    ("bias", "on", (True,)),
    ("bias", "off", (False,)),
    ("bidirectional", "both", (False, True)),
    ("bidirectional", "on,off", (True, False)),
    ("lengths", "3,2,2/4,1", ((3, 2, 2), (4, 1))),
    ("lengths", "5", ((5,),)),
    ("right", "cells,equations,module@cuda", ("cells", "equations", "module@cuda")),
]


@pytest.mark.parametrize(("name", "typed", "values"), VALUES, ids=[f"{name} {typed}" for name, typed, _ in VALUES])
def test_a_list_is_read(name: str, typed: str, values: tuple[Any, ...]) -> None:
    flag = listed(FLAGS[name])
    flag.check(flag.parse(typed))
    assert flag.parse(typed) == values


def test_a_long_run_is_written_as_a_range() -> None:
    flag = listed(FLAGS["seq_len"])
    assert flag.as_typed((*range(1, 4), *range(10, 1000), 7)) == ["--seq-len", "1,2,3,10..999,7"]


@pytest.mark.parametrize("value", [(), "rnn", 2, ["rnn"]])
def test_what_is_no_tuple_is_refused(value: object) -> None:
    with pytest.raises(RnnscopeError, match="but it must be a tuple of values"):
        listed(FLAGS["kind"]).check(value)


@pytest.mark.parametrize(("name", "typed"), [case[:2] for case in VALUES])
def test_what_is_written_is_read_again(name: str, typed: str) -> None:
    flag = listed(FLAGS[name])
    values = flag.parse(typed)
    _, again = flag.as_typed(values)
    assert set(flag.parse(again)) == set(values)


A_RANGE = "but a range must be FIRST..LAST:COUNT with 0 < FIRST <= LAST and a COUNT of at least 2"


@pytest.mark.parametrize(
    ("name", "typed", "sentence"),
    [
        ("num_layers", "1,0", "--layers is 0, but it must be a whole number of at least 1"),
        ("num_layers", "1,,2", "--layers is '', but it must be a whole number of at least 1"),
        ("num_layers", "1,x", "--layers is 'x', but it must be a whole number of at least 1"),
        ("kind", "rnn,lst", "--kind is 'lst', but it must be one of rnn, lstm, gru"),
        ("bias", "maybe", "--bias is 'maybe', but it must be on, off or both"),
        ("lengths", "3,2/a", "--lengths is 'a', but it must be whole numbers of at least 1 with commas between them"),
        ("seq_len", "5..1", f"--seq-len is '5..1', {A_RANGE}, or FIRST..LAST"),
        ("seq_len", "0..9:3", f"--seq-len is '0..9:3', {A_RANGE}, or FIRST..LAST"),
        ("seq_len", "1..9:1", f"--seq-len is '1..9:1', {A_RANGE}, or FIRST..LAST"),
        ("rtol", "1..2", f"--rtol is '1..2', {A_RANGE}"),
        ("seq_len", "1..9999999", "--seq-len 1..9999999 lists 9999999 values, but it may list 1000000"),
        ("seq_len", "1..9:9999999", "--seq-len 1..9:9999999 lists 9999999 values, but it may list 1000000"),
        ("right", "cells,nobody", "--right is 'nobody', but it must be one of module, cells"),
    ],
)
def test_what_is_no_list_is_refused(name: str, typed: str, sentence: str) -> None:
    flag = listed(FLAGS[name])
    with pytest.raises(RnnscopeError) as refused:
        flag.check(flag.parse(typed))
    assert refused.value.message.startswith(sentence)


@pytest.mark.parametrize(
    ("typed", "expected"), [("mylstm", "MyLSTM"), ("MYLSMT", "MyLSTM"), ("encoder.rn", "encoder.rnn"), ("x", None)]
)
def test_the_nearest_word_is_found_in_whatever_case(typed: str, expected: str | None) -> None:
    assert nearest(typed, ("MyLSTM", "encoder.rnn")) == expected
