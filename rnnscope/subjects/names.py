"""What the names of somebody's own parameters say: x or h, which gate, which layer and direction. Shapes are not read.

A name may be read in several ways: `W_ih` is from x to h, or gate i of h. All readings are given; which one holds,
shapes and the other names tell.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

LayerDirection = tuple[int, int]
"""A layer and a direction."""

_SOURCES = {"x": "x i in inp input inputs igates xgates", "h": "h hid hidden rec recurrent state prev hgates"}

_GATES = {
    "rnn": {},
    "lstm": {
        "i": "i in inp input u update",
        "f": "f forget remember",
        "g": "g c j u z cell cand candidate new tilde modulation",
        "o": "o out output",
    },
    "gru": {"r": "r reset", "z": "z u update", "n": "n h c g new cand candidate tilde hidden"},
}
"""What people call each gate."""

_OTHER = (
    "o y q out output head decoder classifier readout logits emb embed embedding norm ln layernorm batchnorm bn init "
    "initial peephole"
)
"""What is no part of a recurrent layer, unless it names a gate."""

_WEAK = {"w": "x", "W": "x", "kernel": "x", "u": "h", "U": "h", "r": "h"}
"""W and U tell x from h only where nothing else does."""

_NEUTRAL = "fc nn rnn gru lstm raw"
"""Words that only look like letters of gates."""

_BACKWARD = "reverse reversed backward bwd bw back rev"
_FORWARD = "forward fwd fw"
_DIRECTION = re.compile(rf"({'|'.join((_BACKWARD + ' ' + _FORWARD).split())})(\d*)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\d)\d+(?![A-Za-z\d])")  # the 2 of x2h is none
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z]")

_Facts = tuple[tuple[str, str], ...]

_Numbered = tuple[str, bool, tuple[int, ...]]
"""An own name, whether it is of the backward direction, and its numbers."""


@dataclass(frozen=True)
class Hint:
    """One way to read a name; "" where it says nothing.

    Args:
        source: x or h, which the weight is multiplied by.
        weak: the same, said by W or U alone.
        gate: torch's letter of the gate, or two: rz, zr.
        other: whether it is no part of a recurrent layer.
    """

    source: str = ""
    weak: str = ""
    gate: str = ""
    other: bool = False


@dataclass(frozen=True)
class Family:
    """Own parameters that differ in layer and direction alone.

    Args:
        words: their name, with # where the number of the layer stands, and without words of direction.
        members: the place of each own parameter.
        index: its number among siblings that are numbered alike, and how many these are.
        shown: their name for a sentence.
    """

    words: str
    members: tuple[tuple[str, LayerDirection], ...]
    index: tuple[int, int]
    shown: str


def hints(words: str, kind: str) -> frozenset[Hint]:
    """All ways to read a name. What a deeper segment says counts; the ones before it fill in what is left.

    >>> sorted((each.source, each.gate) for each in hints("W_ih", "lstm"))
    [('h', 'i'), ('x', '')]
    """
    merged: set[Hint] = {Hint()}
    for depth, segment in enumerate(_segments(words)):
        merged = {
            Hint(a.source or b.source, a.weak or b.weak, a.gate or b.gate, a.other or (b.other and not depth))
            for a, b in product(merged, _of_segment(segment, kind))
        }
    return frozenset(merged)


def is_bias(words: str) -> bool:
    """Whether a name is that of a bias: bias, b, b_ih, bih, bias_f.

    >>> is_bias("x2h.bias"), is_bias("bf"), is_bias("b.weight")
    (True, True, False)
    """
    last = re.sub(r"(\.[#\d]+)+$", "", words).rpartition(".")[2]
    return any(each in ("b", "bias", "biases") or re.fullmatch("b[a-z]{1,2}", each) for each in _words(last)[:1]) or (
        "bias" in _words(last)
    )


@dataclass(frozen=True)
class Numbering:
    """How layers and directions are numbered in names.

    Args:
        layers, directions: how many there are.
        last: which number counts the layers, where two could: the last one, or the first one.
        by_direction: whether a flat list of layers and directions has one direction after the other.
    """

    layers: int
    directions: int
    last: bool
    by_direction: bool


def families(names: Iterable[str], numbering: Numbering) -> list[Family]:
    """The families of parameters, by the numbers and the words of direction in their names."""
    groups: dict[str, list[_Numbered]] = {}
    for own in names:
        bare, backward = _without_direction(own)
        numbers = tuple(map(int, _NUMBER.findall(bare)))
        groups.setdefault(_NUMBER.sub("#", bare), []).append((own, backward, numbers))
    return [each for skeleton, group in groups.items() for each in _of_group(skeleton, group, numbering)]


def numbers_of(own: str) -> str:
    """A name with # for its numbers, without words of direction: names alike differ in layer or direction alone."""
    return _NUMBER.sub("#", _without_direction(own)[0])


def _of_group(skeleton: str, group: list[_Numbered], numbering: Numbering) -> Iterator[Family]:
    """The families of names that are alike but for their numbers."""
    values = [sorted(set(column)) for column in zip(*(numbers for _, _, numbers in group), strict=True)]
    worded = numbering.directions == 1 or any(backward for _, backward, _ in group)
    needed = numbering.layers * (1 if worded else numbering.directions)
    slots = _slots(skeleton, values, needed, worded, numbering)
    if not slots and needed > 1:
        return
    several = len(values[slots[0]]) // needed if len(slots) == 1 else 1  # so many of one place are numbered through
    members: dict[tuple[str, tuple[int, int]], list[tuple[str, LayerDirection]]] = {}
    for own, backward, numbers in group:
        ranks = [column.index(number) for column, number in zip(values, numbers, strict=True)]
        place = _layer_direction([ranks[slot] // several for slot in slots], backward, worded, numbering)
        texts = list(map(str, numbers))
        for slot in slots:
            texts[slot] = "#" if several == 1 else str(ranks[slot] % several)
        words = "".join(a + b for a, b in zip(skeleton.split("#"), [*texts, ""], strict=True))
        index = (ranks[slots[0]] % several, several) if several > 1 else _index(ranks, values, slots)
        members.setdefault((words, index), []).append((own, place))
    for (words, index), owns in members.items():
        owns.sort(key=lambda each: each[1])
        shown = _shown(owns[0][0], slots) if len(owns) > 1 and several == 1 else owns[0][0]
        yield Family(words, tuple(owns), index, shown)


def _layer_direction(ranks: list[int], backward: bool, worded: bool, numbering: Numbering) -> LayerDirection:
    """Where an own parameter is, by the ranks of the numbers that tell the place, and by its words of direction."""
    if not ranks:
        return 0, int(backward)
    if len(ranks) == 2:
        return ranks[0], ranks[1]
    if worded:
        return ranks[0], int(backward)
    if numbering.by_direction:
        return ranks[0] % numbering.layers, ranks[0] // numbering.layers
    return divmod(ranks[0], numbering.directions)


def _index(ranks: list[int], values: list[list[int]], slots: tuple[int, ...]) -> tuple[int, int]:
    """The rank of the last number that does not tell the place, and how many values it has; (0, 1) without one."""
    others = [slot for slot in range(len(values)) if slot not in slots]
    return (ranks[others[-1]], len(values[others[-1]])) if others else (0, 1)


def _slots(skeleton: str, values: list[list[int]], needed: int, worded: bool, numbering: Numbering) -> tuple[int, ...]:
    """Which of a name's numbers tells the place; or two, of layer and direction."""
    dotted = [each == "" or each.endswith(".") for each in skeleton.split("#")]
    every = range(len(values))
    fitting = [slot for slot in every if len(values[slot]) % needed == 0]
    if fitting:
        order = [(len(values[slot]), not dotted[slot], -slot if numbering.last else slot) for slot in fitting]
        return (fitting[order.index(min(order))],)
    sizes = numbering.layers, numbering.directions
    pairs = [(a, b) for a in every for b in every if a != b and (len(values[a]), len(values[b])) == sizes]
    return pairs[-1 if numbering.by_direction else 0] if pairs and not worded else ()


def _shown(own: str, slots: tuple[int, ...]) -> str:
    """A name with # for the numbers in some slots."""
    count = iter(range(len(own)))
    return _NUMBER.sub(lambda found: "#" if next(count) in slots else found[0], own)


def _without_direction(own: str) -> tuple[str, bool]:
    """A name without its words of direction, and whether one of them says backward."""
    backward, segments = False, []
    for segment in re.sub("(?<=[a-z])(?=[A-Z])", "_", own).split("."):
        kept = []
        for word in segment.split("_"):
            if found := _DIRECTION.fullmatch(word):
                backward |= found[1].lower() in _BACKWARD.split()
                kept += [found[2]] if found[2] else []
            else:
                kept.append(word)
        segments += ["_".join(kept)] if kept else []
    return ".".join(segments), backward


def _segments(words: str) -> list[str]:
    """The segments of a path that say anything, the deepest first."""
    said = [each for each in words.split(".") if not re.fullmatch(r"[#\d]*|weights?|bias(es)?", each)]
    return said[::-1]


def _words(segment: str) -> list[str]:
    """The words of a segment in lower case, but for W, U and V, which name matrices: u may be a gate too."""
    found = _WORD.findall(segment)
    return [each if re.fullmatch("[WUV][a-z]{0,2}", each) else each.lower() for each in found]


@cache
def _of_segment(segment: str, kind: str) -> frozenset[Hint]:
    """All ways to read one segment. Of two sources one is where it goes: x2h, hh, W_hx."""
    if re.fullmatch(r"(init.*_)?[hc](_?[0#]|_init)", segment):  # an initial state that is learnt
        return frozenset({Hint(other=True)})
    found = set()
    if kind == "gru":  # which has no output gate
        segment = re.sub("out(put)?_?[gG]ate", "candidate", segment)
    for facts in product(*(_meanings(word, kind) for word in _matrix_u(_words(segment), kind))):
        said: dict[str, str] = {}
        for what, value in (fact for each in facts for fact in each):
            said[what] = said.get(what, "") + value
        source = {"": "", "x": "x", "h": "h", "xh": "x", "hh": "h", "hx": "x"}.get(said.get("source", ""))
        gate = said.get("gate", "")
        if source is not None and (len(gate) < 2 or gate in ("rz", "zr")):
            found.add(Hint(source, said.get("weak", "")[:1], gate, "other" in said))
    return frozenset(found or {Hint()})


def _matrix_u(words: list[str], kind: str) -> list[str]:
    """Words, or letters; of an LSTM u is the matrix U where another one names the gate."""
    gated = any(what == "gate" for word in words if word != "u" for facts in _meanings(word, kind) for what, _ in facts)
    return ["U" if kind == "lstm" and word == "u" and gated else word for word in words]


@cache
def _meanings(word: str, kind: str) -> tuple[_Facts, ...]:
    """What a word may mean; letters that are written together are read one by one."""
    if word in _NEUTRAL.split():
        return ((),)
    found: list[_Facts] = [(("source", each),) for each, words in _SOURCES.items() if word in words.split()]
    found += [(("gate", each),) for each, words in _GATES[kind].items() if word in words.split()]
    found += [(("weak", _WEAK[word]),)] if word in _WEAK else []
    if word in ("cell", "state", "prev", "b", "v", "V", "new"):  # cells.0, hidden_state, a bias
        found.append(())
    if word in _OTHER.split() and not found:
        found.append((("other", ""),))
    if word[0] in "wWbU" and word[1:] in ("in", "inp", "rec", "hid", "out"):
        found += _meanings(word[1:], kind)
    elif len(word) == 2 or (len(word) == 3 and word[0] in "wubvrWUV" and not found):
        letters = [_meanings(letter, kind) for letter in _matrix_u(list(word), kind)]
        if all(each != ((),) or letter in "bvV" for each, letter in zip(letters, word, strict=True)):
            found += [sum(facts, ()) for facts in product(*letters)]
    return tuple(found) or ((),)
