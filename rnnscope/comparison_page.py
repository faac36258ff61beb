"""What people are told of a comparison: the figures of each row, the tolerance and the verdict."""

from typing import TYPE_CHECKING

from rnnscope.pages import Column, Grid, Page, Sentence, as_tuple, network, thousands, where_it_ran

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.comparison import Comparison
    from rnnscope.differences import Difference

_INDEXED = {"y": "y", "padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""


def page_of_comparison(comparison: "Comparison") -> Page:
    """The tables and sentences of `rnnscope compare`."""
    left, right, tolerance = comparison.left, comparison.right, comparison.tolerance
    source = "as given" if tolerance.given else f"torch.testing's for {comparison.spec.dtype}"
    grids = [
        _comparison_grid(
            f"{right} against {left}, {network(comparison.spec)}", "output", comparison.outputs, comparison
        )
    ]
    if comparison.gradients is not None:
        grids.append(_comparison_grid("Gradients", "gradient of", comparison.gradients, comparison))
    return [
        *grids,
        Sentence("Tolerance", f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."),
        Sentence("Verdict", _verdict(comparison), "bad" if comparison.verdict == "different" else "good"),
        Sentence("Run", where_it_ran(comparison)),
        Sentence("Rerun", comparison.rerun, verbatim=True),
    ]


def _comparison_grid(title: str, first: str, differences: tuple["Difference", ...], comparison: "Comparison") -> Grid:
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", "over tolerance")
    numbers = ("max abs", "max rel", "max ulp", "over tolerance")
    columns = tuple(Column(name, number=name in numbers) for name in names)
    return Grid(title, columns, tuple(_comparison_row(each, comparison.left, comparison.right) for each in differences))


def _verdict(comparison: "Comparison") -> str:
    float64 = comparison.spec.dtype == "float64"
    doubt = "" if float64 else "; --dtype float64 tells whether that is rounding"
    why = {
        ("identical", None): "every bit agrees",
        ("equivalent", None): "every element is within the tolerance",
        ("different", None): f"elements are over the tolerance{doubt}",
        ("different", "nonfinite"): "NaN or infinity came out, which is never the same",
        ("different", "shape"): "the shapes differ, so no numbers were compared",
    }
    return f"{comparison.verdict}: {why[comparison.verdict, comparison.cause]}."


def _comparison_row(each: "Difference", left: str, right: str) -> tuple[str, ...]:
    if each.max_abs is None or each.max_rel is None or each.max_ulp is None or each.worst_index is None:
        return (each.name, f"{left} {as_tuple(each.shape)}, {right} {as_tuple(each.right_shape)}", *["-"] * 5)
    return (
        each.name,
        as_tuple(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        f"{each.max_ulp:.3g}",
        f"{thousands(each.mismatched or 0)} of {thousands(each.total)}",
    )
