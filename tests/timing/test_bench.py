"""`rnnscope bench`: what follows from figures made by hand, memory counted by hand, and rows that cannot be timed.

No test asserts a time: the machine that runs it may be busy.
"""

import io
import json
import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Answer, Cli
from torch import nn
from torch.utils.benchmark import Measurement
from torch.utils.benchmark.utils.common import TaskSpec

from rnnscope import RnnscopeError, Spec, bench
from rnnscope.network.weights import draw_input, draw_weights
from rnnscope.pages.page import Grid, Sentence
from rnnscope.pages.render import plain, render
from rnnscope.spec.options import BENCH_SUBJECTS as SUBJECT_FLAG
from rnnscope.subjects.adapting import prepare
from rnnscope.subjects.builtin import SUBJECTS, Prepared, tensors_of
from rnnscope.subjects.devices import running
from rnnscope.timing import bench as timing
from rnnscope.timing.bench import EventClock, leaf, peak_bytes, with_backward
from rnnscope.timing.result import MOST_LENGTHS, Bench, Timing, bar, duration

OWN = "tests/own_networks.py"


def row(typed: str, seq_len: int, *milliseconds: float, **facts: Any) -> Timing:
    """A row of one block in each round."""
    rounds = tuple((each / 1000,) for each in milliseconds)
    return Timing(typed, typed.partition("@")[0], "cpu", "float32", seq_len, rounds, len(rounds), **facts)


def made(*timings: Timing, threads: int = 1, **facts: Any) -> Bench:
    """A benchmark by hand."""
    lengths = tuple(sorted({each.seq_len for each in timings}))
    names = tuple(dict.fromkeys(each.typed for each in timings))
    known: dict[str, Any] = {"cpus": 2, "load": 0.0, "back_ends": (("onednn", True),)} | facts
    spec = Spec(seq_len=lengths[0], threads=threads)
    return Bench(
        spec, names, lengths, timings, "module", False, 0.5, device_name="cpu", torch_version="2.13.0", **known
    )


STEADY = (1.0, 1.01, 1.0, 0.99, 1.0)
SLOW = (2.0, 2.02, 2.0, 1.98, 2.0)
NEAR = (1.005, 1.01, 0.995, 1.0, 1.015)
WILD = (0.8, 1.2, 2.5, 1.0, 0.9)
WILD_AND_SLOW = (8.0, 12.0, 25.0, 10.0, 9.0)


def said(found: Bench, label: str) -> str:
    return " ".join(part.text for part in found.page() if isinstance(part, Sentence) and part.label == label)


def test_the_figures_are_those_of_torchs_measurements() -> None:
    task = TaskSpec("pass", "pass")
    rounds = [[3e-3, 1e-3], [2e-3, 9e-3, 4e-3], [5e-3]]
    merged = Measurement.merge(Measurement(1, times, task) for times in rounds)[0]
    found = Timing("cells", "cells", "cpu", "float32", 7, tuple(map(tuple, rounds)))
    assert found.median == pytest.approx(merged.median)
    assert found.iqr == pytest.approx(merged.iqr)
    assert found.noisy is merged.has_warnings


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_quartiles_are_those_of_torch(count: int) -> None:
    values = torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    found = Timing("cells", "cells", "cpu", "float32", 7, (tuple(values.tolist()),))
    for quartile, part in zip(found.quartiles, (0.25, 0.5, 0.75), strict=True):
        assert quartile == pytest.approx(values.quantile(part).item())
    assert (min(found.times), max(found.times)) == (values.quantile(0.0).item(), values.quantile(1.0).item())


def test_steps_and_ratios_are_of_medians() -> None:
    found = made(row("module", 10, *STEADY), row("cells", 10, 4.0, 3.0, 4.0, 5.0, 4.0))
    module, cells = found.timings
    assert module.steps_per_s == pytest.approx(10_000)
    ratio = found.ratio(cells)
    assert ratio is not None
    assert ratio.told == "slower"
    assert ratio.value == pytest.approx(4.0)
    # Round by round: 4 / 1, 3 / 1.01, 4 / 1, 5 / 0.99, 4 / 1.
    assert ratio.least == pytest.approx(3 / 1.01)
    assert ratio.greatest == pytest.approx(5 / 0.99)
    assert found.ratio(module) == replace(ratio, value=1.0, least=1.0, greatest=1.0, told=None, noisy=False)


def test_growth_is_from_the_length_before() -> None:
    found = made(row("module", 10, *STEADY), row("module", 40, *SLOW), row("module", 80, *STEADY))
    first, *growths = [found.growth(each) for each in found.timings]
    assert first is None
    assert [each.steps for each in growths if each] == [4, 2]
    assert [each.times for each in growths if each] == pytest.approx([2, 0.5])
    assert said(found, "Growth") == "from L = 10 to 80, x 8 the steps: module x 1."


NOISE: dict[str, tuple[tuple[Timing, ...], str, str]] = {
    "steady": ((row("module", 3, *STEADY), row("cells", 3, *SLOW)), "steady", "steady: every spread is below 10 %."),
    "too near": (
        (row("module", 3, *STEADY), row("cells", 3, *NEAR)),
        "steady",
        "steady: every spread is below 10 %; as far as it shows, cells is as fast as module.",
    ),
    "noisy and told": (
        (row("module", 3, *STEADY), row("cells", 3, *WILD_AND_SLOW)),
        "noisy",
        "noisy: the spread of cells is 30 %, so that ratios with ~ are rough, but which is faster shows; "
        "leave the machine alone, or raise --min-time.",
    ),
    "noisy and alone": (
        (row("module", 3, *WILD),),
        "noisy",
        "noisy: the spread of module is 30 %; leave the machine alone, or raise --min-time.",
    ),
    "noisy and not told": (
        (row("module", 3, *STEADY), row("cells", 3, *WILD)),
        "undecided",
        "too noisy to tell whether cells is slower or faster than module: the spread of cells is 30 %; "
        "leave the machine alone, or raise --min-time.",
    ),
    "at one length": (
        (
            *(row("module", 3, *STEADY), row("module", 9, *STEADY)),
            *(row("cells", 3, *WILD), row("cells", 9, *SLOW)),
        ),
        "undecided",
        "too noisy to tell whether cells at L = 3 is slower or faster than module: the spread of cells at L = 3 is "
        "30 %; "
        "leave the machine alone, or raise --min-time.",
    ),
    "nothing": (
        (row("module", 3, message="why"), row("cells", 3, message="why")),
        "failed",
        "failed: nothing was timed.",
    ),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_told_by_the_quartiles(name: str) -> None:
    timings, verdict, words = NOISE[name]
    found = made(*timings)
    assert (found.verdict, said(found, "Verdict")) == (verdict, words)
    assert found.exit_code == (2 if verdict == "failed" else 0)


def grid(found: Bench) -> Grid:
    return next(part for part in found.page() if isinstance(part, Grid))


def column(found: Bench, title: str) -> list[str]:
    index = [each.title for each in grid(found).columns].index(title)
    return [each[index] for each in grid(found).rows]


def test_what_noise_is_near_is_marked() -> None:
    found = made(*(row(name, 3, *times) for name, times in zip("abcd", (SLOW, NEAR, WILD, WILD_AND_SLOW), strict=True)))
    found = replace(found, timings=(row("module", 3, *STEADY), *found.timings))
    assert column(found, "ratio") == ["1", "2", "~1", "~1", "~10"]


def test_without_the_baseline_there_is_no_ratio() -> None:
    found = made(row("module", 3, message="why"), row("cells", 3, *SLOW))
    assert found.ratio(found.timings[1]) is None
    assert column(found, "ratio") == ["-", "-"]
    assert "Ratio: none, since module was not timed." in said(found, "Median")
    assert said(found, "Not timed") == "module: why."
    assert (found.verdict, found.exit_code) == ("steady", 2)


@pytest.mark.parametrize(("value", "text"), [(1, "█" * 20), (0.5, "█" * 10), (0.51, "█" * 10 + "▎"), (1e-9, "▏")])
def test_a_bar_is_proportional(value: float, text: str) -> None:
    assert bar(value, 1, 20) == text


def test_no_sign_of_a_bar_changes_its_width_in_ascii() -> None:
    texts = [bar(each, 1, 20) for each in (1, 0.991, 0.98, 0.97, 0.965, 0.96, 0.955, 0.953, 0.01)]
    assert [len(plain(each)) for each in texts] == [len(each) for each in texts]
    assert set("".join(map(plain, texts))) == set("#=-")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5e-9, "1.5 ns"), (77.84e-6, "77.8 us"), (0.99961e-3, "1 ms"), (0.138, "138 ms"), (1234.5, "1,230 s")],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_many_lengths_are_left_out_in_the_middle() -> None:
    found = made(*(row("module", length, *STEADY) for length in range(1, 101)))
    rows = grid(found).rows
    assert len(rows) == MOST_LENGTHS
    assert [each[0] for each in rows[-2:]] == ["... 93 lengths ...", "module"]
    assert len(json.loads(render(found, "json", io.StringIO()))["rows"]) == 100


def test_rich_and_notebooks_show_the_page() -> None:
    found = made(row("module", 3, *STEADY), row("cells", 3, *SLOW))
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(found)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split() == render(found, "table", io.StringIO()).split()
    assert "██" in found._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("load", "threads", "words"),
    [
        (0.1, 2, ""),
        (1.0, 1, ""),
        (1.0, 2, "on 2 CPUs; a call waits for the slowest of its 2 threads, which --threads 1 avoids"),
        (3.0, 1, "before this began, on 2 CPUs, so that all figures may be too high"),
        (None, 2, ""),
    ],
)
def test_a_busy_machine_is_told(load: float | None, threads: int, words: str) -> None:
    found = said(made(row("module", 3, *STEADY), load=load, threads=threads), "Busy")
    assert words in found
    assert bool(found) is bool(words)


def ready(subject: str, placed: Spec) -> Prepared:
    return prepare(subject, placed, draw_weights(placed), draw_input(placed)).with_input(leaf)


def peak(subject: str, spec: Spec, grad: bool = False) -> int | None:
    steps = spec.seq_len * spec.num_layers * spec.directions
    with running(spec, grad) as placed:
        found = ready(subject, placed)
        return peak_bytes(with_backward(found, found.call()) if grad else found.call, "cpu", steps)


@pytest.mark.parametrize("length", [3, 10, 100])
def test_the_peak_of_memory_is_what_a_hand_counts(length: int) -> None:
    spec = Spec(num_layers=1, seq_len=length, batch_size=5, hidden_size=20)
    step, y = 5 * 20 * 4, length * 5 * 20 * 4
    # The input times W_ih for all steps, the state after each of them, and their stack, which is y.
    assert peak("module", spec) == 3 * y
    # The state after each step, their stack y, h, and a copy of h0. What a step computes in between is given back.
    assert peak("cells", spec) == peak("equations", spec) == 2 * y + 2 * step


def test_gradients_need_what_backward_keeps() -> None:
    spec = Spec(kind="gru", seq_len=10)
    for subject in ("module", "cells", "equations"):
        without, with_grad = peak(subject, spec), peak(subject, spec, grad=True)
        assert without is not None
        assert with_grad is not None
        assert with_grad > without


def test_weights_and_input_are_no_part_of_the_peak() -> None:
    small, large = (Spec(num_layers=1, input_size=size, seq_len=4) for size in (1, 4000))
    assert peak("cells", small) == peak("cells", large)


def test_what_the_profiler_could_not_hold_is_not_measured() -> None:
    assert peak("module", Spec(num_layers=2, bidirectional=True, seq_len=2501, batch_size=1, hidden_size=1)) is None
    assert "of at most 10,000 steps in all layers" in said(made(row("module", 3, *STEADY)), "Median")


def test_each_item_by_itself_takes_steps_of_its_own() -> None:
    few, many = (Spec(seq_len=100, num_layers=1, batch_size=items) for items in (100, 101))
    peaks = [bench(spec, ("module", "items"), min_time=0).timings[1].peak_bytes for spec in (few, many)]
    assert peaks[0] is not None
    assert peaks[1] is None


def test_the_profiler_says_nothing(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "3")
    peak("module", Spec())
    assert capfd.readouterr() == ("", "")
    import os

    assert os.environ["KINETO_LOG_LEVEL"] == "3"


class FakeEvent:
    """A GPU whose counter is at a second more at every event, and which tells milliseconds."""

    count = 0
    waited = 0

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        assert stream == "stream of cuda:1"
        FakeEvent.count += 1
        self.at = FakeEvent.count

    def synchronize(self) -> None:
        FakeEvent.waited += 1

    def elapsed_time(self, later: "FakeEvent") -> float:
        assert FakeEvent.waited >= later.at  # or the GPU would not know yet
        return 1000.0 * (later.at - self.at)


def test_the_clock_of_a_gpu_reads_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    clock = EventClock("cuda:1")
    assert [clock(), clock(), clock()] == [1.0, 2.0, 3.0]


LAYOUTS: dict[str, dict[str, Any]] = {
    "time first": {},
    "batch first": {"batch_first": True},
    "unbatched": {"unbatched": True},
    "packed": {"lengths": (4, 2, 3), "batch_first": True},
}


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_call_computes_what_its_subject_does(kind: str, layout: str, grad: bool) -> None:
    spec = Spec(kind=kind, bidirectional=True, dtype="float64", **LAYOUTS[layout])
    with running(spec, grad) as placed:
        weights, given = draw_weights(placed), draw_input(placed)
        for subject in ("module", "cells", "equations"):
            y, *states = tensors_of(prepare(subject, placed, weights, given).with_input(leaf).call())
            expected = SUBJECTS[subject](placed, weights, given)
            for state, each in zip(states, expected.state, strict=True):
                assert torch.allclose(state, each, atol=1e-14)
            if subject == "equations" or spec.lengths is None:
                assert torch.allclose(y, expected.y, atol=1e-14)
            assert all(each.requires_grad is grad for each in (y, *states))


def test_gradients_are_taken_of_everything() -> None:
    spec = Spec(kind="lstm", num_layers=1, batch_size=2)
    with running(spec, grad=True) as placed:
        counts = {subject: len(ready(subject, placed).leaves) for subject in ("module", "cells", "equations", "items")}
    # x, h0, c0 and four parameters; of items x, h0 and c0 for each.
    assert counts == {"module": 7, "cells": 7, "equations": 7, "items": 10}


QUICK = ("--min-time", "0")


def rows_of(answer: Answer) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(answer.out)["rows"]
    return rows


def test_the_document_has_every_key(cli: Cli) -> None:
    answer = cli("bench", *QUICK, "--threads", "2", "--subjects", "cells,items", "--seq-len", "4,2", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert {"rows", "seq_lens", "yardstick", "grad", "min_time_s", "threads", "back_ends", "verdict"} <= found.keys()
    assert found["rerun"] == "rnnscope bench --threads 2 --subjects cells,items --seq-len 2,4 --min-time 0.0"
    rows = found["rows"]
    assert [(each["subject"], each["seq_len"]) for each in rows] == [
        *(("module", 2), ("module", 4), ("cells", 2), ("cells", 4), ("items", 2), ("items", 4))
    ]
    for each in rows:
        assert each["device"] == "cpu"
        assert each["steps_per_s"] == each["seq_len"] / each["median_s"]
        assert each["iqr_s"] == each["p75_s"] - each["p25_s"]
        assert each["ratio_least"] <= each["ratio_greatest"]
        assert each["runs"] >= each["blocks"] >= timing.ROUNDS
        assert (each["growth"] is None) is (each["seq_len"] == 2)
        assert each["peak_bytes"] > 0
    medians = {(each["subject"], each["seq_len"]): each["median_s"] for each in rows}
    assert rows[2]["ratio"] == medians["cells", 2] / medians["module", 2]


def test_a_row_a_measurement_in_tsv(cli: Cli) -> None:
    lines = cli("bench", *QUICK, "--subjects", "module,cells", "--format", "tsv").out.splitlines()
    assert [len(line.split("\t")) for line in lines] == [len(lines[0].split("\t"))] * 3


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (
            "--kind lstm --proj-size 3 --subjects cells,compiled,equations",
            {"cells": "nn.LSTMCell knows no projection", "compiled": "nn.LSTMCell knows no projection"},
        ),
        (f"--kind lstm --layers 1 --subjects {OWN}:OnlyNumbers", {f"{OWN}:OnlyNumbers": "returned (int, int), but"}),
        (
            f"--kind lstm --layers 1 --subjects {OWN}:Transposed",
            {f"{OWN}:Transposed": "returned y of shape (5, 3, 20), and torch's is"},
        ),
        (f"--kind lstm --layers 1 --subjects {OWN}:Raises", {f"{OWN}:Raises": "raised ValueError: the flux"}),
        (f"--kind lstm --layers 1 --subjects {OWN}:Nobody", {f"{OWN}:Nobody": f"{OWN} has no Nobody"}),
        (
            f"--kind lstm --layers 1 --grad --subjects {OWN}:RaisesLate",
            {f"{OWN}:RaisesLate": "raised RuntimeError: one of the variables needed"},
        ),
    ],
)
def test_what_cannot_be_timed_is_a_row_with_a_message(cli: Cli, words: str, reasons: dict[str, str]) -> None:
    answer = cli("bench", *QUICK, *words.split(), "--json")
    messages = {each["subject"]: each["message"] for each in rows_of(answer) if each["message"] is not None}
    assert answer.code == 2
    assert messages.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert messages[name].startswith(reason)
        assert name not in messages[name].removeprefix(f"{OWN} has")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("--kind lstm --layers 1", "Lstm"),
        ("--kind lstm --layers 1 --dtype float64", "Lstm"),
        ("--kind lstm --layers 1 --grad", "DetachesState"),
        ("--kind lstm --layers 1", "Prints"),
        ("--kind gru --layers 1", "Gru"),
        ("--layers 1 --h0 zeros --grad --batch-first", "BatchFirst"),
    ],
)
def test_own_classes_are_timed(cli: Cli, words: str, name: str) -> None:
    answer = cli("bench", *QUICK, *words.split(), "--subjects", f"{OWN}:{name}", "--json")
    assert [each["message"] for each in rows_of(answer)] == [None, None]


def test_a_packed_module_of_ones_own_and_a_frozen_weight_are_timed(tmp_path: Any) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\n"
        "class Frozen(nn.GRU):\n"
        "    def __init__(self, input_size, hidden_size):\n"
        "        super().__init__(input_size, hidden_size)\n"
        "        self.weight_hh_l0.requires_grad_(False)\n"
    )
    found = bench(Spec(kind="gru", num_layers=1, lengths=(3, 1)), (f"{file}:Frozen",), grad=True, min_time=0)
    assert [each.message for each in found.timings] == [None, None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without CUDA says")
def test_a_device_that_is_not_there_is_a_row_or_trouble(cli: Cli) -> None:
    answer = cli("bench", *QUICK, "--subjects", "cells@cuda", "--json")
    assert answer.code == 2
    assert rows_of(answer)[1]["message"].endswith("; use cells@cpu")
    answer = cli("bench", *QUICK, "--device", "cuda")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: --device cuda: torch ")


def test_memory_that_runs_out_is_a_row(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 9 GiB.")

    monkeypatch.setattr(nn.RNN, "forward", forward)
    answer = cli("bench", *QUICK, "--subjects", "cells", "--json")
    assert rows_of(answer)[0]["message"].startswith("out of memory on cpu (Tried to allocate 9 GiB.)")
    assert answer.code == 2
    answer = cli("bench", *QUICK, "--subjects", "module")
    assert answer.code == 2
    assert "Verdict: failed: nothing was timed." in answer.out


def test_of_the_default_subjects_one_may_be_left_out() -> None:
    timings = (row("module", 3, *STEADY), row("compiled", 3, message="no compiler"))
    assert replace(made(*timings), subjects=SUBJECT_FLAG.default).exit_code == 0
    assert made(*timings).exit_code == 2


def test_more_rows_than_anybody_reads_are_refused() -> None:
    with pytest.raises(RnnscopeError, match="list 2002 rows, but a benchmark may have 1000"):
        bench(Spec(), ("module", "cells"), tuple(range(1, 1002)))


def test_that_values_are_not_compared_is_said_of_own_classes_alone() -> None:
    assert said(made(row("module", 3, *STEADY), row("cells", 3, *SLOW)), "Not asked") == ""
    own = made(row("module", 3, *STEADY), row("c.py:Own", 3, *SLOW))
    assert said(own, "Not asked") == "whether c.py:Own computes the same: see rnnscope compare."


def test_an_error_in_a_later_round_is_a_row_too(monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = nn.RNN.forward, []

    def forward(self: nn.RNN, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:
            raise torch.OutOfMemoryError("Tried to allocate 9 GiB.")
        return original(self, *given)

    monkeypatch.setattr(nn.RNN, "forward", forward)
    found = bench(Spec(), ("module", "cells"), min_time=0)
    assert [each.measured for each in found.timings] == [False, True]


def test_memory_is_checked_for_the_longest(cli: Cli) -> None:
    answer = cli("bench", "--seq-len", "10,99999999999")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: these sizes need about ")


@pytest.mark.parametrize(
    ("subjects", "baseline", "names"),
    [
        (("cells",), "module", ["module", "cells"]),
        (("cells", "module"), "module", ["cells", "module"]),
        (("cells", "module@cpu/float64"), "module@cpu/float64", ["cells", "module@cpu/float64"]),
    ],
)
def test_ratios_are_to_a_module_in_any_case(subjects: tuple[str, ...], baseline: str, names: list[str]) -> None:
    found = bench(Spec(), subjects, min_time=0)
    assert found.baseline == baseline
    assert [each.typed for each in found.timings] == names
    assert [found.ratio(each) is not None for each in found.timings] == [True, True]


def test_state_is_afterwards_what_it_was() -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.backends.mkldnn.enabled,
            torch.get_default_dtype(),
            torch.get_rng_state().tolist(),
        )

    before = state()
    spec = Spec(kind="lstm", num_layers=1, threads=1, onednn=False, train=True, dtype="float64")
    found = bench(spec, ("module", f"{OWN}:Lstm", f"{OWN}:Raises"), grad=True, min_time=0)
    assert state() == before
    assert (found.threads, dict(found.back_ends)) == (1, {"onednn": False})
    assert [each.measured for each in found.timings] == [True, True, False]


def test_dropout_that_acts_is_timed(cli: Cli) -> None:
    assert cli("bench", *QUICK, "--train", "--dropout", "0.5", "--subjects", "cells,equations", "-q").code == 0


def test_subjects_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original = timing._Turns.take

    def take(self: timing._Turns, seconds: float) -> None:
        order.append(self.timing.typed)
        assert math.isclose(seconds, 0.01)
        original(self, seconds)

    monkeypatch.setattr(timing._Turns, "take", take)
    bench(Spec(), ("module", "cells"), min_time=0.05)
    assert order == ["module", "cells", "cells", "module"] * 2 + ["module", "cells"]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"subjects": ()}, "--subjects is '', but it must be a tuple of values"),
        ({"subjects": ("recorded:a.pt",)}, "--subjects is 'recorded:a.pt', but it must be one of module, cells"),
        ({"seq_lens": ()}, "--seq-len is '', but it must be a tuple of values"),
        ({"seq_lens": (3, 0)}, "--seq-len is 0, but it must be a whole number of at least 1"),
        ({"min_time": -1}, "--min-time is -1, but it must be a number from 0 to 3600"),
        ({"grad": 1}, "--grad is 1, but it must be True or False"),
        ({"spec": Spec(batch_size=0)}, "--batch is 0, so that there is nothing to time"),
        ({"spec": Spec(lengths=(3, 2)), "seq_lens": (3, 4)}, "--seq-len is 4, but --lengths has a longest of 3"),
    ],
)
def test_what_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(RnnscopeError) as refused:
        bench(**({"spec": Spec()} | facts))
    assert refused.value.message.startswith(message)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_compiling_is_told_apart() -> None:
    spec = Spec(kind="gru", input_size=3, hidden_size=7, num_layers=1)  # shapes that no other test compiles
    found = bench(spec, ("compiled",), (2, 3), min_time=0)
    module, _, first, second = found.timings
    assert module.compile_s is None
    assert (first.compile_s or 0) > 0
    assert second.compile_s == 0  # a step of the same shape
    assert said(found, "Compiling").startswith("took the first call of compiled ")
    assert said(found, "Compiling").endswith(" at L = 2, which is in no median.")


def test_without_a_compiler_it_is_a_row(bash: Cli, tmp_path: object) -> None:
    line = "rnnscope bench --min-time 0 --subjects compiled --json"
    answer = bash(line, CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert answer.code == 2
    message = rows_of(answer)[1]["message"]
    assert message.startswith(
        "the subject compiled needs a compiler, and torch.compile finds no C++ compiler that works"
    )
    assert answer.err == ""


def test_weights_of_a_file(cli: Cli, tmp_path: Any) -> None:
    torch.save(nn.LSTM(8, 16, 2).state_dict(), tmp_path / "model.pt")
    answer = cli("bench", *QUICK, "--weights", str(tmp_path / "model.pt"), "--subjects", "cells", "--json")
    found = json.loads(answer.out)
    assert (found["spec"]["kind"], found["spec"]["hidden_size"], answer.code) == ("lstm", 16, 0)
    assert "--weights" in found["rerun"]
