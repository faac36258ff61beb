"""Networks in every form in which people write them: right ones are found right, and each planted fault is found."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import networks_of_all_forms as networks
import pytest
from networks_of_all_forms import CASES, UNKNOWN, Case
from support import Cli

from rnnscope import Comparison, RnnscopeError, Spec, compare

FILE = Path(networks.__file__)

TWINS = [(case, fault) for case in CASES for fault in case.faults]

FIRST = [(case, case.faults[0]) for case in CASES]
"""One twin of each case; the others are tried by hand."""


@pytest.fixture(autouse=True)
def only_deviations(monkeypatch: pytest.MonkeyPatch, single_deviations: None) -> None:
    """Ask for no coarser arithmetic inside: that takes most of a compare, and none of these classes has one."""
    monkeypatch.setattr("rnnscope.verdict.inside._with_inside", lambda evidence, side: side)


def judged(case: Case, name: str, spec: Spec, **question: Any) -> Comparison:
    return compare(spec, "module", f"{FILE}:{name}", **case.own, **question)


def told(comparison: Comparison) -> str:
    """What the right side's adaptations say."""
    return "; ".join(
        sentence for side, sentences in comparison.adaptations if side == "right" for sentence in sentences
    )


def name_of(case: Case) -> str:
    return f"{case.name}-{case.asked.num_layers}"


def test_there_are_many_classes() -> None:
    assert len({case.name for case in CASES}) >= 45
    assert {case.kind for case in CASES} == {"rnn", "lstm", "gru"}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_right_class_is_the_same_in_any_form(case: Case) -> None:
    found = judged(case, case.name, case.asked)
    assert (found.verdict, found.cause) in (("equivalent", "rounding"), ("identical", None))
    assert found.exit_code == 0
    assert [word for word in case.words if word not in told(found)] == []


@pytest.mark.parametrize("case", [case for case in CASES if not case.words], ids=name_of)
def test_nothing_is_said_of_a_form_that_is_torchs(case: Case) -> None:
    said = told(judged(case, case.name, case.asked))
    assert [word for word in ("takes", "gives", "in and out", "in it", "step", "left out") if word in said] == []


@pytest.mark.parametrize("name", ["TorchsForm", "GruBothWays", "PackedInside", "StackedLstm", "Unpacks"])
def test_a_class_in_torchs_own_form_is_not_adapted(name: str) -> None:
    case = next(each for each in CASES if each.name == name)
    assert told(judged(case, name, case.asked)) == ""


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_its_gradients_are_torchs(case: Case) -> None:
    found = judged(case, case.name, case.asked, grad=True)
    assert (found.verdict, found.cause) in (("equivalent", "rounding"), ("identical", None))
    assert found.figures.gradients


@pytest.mark.parametrize("case", [case for case in CASES if case.both_ways], ids=name_of)
def test_both_directions(case: Case) -> None:
    assert judged(case, case.name, replace(case.asked, num_layers=2, bidirectional=True)).exit_code == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.lengths], ids=name_of)
def test_packed_sequences(case: Case) -> None:
    spec = Spec(kind=case.kind, input_size=3, hidden_size=4, num_layers=2, lengths=(5, 2, 4))
    assert judged(case, case.name, spec).exit_code == 0


OTHER_SIZES: dict[str, dict[str, Any]] = {
    "items as steps": {"seq_len": 3, "batch_size": 3},
    "one item": {"batch_size": 1},
    "one step": {"seq_len": 1},
}


@pytest.mark.parametrize("sizes", OTHER_SIZES.values(), ids=OTHER_SIZES)
@pytest.mark.parametrize("case", [case for case in CASES if not case.asked.lengths], ids=name_of)
@pytest.mark.slow
def test_a_right_class_is_the_same_on_sizes_that_are_alike(case: Case, sizes: dict[str, Any]) -> None:
    assert judged(case, case.name, replace(case.asked, **sizes)).exit_code == 0


SQUARE = (
    "RawElman",
    "RowBiases",
    "ColumnWise",
    "RawLstm",
    "LettersLstm",
    "TorchsLetters",
    "RawGru",
    "RawGruN",
    "RawGruC",
)
"""Classes whose matrices are square where there are as many features as units, and may be taken for turned ones."""


@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.slow
def test_as_many_features_as_units_mislead_no_one(case: Case) -> None:
    spec = replace(case.asked, input_size=4)
    asks = pytest.raises(RnnscopeError, match="its name and shape do not tell")
    with asks if case.name in SQUARE else nullcontext():
        assert judged(case, case.name, spec).exit_code == 0


def is_found(case: Case, fault: str) -> None:
    found = judged(case, networks.twin_name(case.name, fault), case.asked)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert found.exit_code == 1
    names = [each.convention for each in found.explanations]
    assert names == [] if fault in UNKNOWN else fault in names


@pytest.mark.parametrize(("case", "fault"), FIRST, ids=[networks.twin_name(case.name, fault) for case, fault in FIRST])
def test_a_planted_fault_is_found(case: Case, fault: str) -> None:
    is_found(case, fault)


@pytest.mark.parametrize(("case", "fault"), TWINS, ids=[networks.twin_name(case.name, fault) for case, fault in TWINS])
@pytest.mark.slow
def test_every_planted_fault_is_found(case: Case, fault: str) -> None:
    is_found(case, fault)


NETWORK = ("--kind", "lstm", "--input-size", "3", "--hidden-size", "4", "--layers", "1")


def test_a_page_and_a_document_say_what_was_taken(cli: Cli) -> None:
    words = ("compare", *NETWORK, "--right", f"{FILE}:PairCell")
    answer = cli(*words, "--json")
    assert answer.code == 0
    sentences = json.loads(answer.out)["adaptations"]["right"]
    assert sentences[0] == "its forward takes one step: it is called for each step in turn"
    assert "x2h.weight is weight_ih_l0" in "; ".join(sentences)
    assert "its forward takes one step" in " ".join(cli(*words).out.split())


def test_a_command_line_finds_a_fault(cli: Cli) -> None:
    answer = cli("compare", *NETWORK, "--right", f"{FILE}:PairCell_gates_i_f_o_g", "--json")
    assert answer.code == 1
    assert [each["convention"] for each in json.loads(answer.out)["explanations"]] == ["gates i f o g"]
