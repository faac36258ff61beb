"""What somebody's own parameters may be of torch's, by names, shapes and order: the best readings of them all together.

A reading says which blocks of torch's parameters an own one is made of. The readings that names and shapes allow are
scored, and the best set that covers every block of torch's exactly once is the mapping. What the scores leave open
gives several mappings. Gates that are stacked in one parameter are taken in torch's order: another order is a fault
that a verdict must see. Only separate parameters are told by their letters.
"""

import math
import re
from collections import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from rnnscope.network.shapes import GATES, Shape, parameter_name
from rnnscope.pages.page import first_of
from rnnscope.spec.spec import Spec
from rnnscope.subjects.names import Family, Hint, LayerDirection, hints, is_bias
from rnnscope.subjects.parameters import PARTNER, Mapping, Piece, other_bias, width_of

MOST_MAPPINGS = 16
"""Where more readings are equally good, so many of them are given."""

MOST_NAMED = 8
"""A message names so many parameters at most."""

_SAID_SCORE = 1000
"""What the user says counts more than all that names do."""

_Block = tuple[str, int, LayerDirection]
"""The rows of one gate in one of torch's parameters: weight_ih, 0, (layer, direction)."""


@dataclass(frozen=True)
class Reading:
    """What the own parameters of a family are made of: bases of torch's names, gates, and whether transposed.

    Two names are side by side; two biases are a sum.
    """

    names: tuple[str, ...]
    gates: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Told:
    """What the user said of one own parameter; no reading: it is to be left as it is."""

    reading: Reading | None
    place: LayerDirection = (0, 0)


@dataclass(frozen=True)
class _Choice:
    """One family under one reading."""

    family: Family
    reading: Reading
    score: int
    blocks: frozenset[_Block]


@dataclass(frozen=True)
class _Convention:
    """What one class does alike everywhere, and names need not say.

    Args:
        flipped: whether its raw parameters are (columns, rows).
        sides: the order of x and h, where they stand side by side.
        pair: the order of r and z, where a GRU has them in one parameter.
    """

    flipped: bool = False
    sides: tuple[str, str] = ("weight_ih", "weight_hh")
    pair: tuple[int, int] = (0, 1)


def _conventions(spec: Spec) -> Iterator[_Convention]:
    pairs = ((0, 1), (1, 0)) if spec.kind == "gru" else ((0, 1),)
    sides = (("weight_ih", "weight_hh"), ("weight_hh", "weight_ih"))
    for side, flipped, pair in product(sides, (False, True), pairs):
        yield _Convention(flipped, side, pair)


@dataclass(frozen=True)
class OwnParameters:
    """The own parameters of a network, and the one it is compared with.

    Args:
        shapes: by path.
        families: those that differ in layer and direction alone.
        told: the reading that the user gave for a family, by its words.
    """

    spec: Spec
    shapes: abc.Mapping[str, Shape]
    families: tuple[Family, ...]
    told: dict[str, Reading]

    @property
    def gates(self) -> int:
        """G, or 1 without gates."""
        return len(GATES[self.spec.kind]) or 1

    @property
    def places(self) -> list[LayerDirection]:
        """Every layer and direction."""
        return list(product(range(self.spec.num_layers), range(self.spec.directions)))

    @property
    def weights(self) -> list[_Block]:
        """All blocks of torch's weights."""
        return self._blocks(["weight_ih", "weight_hh", *(["weight_hr"] if self.spec.proj_size else [])])

    @property
    def biases(self) -> list[_Block]:
        """All blocks of torch's biases."""
        return self._blocks(["bias_ih", "bias_hh"] if self.spec.bias else [])

    def _blocks(self, bases: list[str]) -> list[_Block]:
        every = product(self.places, bases, range(self.gates))
        return [(base, gate, place) for place, base, gate in every if base != "weight_hr" or gate == 0]

    def choice(self, family: Family, reading: Reading, score: int) -> _Choice:
        """A family under a reading."""
        blocks = product(reading.names, reading.gates, (place for _, place in family.members))
        return _Choice(family, reading, score, frozenset(blocks))

    def fits(self, family: Family, reading: Reading) -> tuple[bool, bool]:
        """Whether all of a family have the shape of a reading: as it is, and transposed."""
        plain = turned = True
        for own, (layer, direction) in family.members:
            if layer >= self.spec.num_layers or direction >= self.spec.directions:
                return False, False
            rows, columns = self.matrix(reading, layer)
            shape = _flat(self.shapes[own], self.gates)
            plain, turned = plain and shape == (rows, columns), turned and shape == (columns, rows)
            if not (plain or turned):
                break
        return plain, turned

    def matrix(self, reading: Reading, layer: int) -> Shape:
        """The rows and columns of a reading in a layer."""
        rows = self.spec.proj_size if reading.names == ("weight_hr",) else self.spec.hidden_size
        widths = (width_of(self.spec, parameter_name(each, layer, 0)) for each in reading.names)
        return rows * len(reading.gates), sum(widths)

    def has_length(self, family: Family, gates: tuple[int, ...]) -> bool:
        """Whether all of a family are vectors with the rows of some gates."""
        known = all(layer < self.spec.num_layers and d < self.spec.directions for _, (layer, d) in family.members)
        length = self.spec.hidden_size * len(gates)
        shapes = [self.shapes[each] for each, _ in family.members]
        in_a_dim = (self.gates, self.spec.hidden_size) if len(gates) == self.gates > 1 else None
        return known and all(
            shape == in_a_dim or math.prod(shape) == length == max(shape, default=0) for shape in shapes
        )


def _flat(shape: Shape, gates: int) -> Shape:
    """A shape without dims of 1 beyond the second; gates in a dim of their own are stacked."""
    if len(shape) == 3 and shape[0] == gates > 1:
        return shape[0] * shape[1], shape[2]
    return shape if len(shape) < 3 else tuple(each for each in shape if each != 1)


def own_of(shapes: abc.Mapping[str, Shape], spec: Spec, grouped: list[Family], told: dict[str, Told]) -> OwnParameters:
    """The families, with what was said: of one member it holds for the family, where its place is the one said."""
    kept, readings = [], dict[str, Reading]()
    own_told = {own: each for own, each in told.items() if each.reading is not None}
    for family in grouped:
        said = {own: own_told[own] for own, _ in family.members if own in own_told}
        rest = tuple((own, place) for own, place in family.members if own not in told)
        agreed = {each.reading for each in said.values()}
        if len(agreed) == 1 and all(told[own].place == place for own, place in family.members if own in said):
            rest = tuple((own, place) for own, place in family.members if own not in told or own in said)
            readings.update((family.words, each) for each in agreed if each is not None)
            own_told = {own: each for own, each in own_told.items() if own not in said}
        kept += [replace(family, members=rest)] if rest else []
    for own, each in own_told.items():  # those whose place only the user knows
        kept.append(Family(own, ((own, each.place),), (0, 1), own))
        readings |= {own: each.reading} if each.reading is not None else {}
    return OwnParameters(spec, shapes, tuple(kept), readings)


def complete(own: OwnParameters) -> Iterator[Mapping]:
    """The complete mappings with the best score."""
    found: list[tuple[int, Mapping]] = []
    for convention in _conventions(own.spec):
        for cover in _covers(own.weights, list(_weight_choices(own, convention)), lambda block, skipped: None):
            biases = list(_bias_choices(own, cover, convention))
            if not own.spec.bias:
                zeroed = tuple(dict.fromkeys(each.family for each in biases))
                found.append((_rank(cover), _mapping(own, cover, [], zeroed)))
                continue
            for bias_cover in _covers(own.biases, biases, _may_lack):
                found.append((_rank([*cover, *bias_cover]), _mapping(own, cover, bias_cover, ())))
    best = max((rank for rank, _ in found), default=0)
    yield from (mapping for rank, mapping in found if rank == best)


def most_covered(own: OwnParameters) -> list[_Choice]:
    """The choices that cover the most blocks, where none need be complete."""

    def lacks(block: _Block, skipped: frozenset[_Block]) -> int:
        return -1_000_000

    covers = []
    for convention in _conventions(own.spec):
        weights = _covers(own.weights, list(_weight_choices(own, convention)), lacks)[0]
        biases = _covers(own.biases, list(_bias_choices(own, weights, convention)), lacks)[0]
        covers.append([*weights, *biases])
    return max(covers, key=lambda each: sum(len(choice.blocks) for choice in each))


def _rank(choices: list[_Choice]) -> int:
    """How good choices are together: by their scores, and where these are equal, by how near to each other they are."""
    paths = {each.family.words for each in choices}
    spread = {path[: found.start()] for path in paths for found in re.finditer(r"\.", path)}
    return 1000 * sum(each.score for each in choices) - len(spread)


def _may_lack(block: _Block, skipped: frozenset[_Block]) -> int | None:
    """One of the two biases of a gate may have no own parameter."""
    base, gate, place = block
    return None if (PARTNER[base], gate, place) in skipped else 0


def _covers(
    blocks: list[_Block], choices: list[_Choice], skip: Callable[[_Block, frozenset[_Block]], int | None]
) -> list[list[_Choice]]:
    """The best sets of choices that cover every block once; `skip` scores a block left out, or forbids it by None."""
    by_block: dict[_Block, list[_Choice]] = {}
    for choice in choices:
        for block in choice.blocks:
            by_block.setdefault(block, []).append(choice)
    best: tuple[float, list[list[_Choice]]] = -math.inf, []

    def search(
        start: int, closed: frozenset[_Block], skipped: frozenset[_Block], taken: list[_Choice], lost: int
    ) -> None:
        nonlocal best
        used = {each.family.members for each in taken}
        for position in range(start, len(blocks)):
            if (block := blocks[position]) in closed:
                continue
            for choice in by_block.get(block, ()):
                if choice.family.members not in used and not choice.blocks & closed:
                    search(position + 1, closed | choice.blocks, skipped, [*taken, choice], lost)
            if (score := skip(block, skipped)) is None:
                return
            closed, skipped, lost = closed | {block}, skipped | {block}, lost + score
        if (rank := _rank(taken) + lost) >= best[0]:
            best = rank, [*(best[1] if rank == best[0] else []), taken][:MOST_MAPPINGS]

    search(0, frozenset(), frozenset(), [], 0)
    return best[1]


def _weight_choices(own: OwnParameters, convention: _Convention) -> Iterator[_Choice]:
    """What each family may be among torch's weights, by its name and shape."""
    spec, every = own.spec, tuple(range(own.gates))
    gates = [every, *((each,) for each in every if own.gates > 1)]
    gates += [convention.pair] if spec.kind == "gru" else []
    readings = [Reading(names, each) for names in (("weight_ih",), ("weight_hh",), convention.sides) for each in gates]
    readings += [Reading(("weight_hr",), (0,))] if spec.proj_size else []
    for family in own.families:
        told = own.told.get(family.words)
        if told is not None and "bias" not in told.names[0]:
            plain, turned = own.fits(family, told)
            agrees = (told.names == convention.sides) + (told.gates == convention.pair)
            agrees += told.transposed == convention.flipped and _is_raw(family)
            if turned if told.transposed else plain:
                yield own.choice(family, told, _SAID_SCORE + 2 * agrees)
        elif told is None and not is_bias(family.words):
            said = hints(family.words, spec.kind)
            for reading in readings:
                plain, turned = own.fits(family, reading)
                score = max(_score(spec, family, reading, each) for each in said)
                if (plain or turned) and score > -math.inf:
                    transposed, convinced = _turned(family, plain, turned, convention)
                    score = 4 * int(score) + convinced
                    yield own.choice(family, replace(reading, transposed=transposed), score)


def _is_raw(family: Family) -> bool:
    """Whether it is a parameter of the class itself. That of an nn.Linear is never transposed."""
    return not family.words.endswith(".weight")


def _turned(family: Family, plain: bool, turned: bool, convention: _Convention) -> tuple[bool, int]:
    """Whether a family is transposed, and how much this speaks for the convention."""
    if not _is_raw(family):
        return not plain, 0
    if plain and turned:
        as_torch = re.search(r"weight_[ih]h", family.words) is not None and not convention.flipped
        return convention.flipped, int(as_torch)
    return turned, 2 * (turned == convention.flipped)


def _score(spec: Spec, family: Family, reading: Reading, hint: Hint) -> float:
    """How well a weight's name goes with a reading; minus infinity where it cannot be meant."""
    if reading.names == ("weight_hr",):
        return 3 if re.search(r"proj|hr$|hr\.", family.words) else 0
    score = _gate_score(spec, family, reading.gates, hint)
    if len(reading.names) == 1:
        source = "x" if reading.names == ("weight_ih",) else "h"
        score += (3 if hint.source == source else -4) if hint.source else 0
        score += (1 if hint.weak == source else -1) if hint.weak else 0
    return score


def _gate_score(spec: Spec, family: Family, gates: tuple[int, ...], hint: Hint) -> float:
    """How well a name goes with some gates; minus infinity where it cannot be meant."""
    every = GATES[spec.kind]
    letters = "".join(every[gate : gate + 1] for gate in gates)
    if hint.other or (len(letters) == 2 and hint.gate == letters[::-1]):
        return -math.inf
    if len(letters) == len(every):
        return -bool(hint.gate)
    if len(letters) == 2 or hint.gate:
        return 1 if hint.gate == letters else 0 if len(letters) == 2 else -math.inf
    if family.index == (gates[0], len(every)):
        return 0
    return -1 if letters == "n" else -math.inf  # the candidate may have no letter, beside gates that have one


def _bias_choices(own: OwnParameters, weights: list[_Choice], convention: _Convention) -> Iterator[_Choice]:
    """What each family may be among torch's biases: by the weight beside it in its module, or else by its name."""
    spec, every = own.spec, tuple(range(own.gates))
    beside: dict[str, set[_Choice | None]] = {}
    taken = {choice.family.members: choice for choice in weights}
    for family in own.families:
        if not is_bias(family.words):
            beside.setdefault(family.words.rpartition(".")[0], set()).add(taken.get(family.members))
    for family in own.families:
        parent, _, last = family.words.rpartition(".")
        told, near = own.told.get(family.words), beside.get(parent, set())
        if told is not None and "bias" in told.names[0]:
            yield own.choice(family, told, _SAID_SCORE)
        elif told is not None or not is_bias(family.words) or near == {None}:
            continue
        elif len(near) == 1 and last in ("bias", "b"):
            for weight in filter(None, near):
                base = "bias_hh" if weight.reading.names == ("weight_hh",) else "bias_ih"
                if own.has_length(family, weight.reading.gates):
                    yield own.choice(family, Reading((base,), weight.reading.gates), 3 * own.gates)
        else:
            pairs = [convention.pair] if spec.kind == "gru" else []
            for gates in (every, *((each,) for each in every if own.gates > 1), *pairs):
                if own.has_length(family, gates):
                    yield from _named_biases(own, family, gates)


def _named_biases(own: OwnParameters, family: Family, gates: tuple[int, ...]) -> Iterator[_Choice]:
    """What a bias with some gates may be, by its name. Of two plain ones that with more gates is bias_ih."""
    for base, source, plain in (("bias_ih", "x", 1 + 2 * len(gates)), ("bias_hh", "h", 1)):
        score = max(
            (3 * len(gates) if hint.source == source else -1 if hint.source else plain)
            + _gate_score(own.spec, family, gates, hint)
            for hint in hints(family.words, own.spec.kind)
        )
        if score > -math.inf:
            yield own.choice(family, Reading((base,), gates), int(score))


def _mapping(own: OwnParameters, weights: list[_Choice], biases: list[_Choice], zeroed: tuple[Family, ...]) -> Mapping:
    """The mapping that choices make."""
    biases = [_as_bias(own, each, each.reading.names[0]) for each in biases]
    if own.spec.kind != "gru":  # the two biases are only added, and a sum is told as that of bias_ih
        first = {(gate, place) for each in biases for base, gate, place in each.blocks if base == "bias_ih"}
        lone = [not first & {(gate, place) for _, gate, place in each.blocks} for each in biases]
        biases = [_as_bias(own, each, "bias_ih") if alone else each for each, alone in zip(biases, lone, strict=True)]
    covered = {block for each in biases for block in each.blocks}
    folded: dict[str, tuple[int, ...]] = {}
    for base, gate, place in own.biases:
        if (base, gate, place) not in covered:
            folded[parameter_name(base, *place)] = (*folded.get(parameter_name(base, *place), ()), gate)
    pieces = []
    for choice in [*weights, *biases]:
        for path, place in choice.family.members:
            torch_names = tuple(parameter_name(each, *place) for each in choice.reading.names)
            pieces.append(Piece(path, torch_names, choice.reading.gates, choice.reading.transposed))
    zeros = tuple(path for family in zeroed for path, _ in family.members)
    used = {piece.own for piece in pieces} | set(zeros)
    sentences = (*_sentences(own, weights, biases, folded), *set_to_zero(tuple(each.shown for each in zeroed)))
    return Mapping(own.spec, tuple(pieces), folded, zeros, tuple(p for p in own.shapes if p not in used), sentences)


def _as_bias(own: OwnParameters, choice: _Choice, base: str) -> _Choice:
    """A bias that stands for one of torch's two."""
    return own.choice(choice.family, replace(choice.reading, names=(base,)), choice.score)


def _sentences(
    own: OwnParameters, weights: list[_Choice], biases: list[_Choice], folded: dict[str, tuple[int, ...]]
) -> Iterator[str]:
    """What was taken for what: a sentence for each of torch's parameters and each way to be made of it."""
    beside = {(_parent(each), each.reading.names[0].replace("weight", "bias")) for each in weights}
    groups: dict[tuple[Reading, tuple[LayerDirection, ...], tuple[int, ...] | bool], list[_Choice]] = {}
    for choice in [*weights, *biases]:
        base, gates = choice.reading.names[0], choice.reading.gates
        other = folded.get(parameter_name(PARTNER.get(base, ""), *choice.family.members[0][1]), ())
        added = tuple(gate for gate in gates if gate in other)
        is_plain = (_parent(choice), base) in beside and re.search(r"\.bias$|bias_[ih]h", choice.family.words)
        if added or not is_plain:  # a bias like its weight needs no words
            places = tuple(place for _, place in choice.family.members)
            groups.setdefault((replace(choice.reading, gates=()), places, added == gates or added), []).append(choice)
    for (_, _, summed), group in groups.items():
        yield _sentence(own, sorted(group, key=lambda each: each.reading.gates[-1]), summed)


def _parent(choice: _Choice) -> str:
    return choice.family.words.rpartition(".")[0]


def _sentence(own: OwnParameters, group: list[_Choice], added: tuple[int, ...] | bool) -> str:
    """What own parameters are, all in one way; `added`: the gates that the other bias is added in, True for all."""
    letters, names = GATES[own.spec.kind], group[0].reading.names
    where, suffix = _where(own, [place for _, place in group[0].family.members])
    targets = [each + suffix for each in names]
    target = f"[{', '.join(targets)}] side by side" if len(targets) > 1 else targets[0]
    gates = [gate for each in group for gate in each.reading.gates]
    if added:
        in_gates = f" (gates {listed(letters, added)})" if isinstance(added, tuple) else ""
        target += f" + {other_bias(targets[0])}{in_gates}"
    if len(gates) < len(letters) and names != ("weight_hr",):
        target = f"gate{'s' * (len(gates) > 1)} {listed(letters, gates)} of {target}"
    shown = ", ".join(each.family.shown for each in group) + " (transposed)" * group[0].reading.transposed
    said = [{hint.gate for hint in hints(each.family.words, own.spec.kind)} for each in group]
    is_said = all(
        "".join(letters[gate : gate + 1] for gate in each.reading.gates) in known
        for each, known in zip(group, said, strict=True)
    )
    needs_order = letters and len(group) > 1 and not is_said
    order = f", in the order {' '.join(letters[each] for each in gates)}" if needs_order else ""
    return f"{shown} {'are' if len(group) > 1 else 'is'} {target}{where}{order}"


def _where(own: OwnParameters, places: list[LayerDirection]) -> tuple[str, str]:
    """Where parameters are, in words, and the end of their names in torch."""
    if len(places) == 1:
        return "", parameter_name("", *places[0])
    if places != own.places:
        return f" of layer {', '.join(parameter_name('', *each).removeprefix('_l') for each in places)}", ""
    each = ["layer"] * (own.spec.num_layers > 1) + ["direction"] * own.spec.bidirectional
    return f" of each {' and '.join(each)}", ""


def listed(letters: str, gates: Iterable[int]) -> str:
    """Gates by their letters: i, f."""
    return ", ".join(letters[gate] for gate in gates)


def set_to_zero(shown: tuple[str, ...]) -> tuple[str, ...]:
    """The sentence for biases that are set to zero."""
    if not shown:
        return ()
    return (f"{first_of(shown, MOST_NAMED)} {'are' if len(shown) > 1 else 'is'} set to zero: --no-bias",)
