"""What people are told of a comparison: the figures of each row, what the reference tells of each side, the verdict."""

from typing import TYPE_CHECKING

from rnnscope.pages import Column, Grid, Page, Sentence, as_tuple, counted, network, thousands
from rnnscope.parts import blind_spots
from rnnscope.verdict_words import arithmetic_in_words, side_in_words, verdict_in_words

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.differences import Difference
    from rnnscope.judgement import Check
    from rnnscope.verdicts import Comparison, Reference

_INDEXED = {"y": "y", "padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""


def page_of_comparison(comparison: "Comparison") -> Page:
    """The tables and sentences of `rnnscope compare`."""
    left, right, tolerance = comparison.left, comparison.right, comparison.tolerance
    title = f"{right} against {left}, {network(comparison.spec)}"
    page: Page = [_differences_grid(title, "output", comparison.outputs, comparison)]
    if comparison.gradients is not None:
        page.append(_differences_grid("Gradients", "gradient of", comparison.gradients, comparison))
    if comparison.reference is not None:
        page.append(_reference_grid(comparison, comparison.reference))
    if comparison.binds:
        source = "as given" if tolerance.given else "torch.testing's, since no reference was asked for"
        rule = f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."
        page.append(Sentence("Tolerance", rule))
    mood = "good" if comparison.exit_code == 0 else "bad"
    page.append(Sentence("Verdict", verdict_in_words(comparison), mood))
    page += [*_why(comparison), *_where(comparison), *_step_by_step(comparison)]
    page += _power(comparison)
    page += [Sentence("Blind spot", f"{each}.") for each in blind_spots(comparison.spec)]
    page.append(Sentence("Run", _run(comparison)))
    return [*page, Sentence("Rerun", comparison.rerun, verbatim=True)]


def _differences_grid(title: str, first: str, differences: tuple["Difference", ...], comparison: "Comparison") -> Grid:
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", *(["over tolerance"] if comparison.binds else []))
    columns = tuple(Column(name, number=name not in (first, "shape", "at")) for name in names)
    rows = (_differences_row(each, comparison.left, comparison.right)[: len(names)] for each in differences)
    return Grid(title, columns, tuple(rows))


def _differences_row(each: "Difference", left: str, right: str) -> tuple[str, ...]:
    if each.max_abs is None or each.max_rel is None or each.worst_index is None:
        return (each.name, f"{left} {as_tuple(each.shape)}, {right} {as_tuple(each.right_shape)}", *["-"] * 5)
    return (
        each.name,
        as_tuple(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        "-" if each.max_ulp is None else f"{each.max_ulp:.3g}",
        f"{thousands(each.mismatched or 0)} of {thousands(each.total)}",
    )


def _reference_grid(comparison: "Comparison", reference: "Reference") -> Grid:
    """Of each check the tensor that is nearest to its bound, with the error and the bound there."""
    checks = {
        "right against left": reference.function,
        f"left: {comparison.left}": reference.left,
        f"right: {comparison.right}": reference.right,
    }
    numbers = ("error", "bound", "share of it")
    columns = tuple(Column(name, number=name in numbers) for name in ("what", "computed in", *numbers, "nearest at"))
    rows = tuple(_reference_row(what, check) for what, check in checks.items())
    return Grid("Against the equations in float64, where the error is nearest to its bound", columns, rows)


def _reference_row(what: str, check: "Check") -> tuple[str, ...]:
    worst = check.worst
    share = worst.error / worst.bound if worst.error else 0.0
    at = f"{worst.name}[{', '.join(map(str, worst.index))}]" if worst.error else "-"
    return (what, arithmetic_in_words(check.arithmetic), f"{worst.error:.3g}", f"{worst.bound:.3g}", f"{share:.2g}", at)


def _why(comparison: "Comparison") -> Page:
    """The conventions that a side follows instead of torch's."""
    if comparison.cause != "function":
        return []
    found = [
        Sentence("Why", f"{side_in_words(comparison, each.side).capitalize()} {each.does}.")
        for each in comparison.explanations
    ]
    return [*found] or [Sentence("Why", "no known convention explains it.")]


def _where(comparison: "Comparison") -> Page:
    place = comparison.first_divergence
    if place is None:
        return []
    spec = comparison.spec
    words = [f"step {place.step}", f"layer {place.layer}"]
    words += [("forward", "backward")[place.direction]] if spec.bidirectional else []
    words += [f"unit {place.unit}"] + ([] if place.batch is None else [f"item {place.batch}"])
    return [Sentence("First at", f"{', '.join(words)}, in {place.tensor}.")]


def _step_by_step(comparison: "Comparison") -> Page:
    if comparison.resync:
        count = counted(comparison.outputs[-1].shape[1], "sequence")
        return [Sentence("Step by step", f"{count} of one step, each fed the reference's state before it.")]
    reference = comparison.reference
    if reference and any(each.step_by_step for each in (reference.function, reference.left, reference.right)):
        why = "rounding moves whole runs too far to tell, so every step was fed the reference's state"
        return [Sentence("Step by step", f"{why}.")]
    return []


def _power(comparison: "Comparison") -> Page:
    power = comparison.power
    if power is None:
        return []
    meaning = {
        "caught": power.caught,
        "missed": power.missed,
        "same function": power.equivalent,
    }
    columns = (Column("outcome"), Column("count", number=True), Column("deviations on the right side", prose=True))
    rows = tuple((word, str(len(names)), "; ".join(names) or "-") for word, names in meaning.items())
    return [Grid("What this comparison would have caught", columns, rows)]


def _run(comparison: "Comparison") -> str:
    dtypes = " and ".join(dict.fromkeys(comparison.dtypes))
    words = {"onednn": "oneDNN", "cudnn": "cuDNN", "tf32_in_cudnn": "TF32 in cuDNN", "tf32_in_cublas": "TF32 in cuBLAS"}
    on = [f"{words[name]} {'on' if state else 'off'}" for name, state in comparison.back_ends]
    return f"on {comparison.device_name} in {dtypes}, {', '.join(on)}, torch {comparison.torch_version}."
