"""The entries: every name has one, every page shows what it promises, and every command on it shows that."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support import Answer, Cli

from rnnscope import Spec, compare
from rnnscope.help.deviations import DEVIATIONS
from rnnscope.help.entries import SORTS, Entry, key
from rnnscope.help.explain import ENTRIES, explained, more, names
from rnnscope.help.findings import BLIND_SPOTS, CAUSES, RELATIONS, VERDICTS
from rnnscope.spec.question import blind_spots
from rnnscope.spec.relations import RELATIONS as ORDER_OF_RELATIONS
from rnnscope.sweeps.result import VERDICTS as VERDICTS_OF_A_SWEEP
from rnnscope.verdict import deviations as computed


def named(name: str, sort: str = "deviation") -> Entry:
    return next(each for each in ENTRIES if (each.name, each.sort) == (name, sort))


# Which entries there are.


def test_the_words_and_the_behaviours_have_the_same_names_in_the_same_order() -> None:
    assert [each.name for each in DEVIATIONS] == [each.name for each in computed.DEVIATIONS]


def test_every_verdict_has_an_entry() -> None:
    assert {each.name for each in VERDICTS} == set(VERDICTS_OF_A_SWEEP)


def test_every_blind_spot_of_a_spec_has_an_entry() -> None:
    specs = [
        Spec(seq_len=length, batch_size=1, h0=h0, bidirectional=True) for length in (1, 2) for h0 in ("random", "zeros")
    ]
    found = {each.name for spec in specs for resync in (False, True) for each in blind_spots(spec, resync)}
    assert found == {"zero h0", "one step from zeros", "one step of one item", "one step backward", "resync"}
    assert found <= {each.name for each in BLIND_SPOTS}


def test_a_name_is_found_by_one_sort_alone_but_for_precision() -> None:
    keys = [key(each.name) for each in ENTRIES]
    assert [each for each in set(keys) if keys.count(each) > 1] == ["precision"]
    assert [each.sort for each in explained(("precision",)).entries] == ["cause", "relation"]


def test_entries_stand_in_the_order_of_their_sorts() -> None:
    assert (*DEVIATIONS, *CAUSES, *VERDICTS, *RELATIONS, *BLIND_SPOTS) == ENTRIES
    assert list(dict.fromkeys(each.sort for each in ENTRIES)) == list(SORTS)


def test_every_relation_has_an_entry_in_their_order() -> None:
    assert tuple(each.name for each in RELATIONS) == ORDER_OF_RELATIONS


# What an entry says.


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: f"{each.sort}: {each.name}")
def test_an_entry_is_whole(entry: Entry) -> None:
    assert entry.shows.endswith(".")
    assert bool(entry.torch) is bool(entry.theirs)
    assert entry.torch != entry.theirs or not entry.torch
    assert not entry.does.endswith(".")
    assert re.fullmatch(r"[\w-]+", entry.slug)
    lines = [*entry.command.splitlines()[:-1], f"but not  {entry.torch}", f"but not  {entry.theirs}"]
    assert max(map(len, lines)) <= 80
    if entry.sort == "deviation":
        assert entry.torch
        assert entry.mends


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: f"{each.sort}: {each.name}")
def test_the_command_of_an_entry_shows_it(
    entry: Entry, cli: Cli, bash: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files, line = re.split(r"^(?=rnnscope )", entry.command, flags=re.MULTILINE)
    assert not files or bash(f"set -eu\n{files}") == Answer(0, "", "")
    words = shlex.split(line)[1:]
    answer = cli(*words)
    text = " ".join(answer.out.split())
    assert answer.err == ""
    assert entry.says in text
    if entry.sort == "deviation":
        assert answer.code == 1
        assert f"Why: The right side (deviation:{entry.slug}) {entry.does}." in text
        assert f"More: rnnscope explain {entry.slug} Run:" in text
    elif entry.sort in ("cause", "verdict"):
        found = json.loads(cli(*words, "--json").out)
        assert found[entry.sort] == entry.name
        assert entry.sort == "cause" or entry.name in found["more"]
    elif line.startswith("rnnscope check "):
        assert answer.code == 1
        assert f"Verdict: broken: {entry.name}. {entry.name}: " in text
        assert f"More: rnnscope explain {entry.name} " in text
    elif entry.sort == "blind spot":
        assert ("Reached: " if entry.name == "reached range" else "Blind spot: ") in text
        assert entry.slug in re.findall(r"More: rnnscope explain (.*) Run:", text)[0].split()


# How they are asked for.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("reset-before-the-matmul",), ["reset before the matmul"]),
        (("reset", "before", "the", "matmul"), ["reset before the matmul"]),
        (("Reset before the Matmul",), ["reset before the matmul"]),
        (("w_hh-TRANSPOSED",), ["W_hh transposed"]),
        (("gates-i-f-o-g", "zero-h0"), ["gates i f o g", "zero h0"]),
        (("h0", "and", "c0", "swapped", "h0", "ignored"), ["h0 and c0 swapped", "h0 ignored"]),
        (("last-state", "last_state"), ["last_state"]),
    ],
)
def test_names_are_completed_from_words(words: tuple[str, ...], expected: list[str]) -> None:
    assert [each.name for each in explained(words).entries] == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("reset-befor", "nothing is called 'reset-befor'; did you mean reset-before-the-matmul?"),
        (
            "reset",
            "nothing is called 'reset'; did you mean reset-before-the-matmul or b_hn-outside-the-reset-gate or "
            "reset-state-kept?",
        ),
        ("zero-h0 lengths-ignord", "nothing is called 'lengths-ignord'; did you mean lengths-ignored?"),
        ("transposed W", "nothing is called 'transposed W'; did you mean W_hh-transposed?"),
        ("qqqq", "nothing is called 'qqqq'; rnnscope explain lists all names"),
    ],
)
def test_an_unknown_name_is_answered_by_the_nearest(cli: Cli, words: str, sentence: str) -> None:
    assert cli("explain", *words.split()) == Answer(2, "", f"rnnscope: {sentence}\n")


def test_spaces_are_near_to_no_name(cli: Cli) -> None:
    assert cli("explain", "  ").err == "rnnscope: nothing is called '  '; rnnscope explain lists all names\n"


def test_every_name_is_there_to_complete() -> None:
    assert len(names()) == len(ENTRIES) - 1  # precision is a cause and a relation
    assert {"gates-z-r-n", "W_hh-transposed", "zero-h0", "rounding", "last_state", "undecided"} <= set(names())


def test_the_list_has_a_line_for_every_name_that_is_not_an_order_of_gates_that_nobody_uses(cli: Cli) -> None:
    text = cli("explain").out
    listed = {each.slug for each in ENTRIES if re.search(rf"^{each.slug} ", text, re.MULTILINE)}
    assert {each.slug for each in ENTRIES} - listed == {
        each.slug for each in DEVIATIONS if each.name.startswith("gates ") and not each.frameworks
    }
    assert len(json.loads(cli("explain", "--json").out)["entries"]) == len(ENTRIES)


def test_a_document_has_every_word_of_an_entry(cli: Cli) -> None:
    found = json.loads(cli("explain", "reset-before-the-matmul", "--json").out)
    assert found["command"] == "explain"
    assert found["rerun"] == "rnnscope explain reset-before-the-matmul"
    assert replace(named("reset before the matmul"), **found["entries"][0]) == named("reset before the matmul")


def test_a_table_of_values_has_a_line_an_entry(cli: Cli) -> None:
    head, *rows = cli("explain", "--format", "tsv").out.splitlines()
    assert head.split("\t")[:3] == ["name", "sort", "does"]
    assert [row.split("\t")[0] for row in rows] == [each.name for each in ENTRIES]


# The line that sends people to a page.


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["rounding"], "rnnscope explain rounding"),
        (["rounding", "zero h0", "rounding"], "rnnscope explain rounding zero-h0"),
        (["rounding", "a name of another release; rm -r"], "rnnscope explain rounding"),
        (["shape", "function", "precision", "rounding"], "rnnscope explain shape function precision"),
        (
            ["backward outputs not flipped back", "one step backward", "zero h0"],
            "rnnscope explain backward-outputs-not-flipped-back one-step-backward",
        ),
    ],
)
def test_more_names_what_fits_on_a_line(found: list[str], expected: str) -> None:
    (sentence,) = more(found)
    assert (sentence.label, sentence.text, sentence.verbatim) == ("More", expected, True)  # type: ignore[union-attr]


def test_more_of_nothing_is_no_line() -> None:
    assert more(["no such name"]) == []


def test_more_names_deviations_before_causes_and_causes_before_verdicts() -> None:
    assert compare(Spec(), right="deviation:W_hh-transposed").more == ("W_hh transposed",)
    assert compare(Spec(), right="cells@cpu/float64").more == ("rounding",)
    assert compare(Spec(h0="zeros"), right="module").more == ("identical", "zero h0")
