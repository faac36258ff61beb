"""The smallest Spec of which something still holds: of every named deviation, worked out by hand, and nothing below."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from support import Cli

from rnnscope import RnnscopeError, Spec
from rnnscope.network.weights import Input, Weights
from rnnscope.spec.shrinking import shrink, simpler_specs
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run
from rnnscope.sweeps.plan import Configuration, read_rerun
from rnnscope.sweeps.sweep import row_of
from rnnscope.verdict.deviations import DEVIATIONS, Deviation

SIZES = ("num_layers", "hidden_size", "input_size", "seq_len", "batch_size")

ONES = Spec(num_layers=1, hidden_size=1, input_size=1, seq_len=1, batch_size=1)

BOTH_WAYS = replace(ONES, bidirectional=True)

KNOWN = {
    "W_hh transposed": replace(ONES, hidden_size=2),  # a transpose shows from 2 x 2 on
    "layers in reverse order": replace(ONES, num_layers=2),
    "layer fed by the previous step": replace(ONES, num_layers=2),
    "projection left out": replace(ONES, kind="lstm", hidden_size=2, proj_size=1),
    "backward outputs not flipped back": replace(BOTH_WAYS, seq_len=2),
    "backward direction fed forward": replace(BOTH_WAYS, seq_len=2),
    "directions swapped in y": BOTH_WAYS,
    "directions swapped in h": BOTH_WAYS,
    "directions swapped in y and h": BOTH_WAYS,
    "h ordered direction-major": replace(BOTH_WAYS, num_layers=2),
    "batch and time swapped": replace(ONES, seq_len=2, batch_size=2),
    "lengths ignored": replace(ONES, lengths=(2, 1), seq_len=2, batch_size=2),
    "lengths ignored but in y": replace(ONES, lengths=(2, 1), seq_len=2, batch_size=2),
    "h0 for the first layer alone": replace(ONES, num_layers=2),
    "y of the first layer": replace(ONES, num_layers=2),
    "y of the layer below the top": replace(ONES, num_layers=3),  # with two layers it is the first one
    "items of h in reverse": replace(ONES, batch_size=2),
    "items of h sorted by length": replace(ONES, lengths=(1, 2), seq_len=2, batch_size=2),
}
"""All others show in one unit, one layer, one step of one item."""

LARGE = Spec(num_layers=3, hidden_size=7, input_size=5, seq_len=6, batch_size=6, seed=3, batch_first=True)

SHAPES = (
    LARGE,
    replace(LARGE, bidirectional=True),
    replace(LARGE, kind="lstm", proj_size=3),
    replace(LARGE, lengths=(6, 4, 1, 6, 2, 2)),
)


def starts() -> list[tuple[Deviation, Spec]]:
    """Each deviation of each kind, with a large Spec in which it is another function than torch's."""
    found = []
    for deviation, kind in product(DEVIATIONS, ("rnn", "lstm", "gru")):
        fitting = (spec if spec.proj_size else replace(spec, kind=kind) for spec in SHAPES)
        spec = next((each for each in fitting if each.kind == kind and deviation.applies(each)), None)
        is_torchs = deviation.name == "b_ih and b_hh swapped" and kind != "gru"  # their sum is all that counts
        is_clip = "clipped" in deviation.name  # whether it acts is decided by numbers, not by sizes
        if spec is not None and not is_torchs and not is_clip:
            found.append((deviation, spec))
    return found


def only_where_it_applies(deviation: Deviation) -> subjects.Subject:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        if not deviation.applies(spec):
            raise RnnscopeError("no such network can have it")
        return deviation.run(spec, weights, given)

    return run


def differs(spec: Spec) -> bool:
    return row_of(Configuration(vars(spec) | {"right": "equations"})).get("cause") == "function"


@pytest.mark.parametrize(("deviation", "spec"), starts(), ids=[f"{each.name}: {spec.kind}" for each, spec in starts()])
def test_a_deviation_comes_down_to_its_known_smallest(
    monkeypatch: pytest.MonkeyPatch, deviation: Deviation, spec: Spec
) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", only_where_it_applies(deviation))
    known = replace(KNOWN.get(deviation.name, ONES), kind=spec.kind)
    assert shrink(spec, differs) == known
    sizes = [range(1, getattr(known, name) + 1) for name in SIZES]
    below = [dict(zip(SIZES, each, strict=True)) for each in product(*sizes)][:-1]
    if known.lengths is None:
        assert not any(differs(Spec(**(vars(known) | {"proj_size": 0} | each))) for each in below)


def test_the_known_ones_are_deviations() -> None:
    assert {each.name for each, _ in starts()} >= set(KNOWN)


@pytest.mark.parametrize(
    "holds",
    [
        lambda spec: spec.seq_len == spec.batch_size >= 17 and spec.hidden_size >= 128,
        lambda spec: spec.proj_size >= 2 and spec.num_layers * spec.seq_len >= 6,
        lambda spec: bool(spec.lengths) and sum(spec.lengths) >= 9 and spec.bidirectional,
        lambda spec: spec.unbatched and spec.dtype == "float64" and not spec.bias,
        lambda spec: True,
    ],
    ids=["two alike", "a projection", "lengths", "what is no size", "anything"],
)
def test_nothing_that_is_a_step_simpler_will_do(holds: Callable[[Spec], bool]) -> None:
    large = Spec(kind="lstm", hidden_size=512, proj_size=40, num_layers=4, seq_len=60, batch_size=60, dtype="float64")
    starts = [
        large,
        replace(large, lengths=(60, 9, 3) * 20, bidirectional=True),
        replace(large, unbatched=True, batch_size=1, bias=False),
    ]
    found = shrink(next(each for each in starts if holds(each)), holds)
    assert holds(found)
    assert not any(map(holds, simpler_specs(found)))


def test_a_sweep_tells_the_smallest_command(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """The command shows what the sweep found, on one line to copy."""
    deviation = next(each for each in DEVIATIONS if each.name == "W_hh transposed")
    monkeypatch.setitem(subjects.SUBJECTS, "equations", deviation.run)
    answer = cli("sweep", "--kind", "gru", "--layers", "2,3", "--batch-first", "both", "--right", "cells,equations")
    line = next(each for each in answer.out.splitlines() if each.startswith("Smallest that differs: "))
    command = line.partition(": ")[2]
    assert read_rerun(command) == {
        "kind": "gru",
        "input_size": 1,
        "hidden_size": 2,
        "num_layers": 1,
        "seq_len": 1,
        "batch_size": 1,
        "threads": 1,
        "right": "equations",
    }
    assert cli(*command.split()[1:]).code == 1
