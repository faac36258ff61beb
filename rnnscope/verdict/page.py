"""What people are told of a comparison, and what programs get: tables, the sentence of the verdict, the map, JSON."""

import math
import textwrap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any

from rnnscope.network.shapes import GATES, layer_in_words, network_in_words, place_in_words, shown_layers
from rnnscope.pages.page import Column, Drawing, Grid, Line, Page, Sentence, back_ends_in_words, counted, thousands
from rnnscope.spec.question import nan_last
from rnnscope.spec.spec import Spec
from rnnscope.verdict.figures import Check, Difference, Margin
from rnnscope.verdict.places import HeatMap, HeatRow
from rnnscope.verdict.result import Reference, Verdict

_INDEXED = {"y": "y", "padding": "y", "y padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""

_TENSORS = {"y": "y", "h": "h", "c": "c", "y padding": "the padding of y"}

_BY_TOLERANCE = {
    "identical": "every bit agrees",
    "equivalent": "every element is within the tolerance; whether they are the same function was not asked",
    "different": "elements are over the tolerance; without --no-reference it is told whether that is rounding",
}
"""Why a verdict without a reference is what it is."""


class Comparison(Verdict):
    """Two subjects of one Spec, output by output, and gradient by gradient if they were asked for.

    >>> found = compare(Spec(kind="gru"), "module", "module")
    >>> found.verdict, found.exit_code, found.cause, [each.name for each in found.outputs]
    ('identical', 0, None, ['y', 'h'])
    """

    def page(self) -> Page:
        """The tables and sentences of `rnnscope compare`."""
        return _page(self)

    def facts(self) -> dict[str, Any]:
        """Every figure, for programs."""
        return _facts(self)

    def records(self) -> Iterator[dict[str, Any]]:
        """One record an output or gradient."""
        return (asdict(each) | {"verdict": self.verdict} for each in self.figures.rows)


def _page(comparison: Verdict) -> Page:
    """The tables and sentences of `rnnscope compare`."""
    left, right, tolerance = comparison.left, comparison.right, comparison.tolerance
    title = f"{right} against {left}, {network_in_words(comparison.spec)}"
    page: Page = [_differences_grid(title, "output", comparison.outputs, comparison)]
    if comparison.gradients is not None:
        page.append(_differences_grid("Gradients", "gradient of", comparison.gradients, comparison))
    if comparison.weights:
        page.append(_differences_grid("Weights that differ", "weight", comparison.weights, comparison))
    if comparison.reference is not None:
        page.append(_reference_grid(comparison, comparison.reference))
    if comparison.question.binds:
        source = "as given" if tolerance.given else "torch.testing's, since no reference was asked for"
        rule = f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."
        page.append(Sentence("Tolerance", rule))
    mood = "good" if comparison.exit_code == 0 else "bad"
    page.append(Sentence("Verdict", verdict_in_words(comparison), mood))
    page += [*_why(comparison), *_own(comparison)]
    if comparison.first_divergence is not None:
        page.append(Sentence("First at", f"{place_in_words(comparison.spec, comparison.first_divergence)}."))
    page += [*_in_chunks(comparison), *_step_by_step(comparison), *_power(comparison)]
    if comparison.heat_map is not None:
        limit = "tolerance" if comparison.first_divergence is None and comparison.question.binds else "bound"
        if comparison.reference and not comparison.reference.function.within:
            limit = "bound in float64"  # the map itself may show nothing over it
        page += heat_page(comparison.spec, comparison.heat_map, limit)
    page += [Sentence("Blind spot", f"{each}.") for each in comparison.blind_spots]
    dtypes, on = " and ".join(dict.fromkeys(comparison.sides.dtypes)), back_ends_in_words(comparison.back_ends)
    run = f"on {comparison.device_name} in {dtypes}, {on}, torch {comparison.torch_version}."
    page.append(Sentence("Run", run))
    return page + ([Sentence("Rerun", comparison.rerun, verbatim=True)] if comparison.rerun else [])


def _differences_grid(title: str, first: str, differences: tuple[Difference, ...], comparison: Verdict) -> Grid:
    binds = comparison.question.binds
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", *(["over tolerance"] if binds else []))
    columns = tuple(Column(name, number=name not in (first, "shape", "at")) for name in names)
    rows = (_differences_row(each, comparison) for each in differences)
    return Grid(title, columns, tuple(row[: len(columns)] for row in rows))


def _differences_row(each: Difference, comparison: Verdict) -> tuple[str, ...]:
    """The cells of a row, of which the last one is shown if the tolerance binds."""
    if each.max_abs is None or each.max_rel is None or each.worst_index is None:
        shapes = f"{comparison.left} {each.shape}, {comparison.right} {each.right_shape}"
        return (each.name, shapes, *["-"] * 5)
    return (
        each.name,
        str(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        "-" if each.max_ulp is None else f"{each.max_ulp:.3g}",
        f"{thousands(each.mismatched or 0)} of {thousands(each.total)}",
    )


def _reference_grid(comparison: Verdict, reference: Reference) -> Grid:
    """For each check the tensor that is nearest to its bound, with the error and the bound there."""
    titles = ("what", "computed in", "error", "bound", "nearest to it at")
    columns = tuple(Column(name, number=name in ("error", "bound")) for name in titles)
    rows = (
        _reference_row("right against left", reference.function),
        _reference_row(f"left: {comparison.left}", reference.left),
        _reference_row(f"right: {comparison.right}", reference.right),
    )
    return Grid("Against the equations in float64", columns, rows)


def _reference_row(what: str, check: Check) -> tuple[str, ...]:
    worst, index = check.worst, check.worst.index
    name = worst.name if worst.name in _INDEXED else f"grad of {worst.name}"
    at = f"{name}[{', '.join(map(str, index))}]"
    if check.single_steps and len(index) == 3:
        at = "{}: step {}, item {}, unit {}".format(worst.name, *index)
    elif check.single_steps and len(index) == 4:
        at = "{0}[{2}]: step {1}, item {3}, unit {4}".format(worst.name, *index)
    row = (what, _arithmetic_in_words(check.arithmetic), f"{worst.error:.3g}", f"{worst.bound:.3g}")
    return (*row, at if worst.error else "-")


def _why(comparison: Verdict) -> Page:
    """The conventions that a side follows instead of torch's."""
    reference, reasons = comparison.reference, comparison.reasons
    if reference is None or not reference.deviating or reference.about_float32:
        return []
    found = [f"{_side_in_words(comparison, each.side, 'The')} {each.does}" for each in reasons.explanations]
    if not found:
        if reference.about_coarser or reasons.dependences or comparison.weights:
            return []
        outputs = [each for each in reference.function.margins if each.name in _INDEXED]
        only = "only gradients differ, so no convention of the outputs explains it"
        found = [only if all(each.within for each in outputs) else "no known convention explains it"]
    return [Sentence("Why", f"{each}.") for each in found]


def _own(comparison: Verdict) -> Page:
    """What was noticed of somebody's own class."""
    page: Page = []
    for each in comparison.reasons.dependences:
        side = _side_in_words(comparison, each.side, "The")
        if each.ignores:
            page.append(Sentence("Why", f"{side}: its output does not depend on {', '.join(each.ignores)}."))
        if not each.repeats:
            page.append(Sentence("Why", f"{side} gives something else each time it is run."))
    for role, names in comparison.figures.missing_gradients:
        side, named = _side_in_words(comparison, role), ", ".join(names)
        page.append(Sentence("Blind spot", f"{side} gives no gradient of {named}, so that these are not compared."))
    for role, dtype in comparison.figures.wrong_dtypes:
        asked = comparison.sides.dtypes[0 if role == "left" else 1]
        side = _side_in_words(comparison, role, "The")
        page.append(Sentence("Note", f"{side} returned {dtype} where {asked} was asked for."))
    return page


def _in_chunks(comparison: Verdict) -> Page:
    chunk, steps = comparison.question.chunk, comparison.spec.seq_len
    if chunk is None or chunk >= steps:
        return []
    chunks, rest = divmod(steps, chunk)
    last = f" and one of {counted(rest, 'step')}" if rest else ""
    of = f"{counted(chunks, 'chunk')} of {counted(chunk, 'step')}{last}"
    return [Sentence("In chunks", f"{of}, each from the state after the one before.")]


def _step_by_step(comparison: Verdict) -> Page:
    if comparison.question.resync:
        count = counted(comparison.outputs[-1].shape[1], "sequence")
        return [Sentence("Step by step", f"{count} of one step, each fed the reference's state before it.")]
    reference = comparison.reference
    checks = (reference.function, reference.left, reference.right) if reference else ()
    counts = [each.whole_steps for each in checks if each.whole_steps is not None]
    if not counts:
        return []
    first = f"; the first {counted(max(counts), 'step')} as a whole too" if max(counts) else ""
    why = "rounding moves whole runs too far to tell, so every step was compared by itself, from the reference's state"
    return [Sentence("Step by step", f"{why}{first}.")]


def _power(comparison: Verdict) -> Page:
    power = comparison.reasons.power
    if power is None:
        return []
    outcomes = {"caught": power.caught, "missed": power.missed, "never seen": power.equivalent}
    columns = (Column("outcome"), Column("count", number=True), Column("deviations on the right side", prose=True))
    rows = tuple((word, str(len(names)), "; ".join(names) or "-") for word, names in outcomes.items())
    return [Grid("What this comparison would have caught", columns, rows)]


def verdict_in_words(comparison: Verdict) -> str:
    """The verdict and why, in one or two sentences."""
    return f"{comparison.verdict}: {_because(comparison)}."


def _side_in_words(comparison: Verdict, side: str, the: str = "the") -> str:
    """A side by its place and its subject: "the right side (cells)"."""
    return f"{the} {side} side ({comparison.left if side == 'left' else comparison.right})"


def _arithmetic_in_words(arithmetic: str) -> str:
    """The name of an arithmetic as people write it."""
    return "TF32" if arithmetic == "tf32" else arithmetic


def _tensor_in_words(name: str) -> str:
    """An output by its name, a gradient as "the gradient of x", so that x is not taken for the input."""
    return _TENSORS.get(name, f"the gradient of {name}")


def _because(comparison: Verdict) -> str:
    reference = comparison.reference
    if comparison.cause == "shape":
        names = [each.name for each in comparison.figures.rows if each.shape != each.right_shape]
        return f"the shapes of {' and '.join(names)} differ"
    if comparison.cause == "nonfinite":
        sides = " and ".join(_side_in_words(comparison, side) for side in comparison.nonfinite)
        return f"NaN or infinity came out of {sides}" if sides else "in float64 NaN or infinity came out"
    if reference is None:
        return _BY_TOLERANCE[comparison.verdict]
    if not reference.function.within:
        return _other_function(comparison, reference)
    if comparison.cause == "precision":
        check = reference.left if comparison.side == "left" else reference.right
        name, used = _side_in_words(comparison, comparison.side or ""), _arithmetic_in_words(check.arithmetic)
        return f"same function, but {name} computes worse than {used} allows: {_off(check.worst)}"
    far = " as far as can be told" if reference.function.whole_steps is not None else ""
    same = "same function" + (" as far as a recorded run can tell" if comparison.sides.recorded else far)
    same += ", though not torch's" if reference.deviating else ""
    same += ", though their weights differ" if comparison.weights else ""
    if not reference.decided:
        over = ", and elements are over the tolerance" if comparison.verdict == "different" else ""
        return _undecided(reference) + over
    if comparison.verdict == "different":
        return f"{same}, and they differ by rounding alone, but elements are over the tolerance"
    if comparison.verdict == "identical":
        return f"{same}, and every bit agrees"
    return f"{same}; {_rounding(comparison, reference)}"


def _other_function(comparison: Verdict, reference: Reference) -> str:
    if reference.about_float32:
        check = reference.left if reference.about_float32[0] == "left" else reference.right
        sides = " and ".join(_side_in_words(comparison, side) for side in reference.about_float32)
        verb = "computes" if len(reference.about_float32) == 1 else "compute"
        inside = f"{sides} {verb} in about float32 inside, or a weight is off by as little"
        return f"{inside}: in float64 {_off(check.worst)}"
    used, worst = _arithmetic_in_words(reference.function.arithmetic), reference.function.worst
    apart = f"in {used} {_tensor_in_words(worst.name)} is {worst.error:.2g} apart"
    apart += f", and rounding explains {worst.bound:.2g}"
    return f"not the same function: {apart}{_who(comparison, reference)}{_of_a_recording(comparison, reference)}"


def _who(comparison: Verdict, reference: Reference) -> str:
    """Which side is off, or whether it is the weights."""
    own = " with its own weights" if comparison.weights else ""
    if len(reference.deviating) == 2:
        return f". Neither side computes what torch's equations say{own}"
    if comparison.side is not None:
        off = _side_in_words(comparison, comparison.side)
        return f". It is {off} that does not compute what torch's equations say{own}"
    return ". It is the weights: both sides compute what torch's equations say of their own" if own else ""


def _of_a_recording(comparison: Verdict, reference: Reference) -> str:
    if comparison.sides.recorded is None or comparison.sides.recorded not in reference.deviating:
        return ""
    if reference.about_coarser:
        names = "TF32 or float16" if reference.about_coarser == "tf32" else reference.about_coarser
        near = f". It is as near as {names} would be"
        return f"{near}: it may have been computed in that, or a weight is off by as little"
    return ". A recorded run has no float64, so that it may be worse precision too"


def _off(worst: Margin) -> str:
    return f"{_tensor_in_words(worst.name)} is {worst.error:.2g} off, and rounding explains {worst.bound:.2g}"


def _undecided(reference: Reference) -> str:
    if not reference.function.decided:
        return f"rounding in float64 alone may move {_moved(reference.function)}, so that nothing can be told"
    check = reference.right if reference.left.decided else reference.left
    used = _arithmetic_in_words(check.arithmetic)
    moved = f"same function in float64, but in {used} rounding alone may move {_moved(check)}"
    return f"{moved}: how well the sides compute is not decidable in this precision"


def _moved(check: Check) -> str:
    """What is moved too far, and how far."""
    widest = max((each for each in check.margins if not each.decided), key=lambda each: each.bound)
    far = f"by {widest.bound:.2g}" if math.isfinite(widest.bound) else "without limit"
    steps = "even in a single step" if check.single_steps else "over all steps, and single ones cannot be taken"
    return f"{_tensor_in_words(widest.name)} {far} {steps}"


def _rounding(comparison: Verdict, reference: Reference) -> str:
    sides = {"left": reference.left.arithmetic, "right": reference.right.arithmetic}
    tf32 = [side for side, arithmetic in sides.items() if arithmetic == "tf32"]
    if tf32 and reference.without_tf32 is not None:
        who = "both sides compute" if len(tf32) == 2 else f"{_side_in_words(comparison, tf32[0])} computes"
        return f"{who} in TF32; --no-tf32 brings it to {reference.without_tf32:.2g}"
    if _through_onednn(comparison):
        half = comparison.sides.dtypes[0]
        return f"the module computes through oneDNN, which rounds {half} in its own way; --no-onednn leaves it out"
    used = list(dict.fromkeys(map(_arithmetic_in_words, sides.values())))
    allow = "allows" if len(used) == 1 else "allow"
    return f"they differ by rounding alone, and each side is as exact as {' and '.join(used)} {allow}"


def _through_onednn(comparison: Verdict) -> bool:
    """Whether oneDNN takes nn.LSTM over in bfloat16, and with it most of the difference."""
    spec, module = comparison.spec, "module" in (comparison.left, comparison.right)
    taken = spec.kind == "lstm" and not spec.proj_size and spec.lengths is None and module
    same_place = comparison.device_name == "cpu" and set(comparison.sides.dtypes) == {"bfloat16"}
    return taken and same_place and dict(comparison.back_ends).get("onednn", False)


_MOST_LEVELS = 9
"""A level is one digit."""

_EQUAL, _NONFINITE, _MARK = ".", "N", "!"

_LEAST_CELLS = 10

_SHADES = ("cyan", "blue", "magenta")
"""From small to great. Red is kept for what is over its bound."""


class _Scale:
    """Digits for ever greater differences: three a decade, or one if three are too many."""

    def __init__(self, rows: Sequence[HeatRow]) -> None:
        found = [each for row in rows for each in row.max_abs if 0 < each < math.inf]
        self.ends = _ends(min(found), max(found)) if found else []
        self.has_nonfinite = any(not math.isfinite(each) for row in rows for each in row.max_abs)

    def sign(self, value: float) -> str:
        if not math.isfinite(value):
            return _NONFINITE
        return str(bisect_right(self.ends, value) + 1) if value else _EQUAL

    def shade(self, sign: str) -> str | None:
        if sign in (_MARK, _NONFINITE):
            return "bold red"
        return None if sign == _EQUAL else _SHADES[(int(sign) - 1) * len(_SHADES) // len(self.ends)]


def heat_page(spec: Spec, heat: HeatMap, limit: str) -> Page:
    """The map and what explains it.

    Args:
        limit: what a cell may be over: its bound or its tolerance.
    """
    if not heat.rows:
        return [Sentence("Map", "none, since the shapes differ.")]
    page: Page = [Drawing("Greatest difference of each layer and step", partial(_draw, spec, heat))]
    if heat.first_over is None:
        page.append(Sentence("Map", f"nothing is marked, since no output is over its {limit}."))
    else:
        step, layer, way = heat.first_over
        place = f"step {step}, {layer_in_words(spec, layer, way)}"
        page.append(Sentence("Map", f"{_MARK} marks {place}, the first over its {limit}.", "bad"))
    if not heat.whole:
        why = "a side cannot show the layers below the top one, so that they and the gates are not drawn."
        page.append(Sentence("Note", why))
    elif GATES[spec.kind]:
        page.append(Sentence("Gates", "what the equations make of each side's own weights and states, in float64."))
    return page


def _draw(spec: Spec, heat: HeatMap, width: int) -> list[Line]:
    drawn = {layer for layer in (*shown_layers(spec), heat.first_over and heat.first_over[1]) if layer is not None}
    rows = [row for row in heat.rows if row.layer in drawn]
    scale, labels, ends = _Scale(rows), [_label(spec, row) for row in rows], [_greatest(row) for row in rows]
    left, steps = max(map(len, labels)), len(rows[0].max_abs)
    per = math.ceil(steps / max(width - left - max(map(len, ends)) - 5, _LEAST_CELLS))
    lines: list[Line] = []
    for row, label, end in zip(rows, labels, ends, strict=True):
        shaded = (("".join(run), shade) for shade, run in groupby(_signs(heat, row, scale, per), key=scale.shade))
        lines.append(((f"{label:<{left}} |", None), *shaded, (f"|  {end}", None)))
    last = f"{steps - 1:>{max(math.ceil(steps / per) - 1, len(str(steps - 1)) + 1)}}" if steps > 1 else ""
    words = [f"{'step':>{left}}  0{last}", *_legend(scale, per, steps, width)]
    if hidden := len({row.layer for row in heat.rows} - drawn):
        words.append(f"Not drawn: {counted(hidden, 'layer')} more.")
    return [*lines, *(((line, None),) for line in words)]


def _signs(heat: HeatMap, row: HeatRow, scale: _Scale, per: int) -> Iterator[str]:
    """The signs of a row, each of so many steps; the first cell over its bound is marked in the row of the state."""
    first = heat.first_over
    marked = first[0] // per if first and row.gate is None and first[1:] == (row.layer, row.direction) else None
    for number, start in enumerate(range(0, len(row.max_abs), per)):
        yield _MARK if number == marked else scale.sign(max(row.max_abs[start : start + per], key=nan_last))


def _label(spec: Spec, row: HeatRow) -> str:
    what = row.gate or ("y" if row.layer == spec.num_layers - 1 else "h")
    return f"{layer_in_words(spec, row.layer, row.direction)}, {what}"


def _greatest(row: HeatRow) -> str:
    value = max(row.max_abs, key=nan_last)
    return "equal" if value == 0 else f"{value:.3g} at step {row.max_abs.index(value)}"


def _ends(least: float, greatest: float) -> list[float]:
    """The upper end of each level: the finest levels that are not too many."""
    decades = range(math.floor(math.log10(least)), math.floor(math.log10(greatest)) + 1)
    ends = [float(f"{digit}e{decade}") for decade in decades for digit in (2, 5, 10)]
    ends = ends[bisect_right(ends, least) : bisect_right(ends, greatest) + 1]
    if len(ends) <= _MOST_LEVELS:
        return ends
    per = math.ceil(len(decades) / _MOST_LEVELS)
    return [float(f"1e{decade + per}") for decade in decades[::per]]


def _legend(scale: _Scale, per: int, steps: int, width: int) -> Iterator[str]:
    """What each sign stands for, and how many steps a character does."""
    words = [f"{_EQUAL} equal", *(f"{level} below {end:g}" for level, end in enumerate(scale.ends, 1))]
    words += [f"{_NONFINITE} NaN or infinity"] if scale.has_nonfinite else []
    unbroken = "  ".join(["Scale:", *(word.replace(" ", "\xa0") for word in words)])
    for line in textwrap.wrap(unbroken, width, subsequent_indent="        "):
        yield line.replace("\xa0", " ")
    if per > 1:
        of_last = f", the last of {steps % per}" if steps % per else ""
        yield from textwrap.wrap(f"Each character is the greatest of {per} steps{of_last}.", width)


def _facts(comparison: Verdict) -> dict[str, Any]:
    """Every figure, for JSON."""
    sides, question, figures, reasons = comparison.sides, comparison.question, comparison.figures, comparison.reasons
    reference, place, heat = comparison.reference, comparison.first_divergence, comparison.heat_map
    return {
        "left": sides.left,
        "right": sides.right,
        "outputs": [asdict(each) for each in figures.outputs],
        **({} if figures.gradients is None else {"gradients": [asdict(each) for each in figures.gradients]}),
        "tolerance": asdict(comparison.tolerance),
        "reference": reference and _reference_document(reference),
        "verdict": comparison.verdict,
        "cause": comparison.cause,
        "side": comparison.side,
        "first_divergence": place and asdict(place),
        "explanations": [asdict(each) for each in reasons.explanations],
        "power": reasons.power and asdict(reasons.power),
        **({} if heat is None else {"map": asdict(heat)}),
        "blind_spots": list(comparison.blind_spots),
        "back_ends": dict(comparison.back_ends),
        "dtypes": list(sides.dtypes),
        "resync": question.resync,
        "chunk": question.chunk,
        "weight_differences": [asdict(each) for each in sides.weights],
        "dependences": [asdict(each) for each in reasons.dependences],
        "recorded": sides.recorded,
        "returned": dict(figures.wrong_dtypes),
        "ungraded": {role: list(names) for role, names in figures.missing_gradients},
    }


def _reference_document(reference: Reference) -> dict[str, Any]:
    """The figures of each check: the greatest of all tensors, and then tensor by tensor."""
    checks = {"function": reference.function, "left": reference.left, "right": reference.right}
    return {
        "dtype": "float64",
        **{f"{name}_max_abs": check.max_abs for name, check in checks.items()},
        "bound": reference.function.worst.bound,
        "without_tf32_max_abs": reference.without_tf32,
        "other": list(reference.deviating),
        "about_float32": list(reference.about_float32),
        "about_coarser": reference.about_coarser,
        "checks": {
            name: asdict(check) | {"within": check.within, "decided": check.decided} for name, check in checks.items()
        },
    }
