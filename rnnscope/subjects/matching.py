"""Which of somebody's own parameters stands for which of torch's. The network isn't called.

Names that are all torch's are taken as they are. Else what the user said and the best readings decide, and an error
says what no reading finds.
"""

import re
from collections import abc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.network.shapes import GATES, Shape, cell_name, parameter_name, parameters
from rnnscope.pages.page import first_of
from rnnscope.spec.flags import nearest
from rnnscope.spec.spec import SPEC_FLAGS, Spec
from rnnscope.subjects.names import Family, LayerDirection, Numbering, families, hints, is_bias, numbers_of
from rnnscope.subjects.parameters import PARTNER, Mapping, Piece, other_bias, torch_shapes
from rnnscope.subjects.readings import (
    MOST_MAPPINGS,
    MOST_NAMED,
    OwnParameters,
    Reading,
    Told,
    complete,
    listed,
    most_covered,
    own_of,
    set_to_zero,
)


def mappings_of(
    name: str,
    shapes: abc.Mapping[str, Shape],
    spec: Spec,
    said: abc.Mapping[str, str] | None = None,
    flag: str = "--right-name",
    aliases: abc.Mapping[str, str] | None = None,
) -> tuple[Mapping, ...]:
    """Every mapping that names, shapes and order allow, and that differ in the function: usually one.

    Args:
        name: of the class, for messages.
        shapes: of all own parameters by path, in the order in which the class has them.
        said: what the user said that an own parameter is, in torch's names.
        flag: which takes what the user says.
        aliases: other paths of a parameter, with the path that stands for all of them.

    Raises:
        RnnscopeError: no mapping is complete, or what was said is wrong.
    """
    shapes = _without_aliases(shapes, aliases or {}, said or {})
    told = {own: _told(name, own, value, shapes, spec, flag) for own, value in (said or {}).items()}
    found = _solve(shapes, spec, told)
    if not found:
        raise _nothing(name, shapes, spec, told, flag)
    for own, value in (said or {}).items():
        if value != "-" and own in found[0].left_over:
            message = f"{flag} is {own}={value}, but another parameter of {name} is said to be that"
            raise RnnscopeError(message, "say it of one")
    used = {numbers_of(piece.own) for piece in found[0].pieces}
    if alike := [own for own in found[0].left_over if numbers_of(own) in used and own not in told]:
        count = sum(numbers_of(own) == numbers_of(alike[0]) for own in shapes)
        for change in _changes_of_form(spec, count):
            if (other := _solve(shapes, replace(spec, **change), told)) and len(other[0].pieces) > len(found[0].pieces):
                raise _other_size(name, spec, change)
    return found


def _without_aliases(
    shapes: abc.Mapping[str, Shape], aliases: abc.Mapping[str, str], said: abc.Mapping[str, str]
) -> dict[str, Shape]:
    """One path for each parameter: that which the user names or most others are named like; layers may share one."""
    forms = [numbers_of(own) for own in shapes]
    kept: dict[str, str] = {}
    for own in sorted(shapes, key=lambda each: (each not in said, -forms.count(numbers_of(each)))):
        kept.setdefault(aliases.get(own, own), numbers_of(own))
    return {own: shape for own, shape in shapes.items() if numbers_of(own) == kept[aliases.get(own, own)]}


def _solve(shapes: abc.Mapping[str, Shape], spec: Spec, told: dict[str, Told]) -> tuple[Mapping, ...]:
    """All mappings; torch's own names are taken as they are."""
    if not told and (plain := _plain(shapes, spec)):
        return plain
    for last in (False, True):
        found: dict[object, Mapping] = {}
        for by_direction in (False, True)[: spec.directions]:
            grouped = families(shapes, Numbering(spec.num_layers, spec.directions, last, by_direction))
            for mapping in complete(own_of(shapes, spec, grouped, told)):
                found.setdefault(_function(mapping), mapping)
        if found:
            return tuple(found.values())[:MOST_MAPPINGS]
    return ()


def _function(mapping: Mapping) -> object:
    """What tells two mappings apart in what the network computes: the two biases of an RNN or LSTM are only added."""
    merged = "" if mapping.spec.kind == "gru" else "bias_ih|bias_hh"
    return frozenset((replace(each, names=tuple(re.sub(merged, "", n) for n in each.names))) for each in mapping.pieces)


def _plain(shapes: abc.Mapping[str, Shape], spec: Spec) -> tuple[Mapping, ...]:
    """The mappings of a network whose parameters are all named and shaped as torch's or StackedCells' are."""
    expected, gates = torch_shapes(spec), tuple(range(len(GATES[spec.kind]) or 1))
    found: dict[frozenset[str], Mapping] = {}
    for form in _forms(shapes.keys(), replace(spec, bias=True)):
        names = {own: name for own, name in form.items() if name in expected}
        if all(own in shapes and tuple(shapes[own]) == expected[name] for own, name in names.items()):
            pieces = [Piece(own, (name,), (0,) if "weight_hr" in name else gates) for own, name in names.items()]
            zeroed = tuple(own for own, name in form.items() if name not in expected and own in shapes)
            left_over = tuple(own for own in shapes if own not in form)
            mapping = Mapping(spec, tuple(pieces), {}, zeroed, left_over, set_to_zero(zeroed))
            found.setdefault(frozenset(names), mapping)
    return tuple(found.values())


def _forms(own: abc.Set[str], spec: Spec) -> list[dict[str, str]]:
    """torch's names by own ones, in each form and with each prefix that the network's names have."""
    expected = [each.name for each in parameters(spec)]
    forms = [{name: name for name in expected}]
    if not spec.proj_size:
        forms.append({cell_name(name): name for name in expected})
        if spec.directions == 1:
            forms.append({cell_name(name).removeprefix("cells."): name for name in expected})
        if spec.num_layers == spec.directions == 1:
            forms.append({name.removesuffix("_l0"): name for name in expected})
    firsts = [next(iter(form)) for form in forms]
    found = {name[: -len(first)] for name in own for first in firsts if name.endswith(f".{first}")}
    return [{prefix + each: name for each, name in form.items()} for form in forms for prefix in ("", *sorted(found))]


_MAY_SAY = (
    "one of torch's parameters (weight_ih_l0){gate}, transposed (weight_hh_l0.T), "
    "two side by side (weight_ih_l0,weight_hh_l0), a sum (bias_ih_l0+bias_hh_l0), or - for none"
)

_SAID = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?(?:\.([a-z]+))?")


def _told(name: str, own: str, value: str, shapes: abc.Mapping[str, Shape], spec: Spec, flag: str) -> Told:
    """What a value of the flag says of an own parameter.

    Raises:
        RnnscopeError: the class has no such parameter, the value is no parameter of torch's, or it has another shape.
    """
    typed = f"{flag} is {own}={value}"
    if own not in shapes:
        near = nearest(own, shapes)
        mend = f"did you mean {near}={value}?" if near else f"it has {_with_shapes(shapes, list(shapes))}"
        raise RnnscopeError(f"{typed}, but {name} has no parameter {own}", mend)
    if value == "-":
        return Told(None)
    reading, place = _parsed(own, value, spec, typed)
    _check_shape(name, own, value, shapes[own], OwnParameters(spec, shapes, (), {}), reading, place)
    return Told(reading, place)


def _parsed(own: str, value: str, spec: Spec, typed: str) -> tuple[Reading, LayerDirection]:
    """What torch's names in a value say: weight_hh_l0.f.T is a gate of weight_hh, transposed, in the first layer."""
    text = re.sub(r"\.T(?=,|\+|$)", "", value)
    parts = [_SAID.fullmatch(each) for each in re.split("[,+]", text)]
    known, letters = torch_shapes(spec), GATES[spec.kind]
    found = [each for each in parts if each and parameter_name(each[1], int(each[2]), int(bool(each[3]))) in known]
    bases, gates = tuple(each[1] for each in found), {each[4] for each in found}
    forms = {("weight_ih", "weight_hh"), ("weight_hh", "weight_ih")} if "," in text else set()
    forms = {("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")} if "+" in text else forms
    is_one = len(parts) == len(found) == 1 or bases in forms
    if len(found) < len(parts) or not is_one or len({each.group(2, 3, 4) for each in found}) != 1:
        near = nearest(text, known)
        allowed = _MAY_SAY.format(gate=f", a gate of it (weight_ih_l0.{letters[0]})" if letters else "")
        raise RnnscopeError(f"{typed}, but it must be {allowed}", f"did you mean {own}={near}?" if near else None)
    (said,) = gates
    if said and (set(said) - set(letters) or len(set(said)) < len(said) or "weight_hr" in bases):
        allowed = f"one of {', '.join(letters)}" if letters and "weight_hr" not in bases else "left out: it has none"
        raise RnnscopeError(f"{typed}, but the gate must be {allowed}")
    every = tuple(range(1 if "weight_hr" in bases else len(letters) or 1))
    reading = Reading(bases, tuple(letters.index(each) for each in said) if said else every, text != value)
    return reading, (int(found[0][2]), int(bool(found[0][3])))


def _check_shape(
    name: str, path: str, value: str, shape: Shape, own: OwnParameters, reading: Reading, place: LayerDirection
) -> None:
    """Raise unless an own parameter has the shape of what it is said to be."""
    family = Family(path, ((path, place),), (0, 1), path)
    if "bias" in reading.names[0]:
        if reading.transposed or not own.has_length(family, reading.gates):
            length = (own.spec.hidden_size * len(reading.gates),)
            mend = "leave .T out" if reading.transposed else "build it in that size"
            raise RnnscopeError(f"{name}: {path} has shape {shape}, but {value} is {length}", mend)
        return
    plain, turned = own.fits(family, reading)
    if turned if reading.transposed else plain:
        return
    expected = own.matrix(reading, place[0])[:: -1 if reading.transposed else 1]
    mend = "build it in that size"
    if plain or turned:
        mend = f"transposed? write {path}={value.replace('.T', '') if reading.transposed else f'{value}.T'}"
    raise RnnscopeError(f"{name}: {path} has shape {shape}, but {value} is {expected}", mend)


def _as_said(piece: Piece, mapping: Mapping) -> str:
    """A piece as the flag takes it: weight_ih_l0.f.T."""
    letters = GATES[mapping.spec.kind]
    whole = piece.rows == tuple(range(len(letters) or 1)) or "weight_hr" in piece.names[0]
    gates = "" if whole else "." + "".join(letters[each] for each in piece.rows)
    names = piece.names
    if set(piece.rows) & set(mapping.folded.get(other_bias(names[0]), ())) == set(piece.rows):
        names = names[0], other_bias(names[0])
    return ("+" if "bias" in names[0] else ",").join(each + gates for each in names) + ".T" * piece.transposed


def ambiguous(name: str, mappings: tuple[Mapping, ...], flag: str) -> RnnscopeError:
    """The error for mappings that nothing tells apart: the first own parameter in which they differ, read both ways."""
    first, second = ({piece.own: _as_said(piece, each) for piece in each.pieces} for each in mappings[:2])
    own = next(each for each in (*first, *second) if first.get(each) != second.get(each))
    one, other = first.get(own, "-"), second.get(own, "-")
    words = {"-": "nothing of torch's"}
    readings = f"{words.get(one, one)} or {words.get(other, other)}"
    message = f"{name}: {own} may be {readings}, and its name and shape do not tell"
    return RnnscopeError(message, f"say which: {flag} '{own}={one}' or {flag} '{own}={other}'")


def _nothing(name: str, shapes: abc.Mapping[str, Shape], spec: Spec, told: dict[str, Told], flag: str) -> RnnscopeError:
    """The error for a class of which no mapping is complete."""
    kernels = [own for own, shape in shapes.items() if sum(each != 1 for each in shape) > 2]
    if kernels := [each for each in kernels if len(shapes[each]) > 3 or len(GATES[spec.kind]) not in shapes[each]]:
        what = f"{name} has convolution kernels ({_with_shapes(shapes, kernels[:1])})"
        message = f"{what}, so it is a convolutional recurrent network, which torch has not"
        return RnnscopeError(message, f"name a class that computes {spec.module_name}")
    biases = [own for own in shapes if is_bias(own) and not all(each.other for each in hints(own, spec.kind))]
    if spec.bias and _solve(shapes, replace(spec, bias=False), told) and not biases:
        return RnnscopeError(f"{name}: it has no biases", "use --no-bias")
    for change in _changes(shapes, spec):
        found = _solve(shapes, replace(spec, **change), told)
        used = {shapes[piece.own] for each in found[:1] for piece in each.pieces}
        if found and not used & {shapes[own] for own in found[0].left_over}:
            return _other_size(name, spec, change)
    return _lacking(name, shapes, spec, told, flag)


def _lacking(name: str, shapes: abc.Mapping[str, Shape], spec: Spec, told: dict[str, Told], flag: str) -> RnnscopeError:
    """The error for a class in which some of torch's parameters have nothing that stands for them."""
    missing, besides = _missing(shapes, spec, told)
    known, letters = torch_shapes(spec), GATES[spec.kind]
    first, gates = min(missing.items(), key=lambda each: each[0].startswith("bias"))
    gate = f".{letters[gates[0]]}" if len(gates) < len(letters) and "weight_hr" not in first else ""
    lacking = f"gate{'s' * (len(gates) > 1)} {listed(letters, gates)} of {first}" if gate else ""
    message = f"{name}: nothing stands for {lacking or _with_shapes(known, list(missing))}"
    message += f"; it has {_with_shapes(shapes, besides)} besides" if besides else "; it has nothing besides"
    return RnnscopeError(message, f"say what does: {flag} OWN={first}{gate}")


def _missing(
    shapes: abc.Mapping[str, Shape], spec: Spec, told: dict[str, Told]
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The gates of torch's that nothing stands for, where most have something, and the own parameters left then."""
    own = own_of(shapes, spec, families(shapes, Numbering(spec.num_layers, spec.directions, False, False)), told)
    cover = most_covered(own)
    closed = {block for each in cover for block in each.blocks}
    used = {path for each in cover for path, _ in each.family.members}
    missing: dict[str, tuple[int, ...]] = {}
    for base, gate, place in [*own.weights, *own.biases]:
        if not {(base, gate, place), (PARTNER.get(base, base), gate, place)} & closed:
            missing[parameter_name(base, *place)] = (*missing.get(parameter_name(base, *place), ()), gate)
    return missing, [each for each in shapes if each not in used]


def _changes_of_form(spec: Spec, count: int) -> Iterator[dict[str, Any]]:
    """Other numbers of layers and directions, where so many own parameters are named alike."""
    yield {"num_layers": max(1, count // spec.directions)}
    yield {"bidirectional": not spec.bidirectional}
    yield {"bidirectional": True, "num_layers": max(1, count // 2)}


def _changes(shapes: abc.Mapping[str, Shape], spec: Spec) -> Iterator[dict[str, Any]]:
    """Other sizes that a class may be built in: those that its shapes show."""
    gates = len(GATES[spec.kind]) or 1
    dims = sorted({each for shape in shapes.values() for each in shape if each})
    hidden = [each for each in dims if each != spec.hidden_size and each > spec.proj_size]
    names = [numbers_of(own) for own in shapes]
    yield from ({"hidden_size": each} for each in hidden)
    yield from ({"input_size": each} for each in dims if each != spec.input_size)
    for count in sorted({names.count(each) for each in names}):
        yield from _changes_of_form(spec, count)
    if not spec.proj_size and spec.nonlinearity == "tanh":
        yield from ({"kind": each} for each in GATES if each != spec.kind)
    likely = [each for each in hidden if gates * each in dims]
    yield from ({"hidden_size": each, "input_size": other} for each in likely for other in dims)


def _other_size(name: str, spec: Spec, change: abc.Mapping[str, object]) -> RnnscopeError:
    """The error for a class that is built in another size."""
    changed = {each: value for each, value in change.items() if getattr(spec, each) != value}
    seems = " and ".join(f"{each}={value}" for each, value in changed.items())
    typed = [" ".join(SPEC_FLAGS[each].as_typed(getattr(spec, each))) for each in changed if getattr(spec, each)]
    used = [" ".join(SPEC_FLAGS[each].as_typed(value)) for each, value in changed.items() if value]
    asked = f", not {' '.join(typed)}" if typed else ""
    mend = f"use {' '.join(used)}" if used else f"leave {' '.join(typed)} out"
    return RnnscopeError(f"{name}: its parameters are those of {seems}{asked}", mend)


def _with_shapes(shapes: abc.Mapping[str, Shape], names: list[str]) -> str:
    """Parameters for a message."""
    return first_of([f"{each} {tuple(shapes[each])}" for each in names], MOST_NAMED)
