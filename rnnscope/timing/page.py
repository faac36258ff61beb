"""What people are told of a benchmark: a row with a bar for each subject and length, how cost grows, the verdict."""

from collections.abc import Iterable
from typing import Any

from rnnscope.network.costs import MOST_WATCHED_STEPS, human_bytes
from rnnscope.network.shapes import network_in_words, sizes_in_words
from rnnscope.pages.page import Column, Grid, Page, Sentence, back_ends_in_words, counted, ended, thousands
from rnnscope.timing.bench import NOISY, Bench, Growth, Timing

MOST_LENGTHS = 8
"""So many lengths of a subject are shown: the first ones and the last."""

BAR, BAR_OF_SEVERAL = 20, 10
"""The width of the longest bar; with several lengths there are more columns beside it."""

_EIGHTHS = "▏▎▍▌▋▊▉█"


def page_of_bench(bench: Bench) -> Page:
    """The table and the sentences of `rnnscope bench`."""
    several = len(bench.seq_lens) > 1
    titles = ["subject", "L", "median", "spread", "steps/s", "ratio", "growth", "peak"]
    columns = [Column(each, number=each != "subject") for each in titles if several or each not in ("L", "growth")]
    rows = [row for name in _names(bench.timings) for row in _rows(bench, name)]
    steps = f"{_in_words([thousands(each) for each in bench.seq_lens])} steps" if several else None
    title = f"What {network_in_words(bench.spec)} costs, {'forward and backward' if bench.grad else 'forward'}"
    dtypes = " and ".join(dict.fromkeys(each.dtype for each in bench.timings))
    run = f"on {bench.device_name} in {dtypes}, {counted(bench.threads, 'thread')}"
    return [
        Grid(title, (*columns, Column("time")), tuple(rows)),
        Sentence("Sizes", sizes_in_words(bench.spec, steps)),
        _meanings(bench),
        *_growth(bench),
        *_compiling(bench),
        *_messages(bench),
        Sentence("Verdict", f"{_verdict(bench)}.", {"steady": "good", "noisy": None}.get(bench.verdict, "bad")),
        *_unseen(bench),
        *_busy(bench),
        Sentence("Run", f"{run}, {back_ends_in_words(bench.back_ends)}, torch {bench.torch_version}."),
        Sentence("Rerun", bench.rerun, verbatim=True),
    ]


def bar(value: float, greatest: float, width: int) -> str:
    """A bar as long as the value is of the greatest one, to an eighth of a sign; one that is not 0 is seen."""
    eighths = max(round(value / greatest * width * 8), 1)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def duration(seconds: float) -> str:
    """Seconds with three significant digits, in the unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_figure(seconds / size)} {unit}"
    return f"{_figure(seconds * 1e9)} ns"


def _figure(number: float) -> str:
    """A number with three significant digits, never as a power."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def _rows(bench: Bench, typed: str) -> list[tuple[str, ...]]:
    every = [_row(bench, each) for each in bench.timings if each.typed == typed]
    if len(every) <= MOST_LENGTHS:
        return every
    left_out = counted(len(every) - MOST_LENGTHS + 1, "length")
    between = (f"... {left_out} ...", *[""] * (len(every[0]) - 1))
    return [*every[: MOST_LENGTHS - 2], between, every[-1]]


def _row(bench: Bench, timing: Timing) -> tuple[str, ...]:
    several = len(bench.seq_lens) > 1
    named = (timing.typed, *([thousands(timing.seq_len)] if several else []))
    if not timing.measured:
        return (*named, *["-"] * (6 if several else 5), "")
    ratio, growth = bench.ratio(timing), bench.growth(timing)
    is_rough = ratio is not None and timing.typed != bench.baseline and (ratio.noisy or ratio.told is None)
    greatest = max(each.median for each in bench.measured)
    return (
        *named,
        duration(timing.median),
        _spread(timing),
        _figure(timing.steps_per_s),
        "-" if ratio is None else f"{'~' if is_rough else ''}{_figure(ratio.value)}",
        *([_times(growth) if growth else "-"] if several else []),
        "-" if timing.peak_bytes is None else human_bytes(timing.peak_bytes),
        bar(timing.median, greatest, BAR_OF_SEVERAL if several else BAR),
    )


def _spread(timing: Timing) -> str:
    return f"{_figure(100 * timing.iqr / timing.median)} %"


def _times(growth: Growth) -> str:
    return f"{'~' if growth.noisy else ''}x {_figure(growth.times)}"


def _meanings(bench: Bench) -> Sentence:
    """What the columns mean."""
    several = len(bench.seq_lens) > 1
    together = "" if bench.spec.unbatched else ", which all sequences of the batch take together"
    at = " at the same L" if several else ""
    ratio = f"to {bench.baseline}{at}; ~ where noise makes it rough, or it cannot be told from 1"
    if not any(bench.ratio(each) for each in bench.timings):
        ratio = f"none, since {bench.baseline} was not timed"
    text = f"of a call. Spread: interquartile range / median. Steps/s: time steps{together}. Ratio: {ratio}."
    text += " Growth: to the row above." if several else ""
    text += " Peak: memory that a call takes on top of weights and input"
    if any(each.peak_bytes is None for each in bench.measured):
        text += f", of at most {thousands(MOST_WATCHED_STEPS)} steps in all layers and directions"
    return Sentence("Median", f"{text}.")


def _growth(bench: Bench) -> Page:
    """How cost grows from the shortest length to the longest, of each subject that was timed at both."""
    grown = [f"{name} {_times(each)}" for name in _names(bench.timings) if (each := bench.growth_in_all(name))]
    first, last = bench.seq_lens[0], bench.seq_lens[-1]
    lengths = f"from L = {thousands(first)} to {thousands(last)}, x {_figure(last / first)} the steps"
    return [Sentence("Growth", f"{lengths}: {', '.join(grown)}.")] if grown else []


def _compiling(bench: Bench) -> Page:
    """How long the compiler took, which no median holds."""
    found = [each for each in bench.measured if each.compile_s]
    at = _in_words([f"{duration(each.compile_s or 0)}{_where(bench, [each])}" for each in found])
    return [Sentence("Compiling", f"took the first call of compiled {at}, which is in no median.")] if found else []


def _messages(bench: Bench) -> Page:
    """Why rows were not timed; once where it is the same at several lengths."""
    reasons: dict[tuple[str, str], list[Timing]] = {}
    for each in bench.timings:
        if each.message is not None:
            reasons.setdefault((each.typed, each.message), []).append(each)
    texts = [f"{typed}{_where(bench, rows)}: {message}" for (typed, message), rows in reasons.items()]
    return [Sentence("Not timed", ended(each), "bad") for each in texts]


def _verdict(bench: Bench) -> str:
    """The verdict and why."""
    unsure, near = bench.untold(noisy=True), bench.untold(noisy=False)
    also = f"; as far as it shows, {_named(bench, near)} as fast as {bench.baseline}" if near else ""
    if bench.verdict == "failed":
        return "failed: nothing was timed"
    if bench.verdict == "steady":
        return f"steady: every spread is below {100 * NOISY:.0f} %{also}"
    worst = max(bench.measured, key=lambda each: each.iqr / each.median)
    spread = f"the spread of {_named(bench, [worst])} {_spread(worst)}"
    mend = "leave the machine alone, or raise --min-time"
    if bench.verdict == "undecided":
        whether = f"whether {_named(bench, unsure)} slower or faster than {bench.baseline}"
        return f"too noisy to tell {whether}: {spread}; {mend}{also}"
    if any(bench.ratio(each) for each in bench.measured if each.typed != bench.baseline):
        spread += ", so that ratios with ~ are rough, but which is faster shows"
    return f"noisy: {spread}; {mend}{also}"


def _unseen(bench: Bench) -> Page:
    """Somebody's own class was only timed, which people might take for more."""
    own = [each for each in _names(bench.measured) if ":" in each]
    compute = "computes" if len(own) == 1 else "compute"
    text = f"whether {_in_words(own)} {compute} the same: see rnnscope compare."
    return [Sentence("Not asked", text)] if own else []


def _busy(bench: Bench) -> Page:
    """A machine that is equally busy in every round shows in no spread."""
    if not bench.busy:
        return []
    slow = ", so that all figures may be too high"
    if bench.threads > 1:
        slow = f", and {bench.threads} threads wait for the slowest of them: --threads 1 waits for none"
    on = f"on {counted(bench.cpus, 'CPU')}{slow}"
    return [Sentence("Busy", f"the machine had {bench.load:.2g} CPUs' work before this began, {on}.")]


def _names(timings: Iterable[Timing]) -> list[str]:
    """The subjects, each once."""
    return list(dict.fromkeys(each.typed for each in timings))


def _named(bench: Bench, timings: list[Timing]) -> str:
    """Rows by their subjects, with their lengths unless all are meant, and the verb: "cells at L = 3 is"."""
    rows = {name: [each for each in timings if each.typed == name] for name in _names(timings)}
    subjects = _in_words([f"{name}{_where(bench, every)}" for name, every in rows.items()])
    return f"{subjects} {'is' if len(rows) == 1 else 'are'}"


def _where(bench: Bench, timings: list[Timing]) -> str:
    """At which lengths, unless it is at all of them."""
    if len(timings) == len(bench.seq_lens):
        return ""
    lengths = [thousands(each.seq_len) for each in timings]
    if len(lengths) > MOST_LENGTHS:
        lengths = [*lengths[: MOST_LENGTHS - 1], f"{len(lengths) - MOST_LENGTHS + 1} more lengths"]
    return f" at L = {_in_words(lengths)}"


def _in_words(words: list[str]) -> str:
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last


def document_of_bench(bench: Bench) -> dict[str, Any]:
    """What programs get of a benchmark."""
    return {
        "rows": [timing_record(bench, each) for each in bench.timings],
        "seq_lens": list(bench.seq_lens),
        "yardstick": bench.baseline,
        "grad": bench.grad,
        "min_time_s": bench.min_time,
        "threads": bench.threads,
        "cpus": bench.cpus,
        "load": bench.load,
        "back_ends": dict(bench.back_ends),
        "verdict": bench.verdict,
    }


def timing_record(bench: Bench, timing: Timing) -> dict[str, Any]:
    """One row; figures are None if it was not measured."""
    measured, ratio, growth = timing.measured, bench.ratio(timing), bench.growth(timing)
    p25, median, p75 = timing.quartiles if measured else (None, None, None)
    return {
        "subject": timing.subject,
        "device": timing.device,
        "dtype": timing.dtype,
        "seq_len": timing.seq_len,
        "median_s": median,
        "iqr_s": timing.iqr if measured else None,
        "p25_s": p25,
        "p75_s": p75,
        "noisy": timing.noisy if measured else None,
        "blocks": len(timing.times),
        "runs": timing.runs,
        "steps_per_s": timing.steps_per_s if measured else None,
        "ratio": ratio and ratio.value,
        "ratio_least": ratio and ratio.least,
        "ratio_greatest": ratio and ratio.greatest,
        "told": ratio and ratio.told,
        "growth": growth and growth.times,
        "growth_of_steps": growth and growth.steps,
        "peak_bytes": timing.peak_bytes,
        "compile_s": timing.compile_s,
        "message": timing.message,
    }
