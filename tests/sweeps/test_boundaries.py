"""Sizes around which kernels fail: what is added, what is left out, and that faults are found exactly."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_stand_ins import FAULTS, ONES, with_fault
from support import Cli

import rnnscope
from rnnscope import RnnscopeError, Spec
from rnnscope.network.costs import macs
from rnnscope.spec.shrinking import shrink, simpler_specs
from rnnscope.sweeps import boundaries, sweep
from rnnscope.sweeps.boundaries import MOST_WORK, SIZES, WORK_OF_STEP, LeftOut, boundaries_of
from rnnscope.sweeps.plan import Configuration, check_flags, plan_of, read_rerun, sweep_line
from rnnscope.sweeps.result import Sweep
from rnnscope.sweeps.workers import Ranks

SHORT = [each for each in SIZES if each < 1000]

LONG = [each for each in SIZES if each > 1000]

TINY: dict[str, Any] = {"num_layers": 2, "input_size": 1, "hidden_size": 2}
"""So small that the largest batches are compared; not so many steps, which take longer."""


def added_to(**values: Any) -> tuple[list[dict[str, Any]], tuple[LeftOut, ...]]:
    """What is said of each boundary besides what is said anyway, and what is left out."""
    plan = [Configuration(values)]
    added, left_out = boundaries_of(plan)
    of = plan[0].values
    differs = [{k: v for k, v in each.configuration.written.items() if of.get(k) != v} for each in added]
    return differs, left_out


def sizes_of(name: str, added: list[dict[str, Any]]) -> list[int]:
    return [each[name] for each in added if name in each]


def test_each_size_is_added_by_itself() -> None:
    added, _ = added_to(**TINY, seq_len=3, batch_size=5)
    assert sizes_of("seq_len", added) == SHORT
    assert sizes_of("hidden_size", added) == [each for each in SHORT if each != 2]
    assert sizes_of("batch_size", added) == [*SIZES, 21_845, 21_846]
    assert {len(each) for each in added} == {1}


def test_the_product_is_just_not_over_and_just_over() -> None:
    added, _ = added_to(**TINY, seq_len=7)
    below, above = sizes_of("batch_size", added)[-2:]
    assert 7 * below <= 65_536 < 7 * above
    assert above == below + 1


def test_what_is_asked_for_anyway_is_not_added_again() -> None:
    plan = plan_of({"hidden_size": (31, 32), "threads": (1,)})
    found = [*plan, *(each.configuration for each in boundaries_of(plan)[0])]
    assert len(found) == len(set(found))
    assert len({each.rerun for each in found}) == len(found)


def test_every_configuration_of_the_lists_has_its_own() -> None:
    both, _ = boundaries_of(plan_of({"kind": ("rnn", "gru")}))
    one, _ = boundaries_of(plan_of({"kind": ("gru",)}))
    assert {each.configuration for each in one} < {each.configuration for each in both}
    assert len(both) == 2 * len(one)


def test_one_sequence_has_no_batch() -> None:
    added, _ = added_to(**TINY, unbatched=True)
    assert set(sizes_of("batch_size", added)) == {1}  # which follows
    assert sizes_of("seq_len", added) == SHORT


def test_lengths_have_so_many_items_or_so_many_steps() -> None:
    added, left_out = added_to(**TINY, lengths=(4, 2, 1))
    lengths = [each["lengths"] for each in added if "lengths" in each]
    assert [max(each) for each in lengths[: len(SHORT)]] == SHORT
    assert {len(each) for each in lengths[: len(SHORT)]} == {3}
    assert [len(each) for each in lengths[len(SHORT) :]] == SHORT
    assert ("--batch", "--lengths would have over 1,000 items") in [(each.flag, each.reason) for each in left_out]


def test_a_step_of_lengths_is_as_ragged_as_before() -> None:
    added, _ = added_to(lengths=(4, 2, 4, 1))
    assert {"lengths": (31, 2, 31, 1)}.items() <= next(each for each in added if 31 in each.get("lengths", ())).items()


def test_what_contradicts_itself_has_none() -> None:
    assert added_to(kind="gru", proj_size=4) == ([], ())
    assert added_to(kind="lstm", proj_size=4) == ([], ())  # with cells
    assert min(sizes_of("hidden_size", added_to(kind="lstm", proj_size=4, right="equations")[0])) == 31


@pytest.mark.parametrize("values", [{"inputs": "run.pt"}, {"left": "recorded:run.pt"}, {"right": "recorded:run.pt"}])
def test_what_a_file_says_stays(values: dict[str, str]) -> None:
    assert added_to(**values) == ([], ())


def test_a_network_out_of_a_file_keeps_its_size() -> None:
    added, left_out = added_to(weights="model.pt")
    assert sizes_of("hidden_size", added) == []
    assert sizes_of("batch_size", added) == sizes_of("seq_len", added) == SHORT
    assert [each.flag for each in left_out] == ["--seq-len", "--batch"]


@pytest.mark.parametrize("grad", [False, True])
def test_what_would_take_too_long_is_left_out(grad: bool) -> None:
    _, left_out = added_to(kind="lstm", num_layers=3, grad=grad)
    told = {each.flag: each for each in left_out}
    assert told["--hidden-size"] == LeftOut("--hidden-size", tuple(LONG), 3, "comparing one would take too long")
    assert ("--batch" in told) is grad
    spec = Spec(kind="lstm", num_layers=3, seq_len=65_535)
    assert macs(spec) + WORK_OF_STEP * 65_535 * 3 > MOST_WORK


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "MOST_CONFIGURATIONS", 50)
    boundaries_of(plan_of({}))
    with pytest.raises(RnnscopeError, match="--at-boundaries makes more than 50 configurations"):
        boundaries_of(plan_of({"kind": ("rnn", "gru")}))


def test_it_is_in_the_command_line_of_the_sweep() -> None:
    line = sweep_line({"kind": ("gru",)}, 3, None, at_boundaries=True)
    assert line == "rnnscope sweep --kind gru --random 3 --at-boundaries"


def test_nothing_is_added_to_a_report() -> None:
    with pytest.raises(RnnscopeError, match="--report runs nothing, and --at-boundaries is given"):
        check_flags({}, None, None, None, False, "sweep.jsonl", at_boundaries=True)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes, so that a sweep is short."""
    monkeypatch.setattr(boundaries, "SIZES", (2, 65_536))
    monkeypatch.setattr(boundaries, "PRODUCT", 20)


FEW = ["sweep", "--input-size", "1", "--hidden-size", "3", "--at-boundaries"]
"""A sweep with L and H of 2, N of 2, 65,536, 6 and 7; L and H of 65,536 are left out."""


@pytest.mark.usefixtures("few")
def test_the_page_tells_what_was_left_out(cli: Cli) -> None:
    answer = cli(*FEW)
    page = " ".join(answer.out.split())
    assert answer.code == 0
    assert "7 configurations" in page
    assert "Not at: --hidden-size 65536 (1 configuration), since comparing one would take too long." in page
    assert page.endswith("Rerun: rnnscope sweep --input-size 1 --hidden-size 3 --at-boundaries")


@pytest.mark.usefixtures("few")
def test_programs_get_what_was_left_out(cli: Cli) -> None:
    left_out = json.loads(cli(*FEW, "--json").out)["left_out"]
    reason = "comparing one would take too long"
    assert left_out[-1] == {"flag": "--hidden-size", "sizes": [65_536], "count": 1, "reason": reason}


@pytest.mark.usefixtures("few")
def test_what_memory_has_no_room_for_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr(sweep, "free_bytes", lambda: 300 * 2**20)
    page = " ".join(cli(*FEW).out.split())
    assert "Not at: --batch 65536 (1 configuration), since there is too little memory for one." in page
    assert "6 configurations" in page


@pytest.mark.usefixtures("few")
def test_it_goes_on_where_it_was(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "sweep.jsonl"
    assert cli(*FEW[:-1], "--out", str(out), "-q").code == 0
    assert cli(*FEW, "--out", str(out), "--resume", "-q").code == 0
    assert len(out.read_text().splitlines()) == 7
    assert "7 configurations" in cli("sweep", "--report", str(out)).out


@pytest.mark.usefixtures("few")
def test_drawn_ones_and_lines_have_theirs(cli: Cli, tmp_path: Path) -> None:
    drawn = json.loads(cli("sweep", "--hidden-size", "2", "--random", "2", "--at-boundaries", "--json").out)
    assert {each["rerun"].count("--seed 1") for each in drawn["configurations"]} == {0, 1}
    lines = tmp_path / "lines"
    lines.write_text('{"hidden_size": 3, "input_size": 1}\n')
    assert "7 configurations" in cli("sweep", "--configs", str(lines), "--at-boundaries").out


# Faults of devices, and their smallest Specs.


def smallest_of(found: Sweep | None) -> Spec:
    assert found is not None
    assert found.smallest is not None
    values = dict(read_rerun(found.smallest))
    return Spec(**{name: value for name, value in values.items() if name not in ("left", "right", "grad", "threads")})


@pytest.mark.parametrize("name", ["a large batch", "a large product", "many units"])
def test_a_sweep_finds_a_fault_at_a_boundary(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From sizes at which nothing is wrong, down to the first at which something is."""
    with_fault(monkeypatch, "xpu", name)
    asked = {**{key: (value,) for key, value in TINY.items()}, "right": ("module@xpu",)}
    assert rnnscope.sweep(asked).exit_code == 0  # type: ignore[union-attr]
    found = rnnscope.sweep(asked, at_boundaries=True)
    assert found is not None
    assert found.verdict == "different"
    assert smallest_of(found) == Spec(**ONES | FAULTS[name].smallest)


SMALLER = [each for each, fault in FAULTS.items() if each not in ("a large product", "the first call")]


@pytest.mark.parametrize("kind", ["mps", "xpu"])
@pytest.mark.parametrize("name", SMALLER)
def test_a_fault_comes_down_to_its_smallest_spec(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    with_fault(monkeypatch, kind, name)
    fault = FAULTS[name]
    asked = {"kind": "lstm", "input_size": 3, "hidden_size": 4, "right": f"module@{kind}", "grad": fault.grad}
    found = rnnscope.sweep({key: (value,) for key, value in (asked | fault.flags).items()})
    assert smallest_of(found) == Spec(**{"kind": "lstm"} | ONES | fault.smallest)


PRODUCTS: dict[str, Callable[[Spec], bool]] = {
    "steps times items": lambda spec: spec.seq_len * spec.batch_size > 65_536,
    "with two steps at least": lambda spec: spec.seq_len >= 2 and spec.seq_len * spec.batch_size > 65_536,
    "with so many items": lambda spec: spec.batch_size > 110 and spec.seq_len >= 2,
}

EXACT: dict[str, dict[str, Any]] = {
    "steps times items": {"batch_size": 65_537},
    "with two steps at least": {"seq_len": 2, "batch_size": 32_769},
    "with so many items": {"seq_len": 2, "batch_size": 111},
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("start", [{"seq_len": 3, "batch_size": 21_846}, {"seq_len": 257, "batch_size": 300}])
def test_a_product_is_shrunk_as_a_whole(name: str, start: dict[str, Any]) -> None:
    large, ones = Spec(kind="lstm", hidden_size=20, **start), Spec(kind="lstm", **ONES)
    assert shrink(large, PRODUCTS[name]) == replace(ones, **EXACT[name])


def test_nothing_is_traded_without_end() -> None:
    asked: list[Spec] = []

    def holds(spec: Spec) -> bool:
        asked.append(spec)
        return spec.seq_len * spec.batch_size * spec.hidden_size > 1000

    found = shrink(Spec(seq_len=9, batch_size=30, hidden_size=20), holds)
    assert not any(map(holds, simpler_specs(found)))
    assert len(asked) < 1000


@pytest.mark.usefixtures("few")
def test_every_process_has_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though one of them alone knows what memory has room for."""
    import torch.distributed

    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr("torch.distributed.rendezvous", lambda url: iter([(store, 0, 1)]))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(sweep, "free_bytes", lambda: 300 * 2**20)
    told: list[str] = []
    monkeypatch.setattr(Ranks, "send", lambda _, name, text: told.append(text))
    found = rnnscope.sweep({"input_size": (1,), "hidden_size": (3,)}, at_boundaries=True)
    assert found is not None
    numbers = json.loads(told[0])
    assert len(numbers) == len(found.findings) == 6
    assert max(numbers) == 6
