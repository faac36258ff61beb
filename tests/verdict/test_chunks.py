"""A long sequence in chunks: numbers and figures of the whole one, for any chunk, in memory that does not grow."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import OWN, Answer, Cli, peak

from rnnscope import Comparison, RnnscopeError, Spec, StackedCells, compare
from rnnscope.network.costs import Work, needed_bytes
from rnnscope.network.shapes import BLOCK
from rnnscope.network.weights import Input, Weights, draw_input, time_of
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import SUBJECTS, Run, run_cells
from rnnscope.subjects.devices import running
from rnnscope.verdict import chunks
from rnnscope.verdict.chunks import carried, cut, draw_in_chunks
from rnnscope.verdict.deviations import DEVIATIONS
from rnnscope.verdict.problem import draw_problem, solve

Patch = pytest.MonkeyPatch

DTYPES = ("float32", "float64", "bfloat16", "float16")
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
FORMS = [
    Spec(kind=kind, seq_len=23, **form)
    for kind in ("rnn", "lstm", "gru")
    for form in (
        {"num_layers": 1},
        {"num_layers": 3, "hidden_size": 7},
        {"batch_first": True},
        {"unbatched": True, "h0": "zeros"},
    )
]
CHUNKS = (1, 2, 3, 7, 22, 23, 28)
EVERY_DTYPE = [("float32", chunk) for chunk in CHUNKS] + [(dtype, 7) for dtype in DTYPES[1:]]


def name_of(value: object) -> str:
    if not isinstance(value, Spec):
        return str(value)
    return f"{value.kind}-{value.num_layers}{'-batch_first' * value.batch_first}{'-unbatched' * value.unbatched}"


def figures(spec: Spec, left: str = "cells", right: str = "equations", **question: Any) -> Comparison:
    """A comparison without the reference, in which only the figures and what follows from them are left."""
    found = compare(spec, left, right, reference=False, **question)
    return replace(found, question=replace(found.question, chunk=None))


# What goes in.


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_chunks_are_the_blocks_cut_anew(sizes: list[int], chunk: int, batch_first: bool) -> None:
    time, whole = int(batch_first), torch.arange(sum(sizes) * 6.0).view(-1, 3, 2)
    whole = whole.transpose(0, 1).contiguous() if batch_first else whole
    found = list(cut(torch.split(whole, sizes, time), time, chunk))
    assert torch.equal(torch.cat(found, time), whole)
    assert {each.shape[time] for each in found[:-1]} <= {chunk}
    assert 1 <= found[-1].shape[time] <= chunk


@pytest.mark.parametrize("chunk", [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 599, 600, 10_000])
@pytest.mark.parametrize("form", [{}, {"batch_first": True}, {"unbatched": True}], ids=str)
def test_every_chunk_size_sees_the_same_numbers(form: dict[str, Any], chunk: int) -> None:
    spec = Spec(kind="lstm", seq_len=600, **form)
    for dtypes in (("float32", "bfloat16"), ("float64", "float64")):
        whole = draw_problem(spec, dtypes)
        problem, xs = draw_in_chunks(spec, dtypes, chunk)
        x = torch.cat(list(xs), time_of(spec))
        assert x.dtype == whole.given.x.dtype == getattr(torch, dtypes[1])
        assert torch.equal(x, whole.given.x)
        assert all(map(torch.equal, problem.given.state, whole.given.state))
        assert all(torch.equal(each, whole.weights[name]) for name, each in problem.weights.items())


@pytest.mark.parametrize("length", [3, BLOCK, BLOCK + 1, 1000])
def test_blocks_are_drawn_as_one_x_would_be(length: int) -> None:
    spec = Spec(seq_len=length, seed=3, dtype="float64")
    generator = torch.Generator().manual_seed(13)
    torch.empty(2, 5, 20, dtype=torch.float64).normal_(generator=generator)  # the state comes first
    x = torch.empty(length, 5, 10, dtype=torch.float64).normal_(generator=generator)
    assert torch.equal(draw_input(spec).x, x)


# Chunked equals whole.


@pytest.mark.parametrize(("dtype", "chunk"), EVERY_DTYPE)
@pytest.mark.parametrize("spec", FORMS, ids=name_of)
def test_cells_and_equations_in_chunks_give_the_very_figures(spec: Spec, chunk: int, dtype: str) -> None:
    each = replace(spec, dtype=dtype)
    assert figures(each, chunk=chunk) == figures(each)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("spec", FORMS, ids=name_of)
def test_what_differs_in_chunks_differs_by_the_very_figures(spec: Spec, chunk: int, monkeypatch: Patch) -> None:
    deviation = next(each for each in DEVIATIONS if each.name == "W_hh transposed")
    monkeypatch.setitem(SUBJECTS, "equations", deviation.run)
    whole = figures(spec)
    assert whole.outputs[0].mismatched
    assert figures(spec, chunk=chunk) == whole


@pytest.mark.parametrize(("dtype", "chunk"), EVERY_DTYPE)
@pytest.mark.parametrize("spec", FORMS, ids=name_of)
def test_every_subject_in_chunks_gives_the_whole(spec: Spec, chunk: int, dtype: str) -> None:
    problem = draw_problem(spec, (dtype,))
    for name in ("module", "cells", "equations", "items"):
        with running(replace(spec, dtype=dtype)) as placed:
            whole = solve(SUBJECTS[name], placed, problem)
            found = solve(carried(SUBJECTS[name], name, chunk), placed, problem)
        for output, each in whole.items():
            # torch's module multiplies all steps of x at once, and rounds products by how many they are.
            far = (found[output].double() - each.double()).abs().max().item()
            assert far <= (8 * UNITS[dtype] if name in ("module", "items") else 0.0)


@pytest.mark.parametrize("chunk", [100, BLOCK, 300])
@pytest.mark.parametrize("form", [{}, {"unbatched": True}, {"kind": "gru", "batch_size": 1}], ids=str)
def test_chunks_of_many_blocks_give_the_very_figures(form: dict[str, Any], chunk: int) -> None:
    spec = Spec(seq_len=600, **form)
    assert figures(spec, chunk=chunk) == figures(spec)


def test_where_rows_stand_elsewhere_in_memory_chunks_differ_by_rounding() -> None:
    whole, found = figures(Spec(seq_len=600, batch_first=True)), figures(Spec(seq_len=600, batch_first=True), chunk=100)
    for one, other in zip(whole.outputs, found.outputs, strict=True):
        assert one.max_abs == pytest.approx(other.max_abs, abs=8 * UNITS["float32"])


@pytest.mark.parametrize("question", [{}, {"rtol": 1e-6, "atol": 1e-6}], ids=str)
def test_the_verdict_by_the_reference_is_that_of_the_whole(question: dict[str, Any]) -> None:
    for kind in ("rnn", "lstm"):
        spec = Spec(kind=kind, seq_len=30)
        whole, found = compare(spec, **question), compare(spec, chunk=7, **question)
        assert (found.verdict, found.cause, found.exit_code) == (whole.verdict, whole.cause, whole.exit_code)
        assert found.reference


# What differs is found as in the whole.


def wrong_at(step: int, value: float) -> subjects.Subject:
    """Cells whose state is wrong after a step of the whole sequence, which each chunk begins anew."""
    walked = 0

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        nonlocal walked
        found, at = run_cells(spec, weights, given), step - walked
        walked += spec.seq_len
        if 0 <= at < spec.seq_len:
            found.y[at, 2, 5] = value
        return found

    return run


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_a_difference_is_found_at_its_place_in_the_whole(monkeypatch: Patch, chunk: int) -> None:
    monkeypatch.setitem(SUBJECTS, "cells", wrong_at(33, 5.0))
    found = compare(Spec(seq_len=40), reference=False, chunk=chunk)
    assert (found.verdict, found.cause, found.exit_code) == ("different", None, 1)
    assert (found.outputs[0].worst_index, found.outputs[0].mismatched) == ((33, 2, 5), 1)
    assert found.outputs[0].shape == found.outputs[0].right_shape == (40, 5, 20)


GROWING = """
import torch
from torch import nn

class Grows(nn.RNN):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        for step in range(len(y)):
            if x[step, 1, 0] == {at}:
                y[step, 1, 3] = torch.inf
        return y, h
"""


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_infinity_is_found_at_its_place_in_the_whole(tmp_path: Path, chunk: int) -> None:
    spec = Spec(seq_len=40, num_layers=1)
    at = draw_problem(spec, ("float32",)).given.x[33, 1, 0].item()
    (tmp_path / "own.py").write_text(GROWING.format(at=at))
    right = f"{tmp_path / 'own.py'}:Grows"
    whole = compare(spec, right=right, reference=False)
    found = compare(spec, right=right, reference=False, chunk=chunk)
    assert (found.verdict, found.cause, found.nonfinite) == ("different", "nonfinite", ("right",))
    assert found.first_divergence == whole.first_divergence
    assert found.first_divergence
    assert found.first_divergence.step == 33


def test_a_class_of_the_users_is_carried_on() -> None:
    spec = Spec(kind="lstm", seq_len=23, h0="zeros")
    found, whole = figures(spec, right=f"{OWN}:Lstm", chunk=7), figures(spec, right=f"{OWN}:Lstm")
    for one, other in zip(found.outputs, whole.outputs, strict=True):  # its rows stand elsewhere in memory
        assert one.max_abs == pytest.approx(other.max_abs, abs=8 * UNITS["float32"])
    assert compare(spec, right=f"{OWN}:Iofg", chunk=7).explanations[0].convention == "gates i f o g"


IGNORES = """
from torch import nn
class Ignores(nn.RNN):
    def forward(self, x, hx=None):
        return super().forward(x)
"""


@pytest.mark.parametrize("question", [{}, {"reference": False}], ids=["reference", "figures"])
def test_a_class_that_ignores_its_state_has_nothing_to_carry(tmp_path: Path, question: dict[str, Any]) -> None:
    (tmp_path / "own.py").write_text(IGNORES)
    with pytest.raises(RnnscopeError, match=r"own.py:Ignores: its output does not depend on hx, by which --chunk"):
        compare(Spec(h0="zeros", seq_len=20), right=f"{tmp_path / 'own.py'}:Ignores", chunk=7, **question)


def test_what_a_class_keeps_by_itself_is_a_blind_spot_in_chunks() -> None:
    found = compare(Spec(kind="lstm", seq_len=20), right=f"{OWN}:Lstm", chunk=7)
    assert any("may keep from step to step besides hx starts anew" in each.sentence for each in found.blind_spots)
    whole = compare(Spec(kind="lstm", seq_len=20), right=f"{OWN}:Lstm", chunk=20)
    assert not any("starts anew" in each.sentence for each in whole.blind_spots)


def test_two_modules_are_compared_in_chunks() -> None:
    torch.manual_seed(0)
    lstm, x = torch.nn.LSTM(4, 6), torch.randn(50, 3, 4)
    found = compare(lstm, StackedCells.from_module(lstm), x, chunk=8, reference=False)
    assert (found.exit_code, found.question.chunk, found.outputs[0].shape) == (0, 8, (50, 3, 6))
    both = torch.nn.LSTM(4, 6, bidirectional=True)
    with pytest.raises(RnnscopeError, match="--chunk 8 carries the state on from chunk to chunk, and --bidirectional"):
        compare(both, StackedCells.from_module(both), x, chunk=8)


# Beside a whole run, without chunks.


@pytest.mark.parametrize("spec", FORMS, ids=name_of)
@pytest.mark.parametrize("sides", [("module", "cells"), ("equations", "module"), ("cells", "equations")], ids="-".join)
def test_a_side_walked_beside_the_other_gives_the_figures_of_whole_runs(
    spec: Spec, sides: tuple[str, str], monkeypatch: Patch
) -> None:
    monkeypatch.setattr(chunks, "PIECE", 1)  # pieces of 16 steps
    pairs = [(dtype, dtype) for dtype in DTYPES] + [("float32", "bfloat16"), ("float64", "float32")]
    for one, other in pairs:
        left, right = f"{sides[0]}@cpu/{one}", f"{sides[1]}@cpu/{other}"
        found = compare(spec, left, right, reference=False)
        with monkeypatch.context() as patch:
            patch.setattr(chunks, "beside_a_whole_run", lambda *_: None)
            assert found == compare(spec, left, right, reference=False)


def test_the_second_y_is_never_whole(monkeypatch: Patch) -> None:
    lengths: list[int] = []

    def noting(spec: Spec, weights: Weights, given: Input) -> Run:
        lengths.append(spec.seq_len)
        return run_cells(spec, weights, given)

    monkeypatch.setitem(SUBJECTS, "cells", noting)
    compare(Spec(seq_len=5000, batch_size=20), reference=False)
    assert max(lengths) < 1000
    assert sum(lengths) == 5000


def test_another_shape_is_told_of_whole_runs(monkeypatch: Patch) -> None:
    monkeypatch.setattr(chunks, "PIECE", 1)
    monkeypatch.setitem(SUBJECTS, "cells", lambda *args: other_shape(run_cells(*args)))
    found = compare(Spec(seq_len=40), reference=False)
    assert (found.cause, found.outputs[0].right_shape) == ("shape", (5, 40, 20))


def other_shape(run: Run) -> Run:
    return replace(run, y=run.y.transpose(0, 1))


# What is asked, and what is refused.


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--chunk 0", "--chunk is 0, but it must be a whole number of at least 1; try --chunk 1000"),
        ("--chunk many", "--chunk is 'many', but it must be a whole number of at least 1; try --chunk 1000"),
        (
            "--chunk 5 --bidirectional",
            "--chunk 5 carries the state on from chunk to chunk, and --bidirectional walks from the last step back, "
            "too; give one of the two",
        ),
        (
            "--chunk 5 --lengths 3,2",
            "--chunk 5 carries the state on from chunk to chunk, and --lengths lets each item end at a step of its "
            "own; give one of the two",
        ),
        (
            "--chunk 5 --grad",
            "--chunk 5 carries the state from chunk to chunk, and --grad goes back through all steps at once; "
            "give one of the two",
        ),
        (
            "--chunk 5 --resync",
            "--chunk 5 carries the state from chunk to chunk, and --resync takes every step by itself and carries "
            "nothing on; give one of the two",
        ),
        (
            "--chunk 5 --power",
            "--chunk 5 carries the state from chunk to chunk, and --power runs every deviation over the whole "
            "sequence; give one of the two",
        ),
        (
            "--chunk 5 --map",
            "--chunk 5 carries the state from chunk to chunk, and --map keeps every step of every layer; "
            "give one of the two",
        ),
        (
            "--chunk 5 --record run.pt",
            "--record run.pt keeps a whole run, and --chunk 5 makes none; give one of the two",
        ),
        (
            f"--chunk 5 --h0 zeros --right {OWN}:NoState",
            f"{OWN}:NoState: its forward takes no hx, by which --chunk 5 carries the state on; name an argument hx, "
            "or leave --chunk out",
        ),
        (
            f"--chunk 2 --kind lstm --layers 1 --no-reference --right {OWN}:Transposed",
            f"{OWN}:Transposed gives y of shape (5, 2, 20) for a chunk of 2 steps, and (2, 5, 20) can be carried on; "
            "leave --chunk out to see how it differs",
        ),
    ],
)
def test_chunks_are_refused_where_no_state_can_be_carried(cli: Cli, typed: str, sentence: str) -> None:
    assert cli("compare", *typed.split()) == Answer(2, "", f"rnnscope: {sentence}\n")


def test_a_recorded_run_is_not_run_again(cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run.pt"
    assert cli("compare", "--record", str(run), "-q").code == 0
    assert cli("compare", "--right", f"recorded:{run}", "--chunk", "2").err == (
        f"rnnscope: recorded:{run} cannot be run again, as --chunk would need; leave it out\n"
    )
    # An input from a file is cut into chunks.
    assert cli("compare", "--inputs", str(run), "--chunk", "2", "--no-reference", "-q").code == 0


def test_what_is_told_of_chunks(cli: Cli) -> None:
    line = "rnnscope compare --seq-len 10 --threads 1 --no-reference --chunk 4"
    found = json.loads(cli(*line.split()[1:], "--json").out)
    assert (found["chunk"], found["rerun"], found["reference"]) == (4, line, None)
    assert json.loads(cli("compare", "--json").out)["chunk"] is None
    page = " ".join(cli(*line.split()[1:]).out.split())
    assert "In chunks: 2 chunks of 4 steps and one of 2 steps, each from the state after the one before." in page
    assert f"Rerun: {line}" in page
    assert "In chunks" not in cli("compare", "--chunk", "4").out  # there is one


def test_the_state_of_torch_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    compare(Spec(seq_len=9, threads=1), chunk=4, reference=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, True)


# Memory.


def test_a_billion_steps_in_chunks_are_not_refused() -> None:
    spec = Spec(seq_len=10**9, batch_size=1)
    assert needed_bytes(spec, Work(reference=False, chunk=1000)) < 600 * 2**20
    assert needed_bytes(spec, Work(reference=False)) > 10**12


def test_memory_does_not_grow_with_the_length() -> None:
    sizes = "compare -q --batch 1 --input-size 64 --hidden-size 8 --layers 1 --chunk 500 --no-reference --seq-len"
    # 45,000 steps more: 11 MiB of x, and 45 MiB of small tensors, were they all there at a time.
    assert peak(f"{sizes} 50000") - peak(f"{sizes} 5000") < 20


def test_a_chunk_more_takes_no_weights_more() -> None:
    sizes = "compare -q --kind lstm --batch 1 --input-size 256 --hidden-size 256 --layers 1 --chunk 1 --seq-len"
    # 40 chunks more, of which each runs with weights of 2 MiB, or 4 MiB in float64.
    assert peak(f"{sizes} 50") - peak(f"{sizes} 10") < 100


@pytest.mark.slow
def test_a_million_steps_take_less_than_100_mib_over_torch() -> None:
    assert peak("compare -q --seq-len 1000000 --batch 1 --chunk 1000 --no-reference") - peak("") < 100


def test_a_bar_tells_how_far_the_steps_are(monkeypatch: Patch) -> None:
    told: list[int] = []

    @contextmanager
    def noted(total: int, unit: str) -> Iterator[Callable[[int], None]]:
        assert (total, unit) == (23, "steps")
        yield told.append

    monkeypatch.setattr(chunks, "progress", noted)
    compare(Spec(seq_len=23), chunk=7, reference=False)
    assert told == [7, 7, 7, 2]
    monkeypatch.setattr(chunks, "progress", noted)
    compare(Spec(seq_len=23), chunk=7)
    assert len(told) % 4 == 0
    assert sum(told) == 23 * (len(told) // 4)
