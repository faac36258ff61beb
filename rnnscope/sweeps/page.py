"""What people are told of a sweep: how many configurations agree, by the values of each flag, and which do not."""

from dataclasses import asdict
from typing import Any

from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, ended, thousands
from rnnscope.sweeps.result import OUTCOMES, VERDICTS, Finding, Sweep

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
    page: Page = [_grid(sweep), _verdict(sweep)]
    for each in sweep.different[:_MOST]:
        page.append(Sentence(_CAUSES.get(each.cause or "", "Over the tolerance"), each.rerun, verbatim=True))
    page += _more(len(sweep.different), "line", " like these")
    if sweep.smallest:
        page.append(Sentence("Smallest that differs", sweep.smallest, verbatim=True))
    for outcome, message, count in sweep.messages[:_MOST]:
        page.append(Sentence(outcome.replace("_", " ").capitalize(), ended(f"{thousands(count)}, since {message}")))
    page += _more(len(sweep.messages), "reason")
    if sweep.torch_version:
        ranks = f", shared by {counted(sweep.workers, 'rank')} of torchrun" if sweep.workers else ""
        page.append(Sentence("Run", f"torch {sweep.torch_version}{ranks}."))
    return [*page, Sentence("Rerun", sweep.rerun, verbatim=True)]


def _more(many: int, unit: str, like: str = "") -> Page:
    rest = many - _MOST
    return [Sentence("More", f"{counted(rest, unit)}{like}: --format tsv lists all.")] if rest > 0 else []


def _grid(sweep: Sweep) -> Grid:
    """A row for each value of each flag that has several, and one for all."""
    outcomes = [each for each in OUTCOMES if each in _ALWAYS or sweep.total.counts[each]]
    numbers = (Column(each.replace("_", " "), number=True) for each in (*outcomes, "max abs"))
    rows, before = [], None
    for tally in (*sweep.tallies, sweep.total):
        flag = "" if tally.flag == before else tally.flag
        counts = (thousands(tally.counts[each]) if tally.counts[each] else "-" for each in outcomes)
        rows.append((flag, tally.value, *counts, "-" if tally.max_abs is None else f"{tally.max_abs:.3g}"))
        before = tally.flag
    title = counted(len(sweep.findings), "configuration")
    return Grid(title, (Column("flag"), Column("value"), *numbers), tuple(rows))


def _verdict(sweep: Sweep) -> Sentence:
    counts, is_same = sweep.total.counts, sweep.verdict == "same"
    compared = sum(counts[each] for each in VERDICTS)
    found = thousands(counts["different"]) if counts["different"] else "none"
    text = f"of {counted(compared, 'comparison')} {found} found {'more than rounding' if is_same else 'a difference'}"
    left = [f"{thousands(counts[each])} {each}" for each in ("undecided", "failed") if counts[each]]
    text = "; ".join((text if compared else "nothing was compared", *left))
    return Sentence("Verdict", f"{text}.", "good" if is_same else "bad")


def document_of_sweep(sweep: Sweep) -> dict[str, Any]:
    first = sweep.first_different
    return {
        "verdict": sweep.verdict,
        "counts": dict(sweep.total.counts),
        "max_abs": sweep.total.max_abs,
        "axes": [asdict(each) for each in sweep.tallies],
        "messages": [dict(zip(("status", "message", "count"), each, strict=True)) for each in sweep.messages],
        "first_different": first and first.rerun,
        "smallest_different": sweep.smallest,
        "configurations": [finding_record(each) for each in sweep.findings],
    }


def finding_record(found: Finding) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("outcome", "cause", "max_abs", "rerun", "message")}
