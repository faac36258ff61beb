"""Every entry by its name, the pages of `rnnscope explain`, and the line that sends people there."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from rnnscope.errors import RnnscopeError
from rnnscope.help.deviations import DEVIATIONS
from rnnscope.help.entries import SORTS, Entry, key, slug
from rnnscope.help.findings import BLIND_SPOTS, CAUSES, RELATIONS, VERDICTS
from rnnscope.help.topics import Manual
from rnnscope.pages.page import Column, Grid, Listing, Markdown, Page, Sentence, ended
from rnnscope.spec.flags import Flag, nearest, quoted
from rnnscope.spec.sides import DEVIATION

ENTRIES: tuple[Entry, ...] = (*DEVIATIONS, *CAUSES, *VERDICTS, *RELATIONS, *BLIND_SPOTS)
"""Every entry, in the order of SORTS."""

_BY_KEY: dict[str, tuple[Entry, ...]] = {}
for _each in ENTRIES:
    _BY_KEY[key(_each.name)] = (*_BY_KEY.get(key(_each.name), ()), _each)

_LEADS = {
    "deviation": "A side with this deviation {}.",
    "cause": "The cause where {}.",
    "verdict": "The verdict where {}.",
    "relation": "A relation that recurrent modules keep: {}.",
    "blind spot": "What a comparison cannot see: {}.",
}


def names() -> list[str]:
    """Every name as one word of a shell, for completion."""
    return list(dict.fromkeys(each.slug for each in ENTRIES))


@dataclass(frozen=True)
class Explained(Manual):
    """The pages of some entries."""

    entries: tuple[Entry, ...]

    command: ClassVar[str] = "explain"

    @property
    def rerun(self) -> str:
        return _line(each.name for each in self.entries)

    def page(self) -> Page:
        return [block for each in self.entries for block in _page(each)]

    def facts(self) -> dict[str, Any]:
        return {"entries": [asdict(each) for each in self.entries]}

    def records(self) -> Iterator[dict[str, Any]]:
        return (asdict(each) for each in self.entries)


class Index(Explained):
    """Every entry, a line each."""

    @property
    def rerun(self) -> str:
        return "rnnscope explain"

    def page(self) -> Page:
        page: Page = []
        columns = (Column("name"), Column("what it is", prose=True))
        for sort in SORTS:
            rows = [(each.slug, _gist(each)) for each in self.entries if each.sort == sort and _is_listed(each)]
            page.append(Grid(f"{sort.capitalize()}s", columns, tuple(rows)))
        return [
            *page,
            Sentence("Gates", "every other order has a page, too, such as gates-o-g-f-i and gates-n-z-r."),
            Sentence("Read one", "rnnscope explain NAME", verbatim=True),
        ]


def explained(words: tuple[str, ...]) -> Explained:
    """The entries that words name, each in one word or in several; all of them without a word.

    Raises:
        RnnscopeError: no such name; with the nearest.
    """
    if not words:
        return Index(ENTRIES)
    found: list[Entry] = []
    rest = list(words)
    while rest:
        count = next((n for n in range(len(rest), 0, -1) if key(" ".join(rest[:n])) in _BY_KEY), 0)
        if not count:
            name = " ".join(rest)
            near = _nearest(name, _BY_KEY) or _nearest(rest[0], _BY_KEY)
            hint = f"did you mean {' or '.join(near)}?" if near else "rnnscope explain lists all names"
            raise RnnscopeError(f"nothing is called {quoted(name)}", hint)
        found += _BY_KEY[key(" ".join(rest[:count]))]
        rest = rest[count:]
    return Explained(tuple(dict.fromkeys(found)))


def named_deviation(flag: Flag, typed: str) -> Entry | None:
    """The deviation that a side of a comparison names; None where it is another side.

    Raises:
        RnnscopeError: no such deviation; with the nearest.
    """
    if not typed.startswith(DEVIATION):
        return None
    name, own = typed.removeprefix(DEVIATION).partition("@")[0], {key(each.name): each for each in DEVIATIONS}
    if key(name) not in own:
        near = _nearest(name, own)
        hint = f"did you mean {flag.name} {DEVIATION}{near[0]}?" if near else "rnnscope explain lists them"
        raise RnnscopeError(f"{flag.name} names no deviation: {quoted(name)}", hint)
    return own[key(name)]


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """The nearest name as one word of a shell, otherwise those that have the words in them."""
    near = nearest(key(name), known, cutoff=0.6)
    found = [near] if near else [each for each in known if key(name) and key(name) in each]
    return [_BY_KEY[each][0].slug for each in found[:_MOST]]


def more(found: Iterable[str], least: int = 1) -> Page:
    """The line that sends people to the pages of what theirs names: the first three names, or as many as fit.

    Args:
        least: so many of them are told, on lines of their own where they do not fit.
    """
    known = [each for each in dict.fromkeys(found) if key(each) in _BY_KEY][:_MOST]
    fit = len(known)
    while fit > 1 and len(_line(known[:fit])) > _WIDTH:
        fit -= 1
    lines = [known[:fit], *([each] for each in known[fit:least])]
    return [Sentence("More", _line(each), verbatim=True) for each in lines if each]


_MOST = 3
"""So many names are told at a time."""

_WIDTH = 80 - len("More: ")


def _line(found: Iterable[str]) -> str:
    return " ".join(("rnnscope explain", *dict.fromkeys(map(slug, found))))


def _is_listed(entry: Entry) -> bool:
    """Of the many orders of gates those that somebody uses."""
    return not entry.name.startswith("gates ") or bool(entry.frameworks)


def _gist(entry: Entry) -> str:
    """A deviation without what torch does."""
    return entry.does.partition(";")[0] if entry.sort == "deviation" else entry.does


def _page(entry: Entry) -> Page:
    page: Page = [Markdown(f"**{entry.name}**\n\n{_LEADS[entry.sort].format(entry.does)}\n\n")]
    if entry.torch:
        page.append(Listing(f"torch    {entry.torch}\nbut not  {entry.theirs}", "text"))
    told = {"How it shows": entry.shows, "Who does it": entry.frameworks, "How to fix it": entry.mends}
    page += [Sentence(label, ended(text)) for label, text in told.items() if text]
    says = [] if entry.says == entry.does else [Sentence("It says", ended(entry.says))]
    if "\n" in entry.command:
        return [*page, Sentence("Try it", "these lines."), Listing(entry.command, "sh"), *says]
    return [*page, Sentence("Try it", entry.command, verbatim=True), *says]
