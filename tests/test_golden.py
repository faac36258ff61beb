"""Pages and documents as they were looked at and found good: one file a case in tests/golden, at a fixed console.

`pytest tests/test_golden.py --overwrite` writes them anew; look at each before it is committed.
"""

import io
import math
import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnscope import Comparison, Difference, Spec, Tolerance, code, shapes_of, trace
from rnnscope.conversion.convert import Checkpoint, Conversion
from rnnscope.files.checkpoints import Rnn
from rnnscope.files.loading import Loaded
from rnnscope.network.shapes import Place, parameters
from rnnscope.pages.page import Grid
from rnnscope.pages.render import Result, plain, render
from rnnscope.shapes.result import Mismatch, Shapes
from rnnscope.spec.options import NO_FILES, PATHS, Sources
from rnnscope.spec.question import Question
from rnnscope.sweeps.plan import Configuration
from rnnscope.sweeps.result import Finding, Sweep
from rnnscope.timing.bench import Bench, Timing
from rnnscope.tracing.trace import Equality, Trace, Walked
from rnnscope.verdict.diagnosis import Dependence, Explanation, Power
from rnnscope.verdict.figures import Check, Margin
from rnnscope.verdict.places import HeatMap, HeatRow
from rnnscope.verdict.result import Figures, Reasons, Reference, Sides

Facts = dict[str, Any]
FOLDER = Path(__file__).parent / "golden"


def shapes(spec: Spec, *paths: str, run: bool = True, mismatches: tuple[Mismatch, ...] = ()) -> Shapes:
    formulas = shapes_of(spec, paths or PATHS)
    if not run:
        return formulas
    outputs = {each.name: each.shape for each in formulas.tensors if each.role == "output"}
    actual = {path: dict(outputs) for path in formulas.paths}
    for each in mismatches:
        if each.name in outputs and each.actual is not None:
            actual[each.path][each.name] = each.actual
    return replace(formulas, actual=actual, mismatches=mismatches, device_name="cpu", torch_version="2.13.0")


def comparison(spec: Spec, y: Facts, h: Facts, tolerance: Tolerance, device: str = "cpu", **facts: Any) -> Comparison:
    def some(*names: str) -> Facts:
        return {name: facts.pop(name) for name in names if name in facts}

    sizes = {each.name: each.shape for each in shapes_of(spec).tensors}
    outputs = []
    for name, row in (("y", y), ("h", h)):
        shape: Facts = {"shape": sizes[name], "right_shape": sizes[name], "total": math.prod(sizes[name])}
        outputs.append(Difference(name, **(shape | row)))
    given: Facts = {"rtol": tolerance.rtol, "atol": tolerance.atol} if tolerance.given else {}
    asked = {"reference": facts.pop("asked_for_reference", True), "map": "heat_map" in facts} | some("grad", "chunk")
    right = facts.pop("right", "cells")
    sides = Sides("module", right, (spec.dtype,) * 2, written=("module", right), **some("weights", "recorded"))
    rows: Facts = {"outputs": tuple(outputs)} | some("outputs", "gradients", "nonfinite", "wrong_dtypes")
    found = Figures(**rows, **some("missing_gradients"))
    reasons = Reasons(**some("explanations", "dependences", "power"))
    where: Facts = {"back_ends": (("onednn", True),), "reasons": reasons} | facts
    return Comparison(spec, sides, Question(**given, **asked), found, device, "2.13.0", **where)


def check(arithmetic: str, error: float, bound: float, decided: bool = True, steps: int | None = None) -> Check:
    margin = Margin("y", 2 * error, error, bound, (1, 4, 0), error <= bound, decided)
    return Check(arithmetic, (margin,), steps, single_steps=steps is not None)


SAME = check("float64", 2.0**-52, 32 * 2.0**-53)
WITHIN = check("float32", 1.2e-7, 9.5e-7)
OTHER = check("float64", 0.25, 32 * 2.0**-53)
ROUNDING = Reference(SAME, WITHIN, WITHIN)


def figures(max_abs: float, at: tuple[int, ...], mismatched: int = 0, nonfinite: int = 0) -> Facts:
    return {
        "max_abs": max_abs,
        "max_rel": 20 * max_abs,
        "max_ulp": math.nan if nonfinite else max_abs * 2**24,
        "worst_index": at,
        "mismatched": mismatched,
        "nonfinite": nonfinite,
        "identical": max_abs == 0,
        "within_tolerance": mismatched == 0,
    }


DEFAULT = Tolerance(1.3e-6, 1e-5, given=False)
TINY = figures(2**-23, (1, 4, 0))
NONFINITE = figures(math.nan, (1, 4, 0), 3, 3)
LARGE = Spec(input_size=1_000_000, hidden_size=2_000_000, num_layers=999_999_999_999, seq_len=10**9)

LSTM = comparison(
    Spec(kind="lstm", lengths=(3, 1)),
    TINY,
    TINY,
    DEFAULT,
    reference=ROUNDING,
    grad=True,
    outputs=tuple(Difference(name, (3, 2, 20), (3, 2, 20), 80, **TINY) for name in ("y", "padding", "h", "c")),
    gradients=(Difference("weight_hh_l0", (80, 20), (80, 20), 1600, **TINY | {"worst_index": (3, 7)}),),
)

FAR = figures(0.25, (1, 4, 0), 300)
OTHER_GATES = Explanation("right", "gates i f o g", "stacks its gates i f o g; torch stacks i f g o", 2.0**-53)
ON_GPU: Facts = {
    "device": "cuda:0 (NVIDIA H100 80GB HBM3)",
    "back_ends": (("cudnn", True), ("tf32_in_cudnn", True), ("tf32_in_cublas", False)),
}


def comparisons() -> Iterator[tuple[str, Comparison]]:
    """One of each verdict and cause."""
    tiny = figures(2**-24, (0, 2, 13))
    yield "compare", comparison(Spec(), TINY, tiny, DEFAULT, reference=ROUNDING)
    exact = figures(0.0, (0, 0, 0))
    same = Reference(check("float64", 0, 2.0**-48), WITHIN, WITHIN)
    yield "compare-identical", comparison(Spec(), exact, exact, DEFAULT, reference=same)
    yield (
        "compare-different",
        comparison(
            Spec(num_layers=3, seq_len=1000),
            figures(3.0517578125e-05, (999, 4, 19), 4_321),
            figures(2**-12, (2, 4, 19), 17),
            Tolerance(0.0, 1e-9, given=True),
            reference=ROUNDING,
        ),
    )
    tf32 = Reference(SAME, check("tf32", 3e-4, 7.8e-3), WITHIN, without_tf32=1.2e-7)
    yield "compare-tf32", comparison(Spec(), figures(3e-4, (1, 4, 0)), tiny, DEFAULT, **ON_GPU, reference=tf32)
    yield (
        "compare-function",
        comparison(
            Spec(kind="lstm", bidirectional=True),
            FAR,
            FAR,
            DEFAULT,
            reference=Reference(OTHER, SAME, OTHER, deviating=("right",)),
            explanations=(OTHER_GATES,),
            first_divergence=Place("h", 2, 0, 1, 13, 4),
        ),
    )
    both = Reference(OTHER, OTHER, OTHER, deviating=("left", "right"))
    place = Place("y", 0, 1, 0, 3, None)
    facts: Facts = {"reference": both, "first_divergence": place}
    yield "compare-unexplained", comparison(Spec(unbatched=True), FAR, FAR, DEFAULT, **facts)
    worse = Reference(SAME, WITHIN, check("float32", 3e-3, 9.5e-7))
    place = Place("h", 0, 0, 0, 3, 1)
    yield "compare-precision", comparison(Spec(), FAR, FAR, DEFAULT, reference=worse, first_divergence=place)
    inside = Reference(OTHER, SAME, check("float64", 1e-7, 3.6e-15), deviating=("right",), about_float32=("right",))
    yield "compare-float32-inside", comparison(Spec(), TINY, TINY, DEFAULT, reference=inside)
    wide = check("bfloat16", 0.25, 1.5, decided=False, steps=0)
    spec = Spec(dtype="bfloat16", seq_len=100)
    yield "compare-undecided", comparison(spec, FAR, FAR, DEFAULT, reference=Reference(SAME, wide, wide))
    chaos = check("float64", 0.25, 20.0, decided=False, steps=12)
    undecided = Reference(chaos, WITHIN, WITHIN)
    yield "compare-undecided-function", comparison(Spec(), FAR, FAR, DEFAULT, reference=undecided)
    alike = Reference(SAME, WITHIN, WITHIN, deviating=("left", "right"))
    reset = [Explanation(s, "reset before the matmul", "resets h before W_hn", 0.0) for s in ("left", "right")]
    yield "compare-alike", comparison(Spec(kind="gru"), TINY, tiny, DEFAULT, reference=alike, explanations=tuple(reset))
    yield "compare-no-reference", comparison(Spec(), TINY, tiny, DEFAULT, asked_for_reference=False)
    yield "compare-chunks", comparison(Spec(), TINY, tiny, DEFAULT, asked_for_reference=False, chunk=2)
    yield (
        "compare-power",
        comparison(
            Spec(seq_len=1, h0="zeros", num_layers=1),
            exact,
            exact,
            DEFAULT,
            reference=same,
            power=Power(("b_ih dropped", "b_hh dropped"), ("W_hh transposed",), ()),
        ),
    )
    place = Place("h", 1, 0, 0, 0, 4)
    nonfinite = figures(math.nan, (1, 4, 0), 3, 3), figures(math.inf, (0, 0, 1), 1, 1)
    yield (
        "compare-nonfinite",
        comparison(Spec(), *nonfinite, DEFAULT, first_divergence=place, nonfinite=("right",)),
    )
    yield "compare-shape", comparison(Spec(), {"right_shape": (5, 3, 20)}, tiny, DEFAULT)
    sources = Sources(weights="encoder.pt", prefix="encoder.rnn", right_weights="after.pt")
    row = Difference("weight_hh_l1", (20, 20), (20, 20), 400, **FAR | {"worst_index": (3, 7)})
    other = Reference(OTHER, SAME, SAME)
    facts = {"reference": other, "weights": (row,), "sources": sources, "first_divergence": Place("y", 0, 1, 0, 3, 2)}
    yield "compare-weights", comparison(Spec(), FAR, FAR, DEFAULT, **facts)
    own = Reference(OTHER, SAME, OTHER, deviating=("right",))
    facts = {
        "reference": own,
        "dependences": (Dependence("right", ("weight_hh_l0", "weight_hh_l1"), repeats=False),),
        "wrong_dtypes": (("right", "float64"),),
        "missing_gradients": (("right", ("weight_ih_l0", "weight_hh_l0")),),
    }
    yield "compare-own", comparison(Spec(), FAR, FAR, DEFAULT, **facts, right="my_rnn.py:MyRnn")
    tf32 = Reference(
        check("float32", 1e-4, 9.5e-7), SAME, check("float32", 1e-4, 9.5e-7), ("right",), about_coarser="tf32"
    )
    found = comparison(Spec(), FAR, FAR, DEFAULT, reference=tf32, recorded="right", right="recorded:run.npz")
    yield "compare-recorded", found

    cells = [(1, None, (0.0, 2e-8, 1.2e-7)), (0, None, (3e-8, 0.0, 1e-3)), (0, "f", (0.0, 4e-9, math.nan))]
    rows = tuple(HeatRow(layer, 0, gate, values) for layer, gate, values in cells)
    heat: Facts = {"heat_map": HeatMap(rows, (2, 0, 0), whole=True)}
    far = Reference(OTHER, SAME, OTHER, deviating=("right",))
    place = Place("h", 2, 0, 0, 13, 4)
    yield (
        "compare-map",
        comparison(Spec(kind="lstm"), FAR, FAR, DEFAULT, reference=far, first_divergence=place, **heat),
    )
    long = tuple(2.0**-24 * (1 + step % 7) for step in range(1000))
    heat = {"heat_map": HeatMap((HeatRow(0, 0, None, long), HeatRow(0, 1, None, long)), None, whole=True)}
    spec = Spec(num_layers=1, bidirectional=True, seq_len=1000)
    yield "compare-map-long", comparison(spec, TINY, tiny, DEFAULT, reference=ROUNDING, **heat)


def rnn(prefix: str, form: str, spec: Spec, *notes: str) -> Rnn:
    return Rnn(prefix, f"state_dict.{prefix}", form, spec, {}, {}, notes)


ENCODER = rnn(
    "module.encoder.rnn",
    "module",
    Spec(kind="lstm", num_layers=2, bidirectional=True, proj_size=8, dtype="bfloat16"),
    "weight norm was folded into module.encoder.rnn.weight_hh_l0",
)
CELL = rnn("decoder.cells.0", "cell", Spec(kind="rnn", num_layers=1, bias=False), "tied to decoder.cells.1")


def conversion() -> Conversion:
    names = {"encoder.weight_ih_l0": "cells.0.weight_ih", "encoder.weight_hh_l0": "cells.0.weight_hh"}
    proof = comparison(Spec(dtype="float64"), TINY, TINY, DEFAULT, reference=Reference(SAME, SAME, SAME))
    return Conversion("model.pt", "encoder", ENCODER, "cells.safetensors", "cells", names, proof, "2.13.0")


LAYOUTS: dict[str, Facts] = {
    "time-first": {},
    "batch-first": {"batch_first": True},
    "unbatched": {"unbatched": True},
    "packed": {"lengths": (3, 1, 2)},
}


def traces() -> Iterator[tuple[str, Trace]]:
    """Each kind, in each direction and layout; and what is left out of a long and deep one."""
    for kind, both, layout in product(("rnn", "lstm", "gru"), (False, True), LAYOUTS):
        spec = Spec(kind=kind, bidirectional=both, **LAYOUTS[layout])
        yield f"trace-{kind}-{'both' if both else 'forward'}-{layout}", trace(spec)
    values = {
        "trace-values": trace(Spec(kind="lstm", proj_size=3, input_size=4, hidden_size=6), True, item=2, step=1),
        "trace-values-gru": trace(Spec(kind="gru", lengths=(9, 7), bidirectional=True), True, item=1),
    }
    # How far the module is from the equations differs from machine to machine.
    yield from ((name, replace(each, distance=2.0**-24)) for name, each in values.items())
    yield "trace-long", trace(Spec(num_layers=6, seq_len=1000, lengths=tuple(range(991, 1001))))
    weights = {each.name: torch.full(each.shape, 100.0) for each in parameters(Spec(num_layers=1))}
    growing = Spec(nonlinearity="relu", dtype="float16", num_layers=1)
    loaded = Loaded(NO_FILES, growing, Rnn("", "", "module", growing, {}, weights))
    yield "trace-infinity", trace(growing, loaded=loaded)


def timing(typed: str, seq_len: int, seconds: float, spread: float, peak: int | None, **facts: Any) -> Timing:
    """Five rounds of one block, with an interquartile range of so much of the median."""
    rounds = tuple((seconds * (1 + spread * place),) for place in (-1, -0.5, 0, 0.5, 1))
    subject, _, place = typed.partition("@")
    return Timing(typed, subject, place or "cpu", "float32", seq_len, rounds, 500, peak, **facts)


def benches() -> Iterator[tuple[str, Bench]]:
    """One length, several, and what could not be timed."""
    names: tuple[str, ...] = ("module", "cells", "equations", "compiled")
    known: Facts = {"threads": 2, "cpus": 2, "load": 0.0, "back_ends": (("onednn", True),), "torch_version": "2.13.0"}
    rows: tuple[Timing, ...] = (
        timing("module", 3, 77.8e-6, 0.031, 5200),
        timing("cells", 3, 138e-6, 0.058, 3600),
        timing("equations", 3, 117e-6, 0.048, 3600),
        timing("compiled", 3, 366e-6, 0.068, 3600, compile_s=2.15),
    )
    yield "bench", Bench(Spec(), names, (3,), rows, "module", False, 0.5, device_name="cpu", **known)
    lengths = (10, 100, 1000)
    growing = {"module": (188e-6, 682e-6, 5.53e-3), "cells": (596e-6, 5.56e-3, 55.4e-3)}
    rows = tuple(
        timing(name, length, seconds, 0.3 if (name, length) == ("cells", 10) else 0.02, 800 * length)
        for name, times in growing.items()
        for length, seconds in zip(lengths, times, strict=True)
    )
    busy = known | {"load": 1.7}
    spec, names = Spec(kind="lstm", seq_len=10, batch_first=True), ("module", "cells")
    yield "bench-lengths", Bench(spec, names, lengths, rows, "module", True, 0.1, device_name="cpu", **busy)
    spec, names = Spec(kind="lstm", proj_size=3, seq_len=2), ("module@cuda:0", "cells", "my_lstm.py:MyLSTM")
    both = known | {"back_ends": (*ON_GPU["back_ends"], ("onednn", True))}
    unknown = Timing("cells", "cells", "cpu", "float32", 2, message="nn.LSTMCell knows no projection")
    rows = (timing("module@cuda:0", 2, 1.5e-3, 0.0, None), unknown, timing(names[2], 2, 1.6e-3, 0.4, 10**6))
    device = f"{ON_GPU['device']} and cpu"
    yield "bench-noisy", Bench(spec, names, (2,), rows, names[0], False, 2.0, device_name=device, **both)
    rows = (replace(unknown, typed="module", subject="module", message="out of memory on cpu"), unknown)
    yield "bench-failed", Bench(spec, ("cells",), (2,), rows, "module", False, 0.5, device_name="cpu", **known)


def trace_by_hand() -> Trace:
    """Numbers that every machine writes alike."""
    spec = Spec(kind="gru", num_layers=1, input_size=1, hidden_size=2, seq_len=2, batch_size=1)
    steps = torch.tensor([[0.5, -0.25], [0.75, math.nan]])
    walked = {(0, 0): Walked({"h": steps}, {gate: steps for gate in "rzn"})}
    equal = Equality("y[1]", "h[0]", True, True, 0.0, "the top layer ends at step 1")
    taken = Equality("y[:, 0]", "h[0]", False, False, None, "other shape: item 0 at all steps")
    given = {"x": torch.tensor([[1.0], [2.0]]), "h0": torch.tensor([[0.0, 1.0]])}
    place = Place("h", 1, 0, 0, 1, 0)
    return Trace(spec, 0, 1, True, (equal, taken), 0, given, walked, 2.0**-24, place, "cpu", "2.13.0")


def sweep() -> Sweep:
    """Each outcome, a flag with many numbers, and more lines and reasons than are shown."""

    def found(outcome: str, max_abs: float | None = None, cause: str | None = None, **values: Any) -> Finding:
        message = None
        if outcome in ("not_comparable", "failed"):
            message = f"--proj-size is {values.get('proj_size')}, but nn.GRU has no projection; use --kind lstm"
            message = "out of memory on cuda:0" if outcome == "failed" else message
        return Finding(Configuration(values), outcome, cause, max_abs, message, values["hidden_size"])

    same = [found("identical", 0.0, hidden_size=size, kind="rnn") for size in range(1, 18)]
    different = [found("different", math.nan, "function", hidden_size=size, kind="lstm") for size in range(1, 6)]
    several = [found("not_comparable", hidden_size=9, kind="gru", proj_size=size) for size in (1, 1, 2, 3, 4)]
    others = (
        found("equivalent", 2.0**-23, "rounding", hidden_size=17, kind="gru", bidirectional=True, lengths=(3, 2)),
        found("different", 0.5, "precision", hidden_size=3, kind="gru"),
        found("undecided", 0.25, hidden_size=3, kind="gru", bias=False),
        found("failed", hidden_size=3, kind="gru", device="cuda"),
    )
    rerun = "rnnscope sweep --configs configs.jsonl"
    smallest = "rnnscope compare --kind lstm --hidden-size 1"
    return Sweep((*same, *different, *several, *others), rerun, smallest, 4, "2.13.0")


RESULTS: dict[str, Result] = {
    "sweep": sweep(),
    "trace-by-hand": trace_by_hand(),
    "shapes": shapes(Spec()),
    "shapes-batch-first-no-bias-relu": shapes(Spec(batch_first=True, bias=False, nonlinearity="relu", num_layers=1)),
    "shapes-cells": shapes(Spec(), "cells"),
    "shapes-dry-run": shapes(Spec(), run=False),
    "shapes-finding": shapes(
        Spec(num_layers=1),
        mismatches=(
            Mismatch("cells", "y", (3, 5, 20), (5, 3, 20)),
            Mismatch("module", "bias_ih_l0", (20,), None),
            Mismatch("module", "gain_l0", None, (20,)),
        ),
    ),
    "shapes-large": shapes(LARGE, run=False),
    "shapes-lstm": shapes(Spec(kind="lstm", num_layers=1)),
    "shapes-lstm-projection-both-directions": shapes(Spec(kind="lstm", proj_size=8, bidirectional=True), run=False),
    "shapes-gru-both-directions": shapes(Spec(kind="gru", bidirectional=True, num_layers=6, bias=False)),
    "shapes-gru-lengths": shapes(Spec(kind="gru", lengths=(5, 3, 3, 1), batch_first=True, bidirectional=True)),
    "shapes-unbatched-dropout": shapes(Spec(unbatched=True, dropout=0.5, num_layers=1)),
    "shapes-swappable": shapes(Spec(seq_len=4, batch_size=4, dropout=0.5)),
    "compare-lstm-lengths-grad": LSTM,
    "weights": Checkpoint("model.pt", (ENCODER, rnn("decoder", "stacked", Spec(kind="gru")), CELL), "2.13.0"),
    "convert": conversion(),
    **dict(comparisons()),
    **{name: replace(each, torch_version="2.13.0") for name, each in traces()},
    **dict(benches()),
    "code": code(Spec(kind="gru", bidirectional=True)),
}

WIDTHS = ("80", "120")
EXTENSIONS = {"json": "json", "tsv": "tsv", "markdown": "md"}


def cases() -> Iterator[tuple[str, str, str, str]]:
    """(name of the file, result, format, width)."""
    for name in RESULTS:
        for width in WIDTHS:
            yield f"{name}.{width}.txt", name, "table", width
    for name in (
        "shapes",
        "shapes-finding",
        "compare",
        "compare-function",
        "compare-power",
        "compare-nonfinite",
        "compare-shape",
        "compare-lstm-lengths-grad",
        "shapes-lstm",
        "weights",
        "convert",
        "trace-by-hand",
        "compare-map",
        "compare-weights",
        "sweep",
        "bench-lengths",
        "bench-noisy",
    ):
        for form, extension in EXTENSIONS.items():
            yield f"{name}.{extension}", name, form, "80"


@pytest.mark.parametrize(("file", "name", "form", "width"), list(cases()), ids=[each[0] for each in cases()])
def test_looks_as_it_did(
    file: str, name: str, form: str, width: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    text = render(RESULTS[name], form, io.StringIO())
    if request.config.getoption("--overwrite"):
        (FOLDER / file).write_text(text, encoding="utf-8")
    assert text == (FOLDER / file).read_text(encoding="utf-8")


def test_no_golden_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {each[0] for each in cases()}


def text_of(name: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", columns)
    return render(RESULTS[name], "table", io.StringIO())


def grids(name: str) -> dict[str, Grid]:
    return {part.title: part for part in RESULTS[name].page() if isinstance(part, Grid)}


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("shapes")])
def test_the_rows_add_up(name: str) -> None:
    counts = {row[0]: int(row[2].replace(",", "")) for row in grids(name)["Counts"].rows}
    parameters = [int(row[-1].replace(",", "")) for row in grids(name)["Parameters"].rows]
    assert sum(parameters) == counts["parameters"]
    work = counts.pop("multiply-accumulates")
    assert work >= 0
    assert counts.pop("in all") == sum(counts.values())


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("shapes")])
def test_the_formulas_give_the_counts(name: str) -> None:
    for what, formula, count, _ in grids(name)["Counts"].rows:
        if what != "in all":
            value = eval(formula.replace("·", "*"), {"__builtins__": {}})
            assert (what, value) == (what, int(count.replace(",", "")))


@pytest.mark.parametrize("columns", ["1", "20", "40", "80", "200"])
@pytest.mark.parametrize("name", RESULTS)
def test_only_prose_is_broken_and_nothing_is_cut(name: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(name, columns, monkeypatch)
    assert "…" not in text
    found = [
        (cell, column.prose)
        for grid in grids(name).values()
        for row in grid.rows
        for cell, column in zip(row, grid.columns, strict=True)
    ]
    assert [cell for cell, prose in found if not prose and cell not in text] == []
    assert [
        word for cell, prose in found if prose for word in cell.split() if len(word) < 20 and word not in text
    ] == []


@pytest.mark.parametrize("name", RESULTS)
def test_every_line_ends_where_its_text_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = text_of(name, "80", monkeypatch).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("name", RESULTS)
def test_ascii_says_the_same_in_the_same_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(name, "80", monkeypatch)
    simple = plain(text)
    assert simple.isascii()
    assert simple.count("?") == text.count("?")  # which stands for what ASCII cannot say
    assert [len(line) for line in simple.splitlines()] == [len(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", RESULTS)
def test_a_screen_reader_is_told_every_word_and_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left without colour and in ASCII: the same words and numbers in the same order, and no code."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = re.sub(r"\x1b\[[\d;]*m", "", text_of(name, "80", monkeypatch))
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    spoken = plain(text_of(name, "80", monkeypatch))
    assert "\x1b" not in spoken
    words = r"[\w.]+|[<>^!]"  # arrows and marks are facts too
    arrows = coloured.translate(str.maketrans("→←↑", "><^")).replace("×", "x")
    assert re.findall(words, spoken) == re.findall(words, arrows)


def test_the_verdict_is_a_word_and_its_colour_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = text_of("compare-different", "80", monkeypatch)
    assert "\x1b[1;31mdifferent" in coloured
    monkeypatch.delenv("FORCE_COLOR")
    words = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in words.splitlines()] == text_of(
        "compare-different", "80", monkeypatch
    ).splitlines()
