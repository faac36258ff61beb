"""What people are told of a comparison: the figures of each row, what the reference tells of each side, the verdict."""

from typing import TYPE_CHECKING

from rnnscope.pages.page import (
    Column,
    Grid,
    Page,
    Sentence,
    as_tuple,
    back_ends_in_words,
    counted,
    network,
    place_in_words,
    thousands,
)
from rnnscope.verdict.heat_page import heat_page
from rnnscope.verdict.verdict_words import arithmetic_in_words, sentence_case, side_in_words, verdict_in_words

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.verdict.figures import Difference
    from rnnscope.verdict.margins import Check
    from rnnscope.verdict.result import Comparison, Reference

_INDEXED = {"y": "y", "padding": "y", "y padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""


def page_of_comparison(comparison: "Comparison") -> Page:
    """The tables and sentences of `rnnscope compare`."""
    left, right, tolerance = comparison.left, comparison.right, comparison.tolerance
    title = f"{right} against {left}, {network(comparison.spec)}"
    page: Page = [_differences_grid(title, "output", comparison.outputs, comparison)]
    if comparison.gradients is not None:
        page.append(_differences_grid("Gradients", "gradient of", comparison.gradients, comparison))
    if comparison.weights:
        page.append(_differences_grid("Weights that differ", "weight", comparison.weights, comparison))
    if comparison.reference is not None:
        page.append(_reference_grid(comparison, comparison.reference))
    if comparison.binds:
        source = "as given" if tolerance.given else "torch.testing's, since no reference was asked for"
        rule = f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."
        page.append(Sentence("Tolerance", rule))
    mood = "good" if comparison.exit_code == 0 else "bad"
    page.append(Sentence("Verdict", verdict_in_words(comparison), mood))
    page += [*_why(comparison), *_own(comparison), *_where(comparison), *_in_chunks(comparison)]
    page += [*_step_by_step(comparison), *_power(comparison)]
    if comparison.heat_map is not None:
        limit = "tolerance" if comparison.first_divergence is None and comparison.binds else "bound"
        if comparison.reference and not comparison.reference.function.within:
            limit = "bound in float64"  # where the map may show nothing
        page += heat_page(comparison.spec, comparison.heat_map, limit)
    page += [Sentence("Blind spot", f"{each}.") for each in comparison.blind_spots]
    page.append(Sentence("Run", _run(comparison)))
    return page + ([Sentence("Rerun", comparison.rerun, verbatim=True)] if comparison.rerunnable else [])


def _differences_grid(title: str, first: str, differences: tuple["Difference", ...], comparison: "Comparison") -> Grid:
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", *(["over tolerance"] if comparison.binds else []))
    columns = tuple(Column(name, number=name not in (first, "shape", "at")) for name in names)
    rows = (_differences_row(each, comparison) for each in differences)
    return Grid(title, columns, tuple(rows))


def _differences_row(each: "Difference", comparison: "Comparison") -> tuple[str, ...]:
    binding = comparison.binds
    if each.max_abs is None or each.max_rel is None or each.worst_index is None:
        shapes = f"{comparison.left} {as_tuple(each.shape)}, {comparison.right} {as_tuple(each.right_shape)}"
        return (each.name, shapes, *["-"] * (5 if binding else 4))
    row = (
        each.name,
        as_tuple(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        "-" if each.max_ulp is None else f"{each.max_ulp:.3g}",
    )
    return (*row, f"{thousands(each.mismatched or 0)} of {thousands(each.total)}") if binding else row


def _reference_grid(comparison: "Comparison", reference: "Reference") -> Grid:
    """Of each check the tensor that is nearest to its bound, with the error and the bound there."""
    checks = {
        "right against left": reference.function,
        f"left: {comparison.left}": reference.left,
        f"right: {comparison.right}": reference.right,
    }
    titles = ("what", "computed in", "error", "bound", "nearest to it at")
    columns = tuple(Column(name, number=name in ("error", "bound")) for name in titles)
    rows = tuple(_reference_row(what, check) for what, check in checks.items())
    return Grid("Against the equations in float64", columns, rows)


def _reference_row(what: str, check: "Check") -> tuple[str, ...]:
    worst, index = check.worst, [str(each) for each in check.worst.index]
    at = f"{worst.name if worst.name in _INDEXED else f'grad of {worst.name}'}[{', '.join(index)}]"
    if check.single_steps and len(index) == 3:
        at = "{}: step {}, item {}, unit {}".format(worst.name, *index)
    elif check.single_steps and len(index) == 4:
        at = "{0}[{2}]: step {1}, item {3}, unit {4}".format(worst.name, *index)
    row = (what, arithmetic_in_words(check.arithmetic), f"{worst.error:.3g}", f"{worst.bound:.3g}")
    return (*row, at if worst.error else "-")


def _why(comparison: "Comparison") -> Page:
    """The conventions that a side follows instead of torch's."""
    reference = comparison.reference
    if reference is None or not reference.other or reference.about_float32:
        return []
    found = [f"{sentence_case(side_in_words(comparison, each.side))} {each.does}" for each in comparison.explanations]
    if not found and reference.about_coarser:
        return []
    if not found and (comparison.dependences or (comparison.weights and not comparison.explanations)):
        return []
    if not found and all(each.within for each in reference.function.margins if each.name in _INDEXED):
        found = ["only gradients differ, so no convention of the outputs explains it"]
    return [Sentence("Why", f"{each}.") for each in found or ["no known convention explains it"]]


def _own(comparison: "Comparison") -> Page:
    """What was noticed of somebody's own class."""
    page: Page = []
    for each in comparison.dependences:
        side = sentence_case(side_in_words(comparison, each.side))
        if each.ignores:
            page.append(Sentence("Why", f"{side}: its output does not depend on {', '.join(each.ignores)}."))
        if not each.repeats:
            page.append(Sentence("Why", f"{side} gives something else each time it is run."))
    for role, names in comparison.ungraded:
        side, named = side_in_words(comparison, role), ", ".join(names)
        page.append(Sentence("Blind spot", f"{side} gives no gradient of {named}, so that these are not compared."))
    for role, dtype in comparison.returned:
        asked = comparison.dtypes[0 if role == "left" else 1]
        side = sentence_case(side_in_words(comparison, role))
        page.append(Sentence("Note", f"{side} returned {dtype} where {asked} was asked for."))
    return page


def _where(comparison: "Comparison") -> Page:
    place = comparison.first_divergence
    if place is None:
        return []
    return [Sentence("First at", f"{place_in_words(comparison.spec, place)}.")]


def _in_chunks(comparison: "Comparison") -> Page:
    if comparison.chunk is None or comparison.chunk >= comparison.spec.seq_len:
        return []
    chunks, rest = divmod(comparison.spec.seq_len, comparison.chunk)
    last = f" and one of {counted(rest, 'step')}" if rest else ""
    of = f"{counted(chunks, 'chunk')} of {counted(comparison.chunk, 'step')}{last}"
    return [Sentence("In chunks", f"{of}, each from the state after the one before.")]


def _step_by_step(comparison: "Comparison") -> Page:
    if comparison.resync:
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


def _power(comparison: "Comparison") -> Page:
    power = comparison.power
    if power is None:
        return []
    meaning = {
        "caught": power.caught,
        "missed": power.missed,
        "never seen": power.equivalent,
    }
    columns = (Column("outcome"), Column("count", number=True), Column("deviations on the right side", prose=True))
    rows = tuple((word, str(len(names)), "; ".join(names) or "-") for word, names in meaning.items())
    return [Grid("What this comparison would have caught", columns, rows)]


def _run(comparison: "Comparison") -> str:
    dtypes = " and ".join(dict.fromkeys(comparison.dtypes))
    on = back_ends_in_words(comparison.back_ends)
    return f"on {comparison.device_name} in {dtypes}, {on}, torch {comparison.torch_version}."
