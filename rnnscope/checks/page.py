"""What is said of a module: the table of its relations, and a sentence for each that is broken."""

from rnnscope.checks.facts import BROKEN, HOLDS, NOT_APPLICABLE, UNDECIDED, Findings, Relation
from rnnscope.checks.words import in_words
from rnnscope.help.explain import more
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, ended, where_it_ran

_WORDS = {HOLDS: "holds", BROKEN: "broken", UNDECIDED: "undecided", NOT_APPLICABLE: "not applicable"}

FEW_STEPS = 16
"""A page says so where x has fewer steps."""

_COLUMNS = (
    *(Column("relation"), Column("outcome"), Column("how far", number=True), Column("bound", number=True)),
    Column("where first", prose=True),
)


def page_of(check: Findings) -> Page:
    """The tables and sentences of `rnnscope check`."""
    dims = ("N", "L", "H_in") if check.batch_first else ("L", "N", "H_in")
    x = f"x: ({', '.join(dims[: len(check.x)])}) = {check.x}"
    page: Page = [Grid(f"{check.subject}, {x}", _COLUMNS, tuple(map(_row, check.relations)))]
    page.append(Sentence("Verdict", f"{_verdict(check)}.", "good" if check.exit_code == 0 else "bad"))
    page += [Sentence(each.relation, ended(each.message), "bad") for each in check.told(BROKEN)]
    page += [*_reasons(check, UNDECIDED), *_reasons(check, NOT_APPLICABLE)]
    page += [Sentence("Note", ended(f"{each.relation}: {each.message}")) for each in check.told(HOLDS) if each.message]
    page += _shorter(check)
    page += [Sentence("Adapted", f"{each}.") for each in check.adaptations]
    if check.supports:
        page.append(_supports(check))
    for each in check.smallest:
        page.append(Sentence(f"Smallest that breaks {each.relation}", each.line, verbatim=True))
    page += more(each.relation for each in check.told(BROKEN))
    page.append(Sentence("Cost", f"{_calls(check)}."))
    page.append(Sentence("Run", where_it_ran(check.device_name, check.computed_in, check.threads, check.torch_version)))
    if check.rerun:
        page.append(Sentence("Rerun", check.rerun, verbatim=True))
    return page


def _row(each: Relation) -> tuple[str, ...]:
    figures = ("" if value is None else f"{value:.3g}" for value in (each.max_abs, each.bound))
    return each.relation, _WORDS[each.outcome], *figures, in_words(each.place) if each.place else ""


def _reasons(check: Findings, outcome: str) -> Page:
    """Why relations say nothing: those of one reason together."""
    why: dict[str, list[str]] = {}
    for each in check.told(outcome):
        why.setdefault(each.message, []).append(each.relation)
    label = _WORDS[outcome].capitalize()
    return [Sentence(label, ended(f"{', '.join(names)}: {reason}")) for reason, names in why.items()]


def _verdict(check: Findings) -> str:
    broken, undecided = check.told(BROKEN), check.told(UNDECIDED)
    if broken:
        names = ", ".join(each.relation for each in broken)
        return f"broken: {names}"
    if undecided:
        return f"undecided: nothing can be said of {', '.join(each.relation for each in undecided)}"
    return "every relation that applies holds" if check.told(HOLDS) else "undecided: no relation applies"


def _shorter(check: Findings) -> Page:
    """Where less was asked than the user said."""
    page: Page = []
    if check.spec.seq_len < FEW_STEPS:
        more_steps = "" if check.is_given else f"; --seq-len {2 * FEW_STEPS} asks more"
        page.append(
            Sentence("Short", f"x has {counted(check.spec.seq_len, 'step')}: what shows later is not seen{more_steps}.")
        )
    if check.steps:
        said = f"the first {counted(check.steps, 'step')} of {check.spec.seq_len} were asked: later ones are chaotic"
        page.append(Sentence("Shorter", f"{said}, and rounding alone moves them too far."))
    if check.inside:
        page.append(Sentence("Inside", f"it rounds inside about as coarsely as {check.inside}, whatever it is given."))
    return page


def _supports(check: Findings) -> Grid:
    columns = (Column("torch's"), Column("outcome"), Column("how far", number=True), Column("what it says", prose=True))
    rows = (
        (
            each.name,
            _WORDS.get(each.outcome, each.outcome),
            "" if each.max_abs is None else f"{each.max_abs:.3g}",
            each.message,
        )
        for each in check.supports
    )
    return Grid("What it supports", columns, tuple(rows))


def _calls(check: Findings) -> str:
    calls = sorted(check.calls, key=lambda each: -each[1])
    return f"{counted(sum(many for _, many in calls), 'call')} of the module: " + ", ".join(
        f"{name} {many}" for name, many in calls
    )
