"""Where no deviation explains a class, the relation that it breaks is its reason; and nobody else is told of one."""

import json
from dataclasses import replace
from typing import Any

import networks_breaking_relations as networks
import pytest
import torch
from networks_of_all_forms import CASES, Case
from support import OWN, Cli
from torch import nn

from rnnscope import Comparison, RnnscopeError, Spec, compare
from rnnscope.checks.facts import BROKEN, HOLDS, NOT_APPLICABLE
from rnnscope.spec.options import NO_FILES
from rnnscope.spec.sides import AS_IT_IS, RIGHT, OwnSides
from rnnscope.subjects.devices import running
from rnnscope.verdict import relations
from rnnscope.verdict.evidence import Side
from rnnscope.verdict.facts import Judged
from rnnscope.verdict.making import alike, side_called
from rnnscope.verdict.problem import Problem, draw_problem

pytestmark = pytest.mark.usefixtures("single_deviations")

BREAKING = OWN.with_name("networks_breaking_relations.py")
FORMS = OWN.with_name("networks_of_all_forms.py")

SEVEN = Spec(num_layers=1, seq_len=7)


def judged(name: str, spec: Spec = SEVEN, **options: Any) -> Comparison:
    return compare(spec, right=f"{BREAKING}:{name}", **options)


def told(found: Judged) -> str | None:
    broken = found.reasons.broken_relation
    return broken.relation.relation if broken else None


BROKEN_BY: tuple[tuple[str, Spec, str, str], ...] = (
    ("MeanOverTheBatch", replace(SEVEN, kind="lstm"), "item_isolation", "item 1 changes when item 0 does"),
    ("SoftmaxOverTheBatch", replace(SEVEN, kind="gru"), "item_isolation", "item 1 changes when item 0 does"),
    ("KnowsItsPlace", replace(SEVEN, kind="lstm"), "permutation", "depends on its place in the batch"),
    ("KnowsTheSizeOfTheBatch", SEVEN, "batch_of_one", "alone item 0 gives another result"),
    ("LooksAhead", replace(SEVEN, kind="lstm"), "causality", "it looks 1 step ahead"),
    ("LooksThreeAhead", replace(SEVEN, kind="gru"), "causality", "it looks 3 steps ahead"),
    ("NormalizedOverTime", SEVEN, "causality", "changes when any later x does"),
    ("GivesAnEarlierState", replace(SEVEN, kind="gru"), "last_state", "h is y at step 5"),
    ("GivesAnEarlierOutput", replace(SEVEN, kind="lstm"), "last_state", "y is a step late"),
    ("SquashesTheOutput", replace(SEVEN, kind="gru"), "last_state", "h is not y at the last step"),
    ("ResetsAtStep16", replace(SEVEN, kind="lstm", seq_len=20), "chunked", "from step 16 on"),
    ("DropsThePlacesOfItsSteps", SEVEN, "chunked", "its state lacks something"),
    ("ScalesAllButASingleStep", replace(SEVEN, kind="gru", seq_len=8), "stepwise", "a single step is special to it"),
    ("StartsFromOnes", replace(SEVEN, h0="zeros"), "zero_state", "another result than from zeros from step 0 on"),
    (
        "ReadsThePadding",
        replace(SEVEN, kind="gru", batch_size=3, lengths=(7, 4, 2)),
        "packed",
        "item 2 gives another result than alone in h",
    ),
    ("WritesIntoX", replace(SEVEN, kind="lstm"), "inputs_kept", "it is written into"),
    ("MeanInACell", replace(SEVEN, kind="lstm"), "item_isolation", "item 1 changes when item 0 does"),
    ("Refuses", replace(SEVEN, kind="gru"), "item_isolation", "item 1 changes when item 0 does"),
    ("CannotBeCopied", replace(SEVEN, kind="lstm"), "item_isolation", "item 1 changes when item 0 does"),
    ("LooksAheadBeforeItsHead", replace(SEVEN, kind="lstm"), "causality", "it looks 1 step ahead"),
    (
        "LooksAheadInAnUnbatchedInput",
        replace(SEVEN, kind="gru", batch_size=1, unbatched=True),
        "causality",
        "it looks 1 step ahead",
    ),
)


@pytest.mark.parametrize(("name", "spec", "relation", "words"), BROKEN_BY, ids=[each[0] for each in BROKEN_BY])
def test_a_broken_relation_is_the_reason(name: str, spec: Spec, relation: str, words: str) -> None:
    cell = "cell:" if name == "MeanInACell" else ""
    own: dict[str, Any] = {"right_batch_first": True} if name == "LooksAheadBeforeItsHead" else {}
    found = compare(spec, right=f"{cell}{BREAKING}:{name}", **own)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert found.explanations == ()
    assert told(found) == relation
    broken = found.reasons.broken_relation
    assert broken is not None
    assert broken.side == "right"
    assert words in broken.relation.message
    assert found.more[0] == relation


def test_a_row_of_the_state_that_nothing_depends_on_is_the_reason_instead(cli: Cli) -> None:
    """Then it cannot go on from a state either, which is said of nothing else."""
    spec = Spec(kind="rnn", num_layers=3, seq_len=4)
    found = compare(spec, right=f"{BREAKING}:StartsAllLayersAlike")
    assert [(each.side, each.ignores) for each in found.reasons.dependences] == [("right", ("h0[1]", "h0[2]"))]
    assert told(found) is None
    assert found.more[0] == "function"
    text = " ".join(cli(*f"compare --layers 3 --seq-len 4 --right {BREAKING}:StartsAllLayersAlike".split()).out.split())
    assert "its output does not depend on h0[1], h0[2]." in text


def test_rows_of_the_state_are_not_told_twice() -> None:
    found = compare(Spec(kind="rnn"), right="deviation:h0-for-the-first-layer-alone")
    assert found.explanations
    assert found.reasons.dependences == ()


def test_how_x_lies_in_memory_is_the_reason() -> None:
    """torch's x is (L, N, ...), and a view of it is handed to a class of (N, L, ...)."""
    found = judged("ReadsTheMemory", right_batch_first=True)
    assert told(found) == "layout"


def test_the_left_side_has_a_reason_too() -> None:
    found = compare(replace(SEVEN, kind="lstm"), left=f"{BREAKING}:LooksAhead", right="equations")
    broken = found.reasons.broken_relation
    assert broken is not None
    assert (broken.side, broken.relation.relation) == ("left", "causality")


def test_of_two_modules_with_weights_of_their_own_one_has_a_reason() -> None:
    right = networks.MeanOverTheBatch(4, 8).eval()
    left = nn.LSTM(4, 8)
    left.load_state_dict(right.state_dict())
    hx = (torch.zeros(1, 3, 8), torch.zeros(1, 3, 8))
    assert told(compare(left, right, torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)), hx)) == (
        "item_isolation"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_it_is_asked_in_float64_whatever_the_dtype_of_the_comparison(dtype: str) -> None:
    assert told(judged("LooksAhead", replace(SEVEN, kind="lstm", dtype=dtype))) == "causality"


# The page and the document.


def test_the_page_tells_it_and_sends_people_to_its_page(cli: Cli) -> None:
    words = f"compare --kind lstm --layers 1 --seq-len 7 --right {BREAKING}:LooksAhead".split()
    text = " ".join(cli(*words).out.split())
    assert (
        f"Why: The right side ({BREAKING}:LooksAhead) breaks causality: y at step 0 changes when x at step 1 does"
        in (text)
    )
    assert "no known deviation" not in text
    assert "More: rnnscope explain causality" in text


def test_the_document_has_its_figures(cli: Cli) -> None:
    words = f"compare --kind lstm --layers 1 --seq-len 7 --json --right {BREAKING}:LooksAhead".split()
    found = json.loads(cli(*words).out)["broken_relation"]
    assert list(found) == ["side", "relation", "max_abs", "bound", "place", "message"]
    assert (found["side"], found["relation"]) == ("right", "causality")
    assert found["max_abs"] > 1e6 * found["bound"] > 0
    assert (found["place"]["tensor"], found["place"]["step"]) == ("y", 0)


def test_what_shows_under_stress_alone_has_a_reason_there() -> None:
    found = judged("ResetsAtStep16", replace(SEVEN, kind="lstm"), stress=True)
    assert (found.verdict, found.cause) == ("different", "function")
    assert found.stress is not None
    assert told(found.stress) == "chunked"
    assert found.facts()["stress"]["broken_relation"]["relation"] == "chunked"


# Where none is told.


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("Right", replace(SEVEN, kind="lstm")),
        ("GatesIofgAndWrites", replace(SEVEN, kind="lstm")),
        ("KeepsState", replace(SEVEN, kind="gru")),
        ("AnotherFormula", replace(SEVEN, kind="gru")),
        ("OnlyFiveItems", replace(SEVEN, kind="gru")),
    ],
)
def test_there_is_no_reason_where_nothing_is_broken_or_something_else_explains_it(name: str, spec: Spec) -> None:
    found = judged(name, spec)
    assert found.reasons.broken_relation is None
    assert found.facts()["broken_relation"] is None


def test_a_known_deviation_keeps_its_explanation() -> None:
    found = judged("GatesIofgAndWrites", replace(SEVEN, kind="lstm"))
    assert [each.convention for each in found.explanations] == ["gates i f o g"]


def test_a_class_that_refuses_every_other_call_has_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RnnscopeError("no such call")

    monkeypatch.setattr(relations._AsTorchs, "call", refuse)
    found = judged("LooksAhead", replace(SEVEN, kind="lstm"))
    assert (found.verdict, told(found), found.notes) == ("different", None, ())


def test_where_no_relation_is_broken_the_page_says_that_nothing_explains_it(cli: Cli) -> None:
    words = f"compare --kind gru --layers 1 --right {BREAKING}:AnotherFormula".split()
    assert "Why: no known deviation explains it." in cli(*words).out


def test_a_relation_that_torch_itself_would_break_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a bound were too narrow."""
    asked = relations._asked
    monkeypatch.setattr(
        relations,
        "_asked",
        lambda case, name, question: replace(asked(case, name, question), outcome=BROKEN, max_abs=1.0),
    )
    assert told(judged("AnotherFormula", replace(SEVEN, kind="gru"))) is None


# What it costs.


def test_a_network_is_called_a_hundred_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(kind="gru", input_size=2, hidden_size=3, num_layers=1, seq_len=400, batch_size=70)
    counts = []
    for ask in (relations.broken_relation, lambda problem, side: None):
        monkeypatch.setattr(relations, "broken_relation", ask)
        networks.AnotherFormula.calls = 0
        assert compare(spec, right="networks_breaking_relations:AnotherFormula").verdict == "different"
        counts.append(networks.AnotherFormula.calls)
    assert 20 <= counts[0] - counts[1] <= relations.MOST_CALLS


def test_it_ends_where_calls_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "MOST_CALLS", 6)
    assert told(judged("LooksAhead", replace(SEVEN, kind="lstm"))) is None


def test_of_a_large_network_the_first_steps_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "MOST_IN_A_CALL", 10e6)  # ten steps of a layer
    spec = replace(SEVEN, kind="lstm", seq_len=20)
    assert told(judged("LooksAhead", spec)) == "causality"
    assert told(judged("ResetsAtStep16", spec)) is None


# Right networks keep every relation that is asked.


def asked(side: Side, problem: Problem) -> dict[str, str]:
    with running(replace(side.spec, dtype=side.exact_dtype)) as placed:
        question = relations._Question.of(side, side.own_problem(problem), placed)
        case = question.case(question.of_network(side.network) if side.network else question.of_torch())
        return {name: relations._asked(case, name, question).outcome for name in question.relations(case)}


@pytest.mark.parametrize("case", CASES, ids=lambda each: f"{each.name} {each.spec}")
def test_a_right_network_of_any_form_keeps_all_relations(case: Case) -> None:
    spec = case.asked
    side = side_called(
        "right", RIGHT, f"{FORMS}:{case.name}", spec, None, OwnSides(**case.own).right, AS_IT_IS, NO_FILES
    )
    problem, _, side = alike(draw_problem(spec, ("float32",)), side, side)
    outcomes = asked(side, problem)
    assert set(outcomes.values()) <= {HOLDS, NOT_APPLICABLE}
    assert outcomes["item_isolation"] == HOLDS


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(
    "more",
    [{}, {"h0": "zeros"}, {"bidirectional": True}, {"lengths": (7, 5, 5, 1, 3)}, {"unbatched": True, "batch_size": 1}],
    ids=str,
)
def test_torchs_module_keeps_all_relations(kind: str, more: dict[str, Any]) -> None:
    spec = Spec(kind=kind, seq_len=7, **more)
    side = Side("right", "module", spec, lambda *_: pytest.fail("it is built anew"), "float32")
    outcomes = asked(side, draw_problem(spec, ("float32",)))
    assert set(outcomes.values()) <= {HOLDS, NOT_APPLICABLE}
    assert outcomes["last_state"] == HOLDS
