"""What people are told of a sweep: how many configurations agree, by the values of each flag, and which do not."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, ended, thousands
from rnnscope.sweeps.result import OUTCOMES, Finding, Sweep, Tally

_ALWAYS = ("identical", "equivalent", "different", "not_comparable")


_CAUSES = {
    "function": "Another function",
    "precision": "Less precise",
    "shape": "Other shapes",
    "nonfinite": "NaN or infinity",
}


_MOST = 3
"""So many lines, and so many reasons, are shown; JSON has them all."""


def page_of_sweep(sweep: Sweep) -> Page:
    """The table and sentences of `rnnscope sweep`."""
    page: Page = [
        _grid(counted(len(sweep.findings), "configuration"), sweep),
        *_verdict(sweep),
        *_different(sweep),
        *_messages(sweep),
    ]
    if sweep.torch_version:
        ranks = f", shared by {counted(sweep.workers, 'rank')} of torchrun" if sweep.workers else ""
        page.append(Sentence("Run", f"torch {sweep.torch_version}{ranks}."))
    return [*page, Sentence("Rerun", sweep.rerun, verbatim=True)]


def _grid(title: str, sweep: Sweep) -> Grid:
    """A row for each value of each flag that has several, and one for all."""
    outcomes = [each for each in OUTCOMES if each in _ALWAYS or sweep.total.counts[each]]
    columns = (
        *(Column("flag"), Column("value")),
        *(Column(each.replace("_", " "), number=True) for each in outcomes),
        Column("max abs", number=True),
    )
    rows, before = [], None
    for tally in (*sweep.tallies, sweep.total):
        rows.append(("" if tally.flag == before else tally.flag, *_cells(tally, outcomes)))
        before = tally.flag
    return Grid(title, columns, tuple(rows))


def _cells(tally: Tally, outcomes: list[str]) -> Iterator[str]:
    yield tally.value
    yield from (thousands(tally.counts[each]) if tally.counts[each] else "-" for each in outcomes)
    yield "-" if tally.max_abs is None else f"{tally.max_abs:.3g}"


def _verdict(sweep: Sweep) -> Page:
    counts = sweep.total.counts
    compared = sum(counts[each] for each in ("identical", "equivalent", "different", "undecided"))
    left = [f"{thousands(counts[each])} {each}" for each in ("undecided", "failed") if counts[each]]
    if sweep.verdict == "different":
        text = f"of {counted(compared, 'comparison')} {thousands(counts['different'])} found a difference"
    elif sweep.verdict == "same":
        text = f"of {counted(compared, 'comparison')} none found more than rounding"
    elif not compared:
        text = "nothing was compared"
    else:
        text = f"of {counted(compared, 'comparison')} none found a difference"
    return [Sentence("Verdict", "; ".join((text, *left)) + ".", "good" if sweep.verdict == "same" else "bad")]


def _different(sweep: Sweep) -> Page:
    """Those that differ, and the smallest command that shows it."""
    found = sorted((each for each in sweep.findings if each.outcome == "different"), key=_by_size)
    page: Page = [
        Sentence(_CAUSES.get(each.cause or "", "Over the tolerance"), each.rerun, verbatim=True)
        for each in found[:_MOST]
    ]
    if len(found) > _MOST:
        page.append(Sentence("More", f"{counted(len(found) - _MOST, 'line')} like these: --format tsv lists all."))
    if sweep.smallest:
        page.append(Sentence("Smallest that differs", sweep.smallest, verbatim=True))
    return page


def _by_size(found: Finding) -> tuple[bool, int, str]:
    return found.cause != "function", found.size, found.rerun


def _messages(sweep: Sweep) -> Page:
    """Why some were not compared."""
    labels = {"not_comparable": "Not comparable", "failed": "Failed"}
    page: Page = [
        Sentence(labels[outcome], ended(f"{thousands(count)}, since {message}"))
        for outcome, message, count in sweep.messages[:_MOST]
    ]
    if len(sweep.messages) > _MOST:
        page.append(Sentence("More", f"{counted(len(sweep.messages) - _MOST, 'reason')}: --format tsv lists all."))
    return page


def document_of_sweep(sweep: Sweep) -> dict[str, Any]:
    first = sweep.first_different
    return {
        "verdict": sweep.verdict,
        "counts": dict(sweep.total.counts),
        "max_abs": sweep.total.max_abs,
        "axes": [asdict(each) for each in sweep.tallies],
        "messages": [
            {"status": status, "message": message, "count": count} for status, message, count in sweep.messages
        ],
        "first_different": first and first.rerun,
        "smallest_different": sweep.smallest,
        "configurations": [finding_record(each) for each in sweep.findings],
    }


def finding_record(found: Finding) -> dict[str, Any]:
    return {
        "outcome": found.outcome,
        "cause": found.cause,
        "max_abs": found.max_abs,
        "rerun": found.rerun,
        "message": found.message,
    }
