"""A class written in any combination of forms is found right, and with any fault planted in it, wrong."""

import hashlib
from pathlib import Path

import pytest
from generated_networks import Plan, plans, wrong_plans
from hypothesis import HealthCheck, given, settings

from rnnscope import Comparison, compare

FEW, MANY = 40, 600


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for single deviations alone: for no two at once, and for no coarser arithmetic inside."""
    monkeypatch.setattr("rnnscope.verdict.diagnosis.pairs_are_tried", lambda *_: False)
    monkeypatch.setattr("rnnscope.verdict.inside._with_inside", lambda evidence, side: side)


def judged(plan: Plan, folder: Path) -> Comparison:
    source = plan.source()
    path = folder / f"network_{hashlib.sha256(source.encode()).hexdigest()[:16]}.py"
    path.write_text(source, encoding="utf-8")
    return compare(plan.spec, "module", f"{path}:Network", **plan.own)


def is_right(plan: Plan, folder: Path) -> None:
    assert judged(plan, folder).verdict in ("equivalent", "identical"), plan.source()


def is_found(plan: Plan, folder: Path) -> None:
    found = judged(plan, folder)
    assert (found.verdict, found.exit_code) == ("different", 1), plan.source()
    assert not plan.known or plan.deviation in [each.convention for each in found.explanations], plan.source()


few = settings(max_examples=FEW, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(few, max_examples=MANY)


@few
@given(plan=plans())
def test_a_right_class_in_any_form_is_the_same(plan: Plan, tmp_path: Path, quick: None) -> None:
    is_right(plan, tmp_path)


@few
@given(plan=wrong_plans())
def test_a_fault_is_found_in_any_form(plan: Plan, tmp_path: Path, quick: None) -> None:
    is_found(plan, tmp_path)


@pytest.mark.slow
@many
@given(plan=plans())
def test_a_right_class_in_any_of_many_forms_is_the_same(plan: Plan, tmp_path: Path, quick: None) -> None:
    is_right(plan, tmp_path)


@pytest.mark.slow
@many
@given(plan=wrong_plans())
def test_a_fault_is_found_in_any_of_many_forms(plan: Plan, tmp_path: Path, quick: None) -> None:
    is_found(plan, tmp_path)


@pytest.mark.slow
@few
@given(plan=wrong_plans())
def test_a_fault_is_found_by_the_whole_search(plan: Plan, tmp_path: Path) -> None:
    """A fault is not taken for rounding inside, nor for two deviations."""
    is_found(plan, tmp_path)
