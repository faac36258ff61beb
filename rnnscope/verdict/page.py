"""What is said of a comparison: the tables and the sentences of its page, the verdict in words before all.

Nothing is found here.
"""

import math
from dataclasses import replace
from itertools import permutations

from rnnscope.help.explain import more
from rnnscope.network.shapes import Shape, TensorShape, network_in_words, place_in_words, tensor_shapes
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, thousands, where_it_ran
from rnnscope.spec.question import STRESS_TIMES
from rnnscope.verdict.bounds import COARSEST, INT8, MEAN, coarsest_times
from rnnscope.verdict.calls import Unsteady
from rnnscope.verdict.deviations import in_brackets
from rnnscope.verdict.diagnosis import Explanation, pairs_are_tried
from rnnscope.verdict.facts import BrokenRelation, Inside, Judged, Reference, side_in_words
from rnnscope.verdict.figures import Check, Difference, Margin, is_of_outputs
from rnnscope.verdict.frozen import Frozen
from rnnscope.verdict.gradients import GradientFault
from rnnscope.verdict.map import heat_page
from rnnscope.verdict.unseen import OF_WEIGHTS, blind_spots, reach_in_words, tamed_in_words

_RELATIONS = {"state": "stateless", "chance": "repeatable"}
"""The relation that does not hold where something else comes out of another call."""

_INDEXED = {"y": "y", "padding": "y", "y padding": "y", "h": "h", "c": "c"}
"""The output in which a row has its index; a gradient has the index of its own row."""

_MOST_NAMED = 4
"""A sentence names so many parameters and buffers at most."""

_TENSORS = {"y": "y", "h": "h", "c": "c", "y padding": "the padding of y"}

_BY_TOLERANCE = {
    "identical": "every bit agrees{}",
    "equivalent": "every element is within the tolerance{}; whether they are the same function was not asked",
    "different": "elements are over the tolerance; without --no-reference it is told whether that is rounding",
}
"""Why a verdict without a reference is what it is; {} stands for where that holds."""


def title_of(comparison: Judged) -> str:
    """What is compared."""
    return f"{comparison.right} against {comparison.left}, {network_in_words(comparison.spec)}"


def page_of(comparison: Judged) -> Page:
    """The tables and sentences of `rnnscope compare`."""
    left, right, tolerance, title = comparison.left, comparison.right, comparison.tolerance, title_of(comparison)
    page: Page = [_differences_grid(title, "output", comparison.outputs, comparison)]
    if comparison.frozen is not None:
        page = [_frozen_grid(title, comparison, comparison.frozen)]
    if comparison.gradients is not None:
        page.append(_differences_grid("Gradients", "gradient of", comparison.gradients, comparison))
    if comparison.weights:
        page.append(_differences_grid("Weights that differ", "weight", comparison.weights, comparison))
    if comparison.reference is not None:
        page.append(_reference_grid(comparison, comparison.reference))
    if comparison.question.binds:
        source = "as given" if tolerance.given else "torch.testing's, since no reference was asked for"
        rule = f"|{right} - {left}| <= {tolerance.atol:g} + {tolerance.rtol:g}·|{left}|; {source}."
        page.append(Sentence("Tolerance", rule))
    mood = "good" if comparison.exit_code == 0 else "bad"
    page.append(Sentence("Verdict", verdict_in_words(comparison), mood))
    page += _only_where_made(comparison)
    page += [*_kept(comparison), *_why(comparison), *_own(comparison), *_adapted(comparison)]
    place = comparison.first_divergence
    if place is not None:
        page.append(Sentence("First at", f"{place_in_words(comparison.spec, place, comparison.gate)}."))
    if comparison.gradient_fault is not None:
        page.append(Sentence("First in", _gradient_fault(comparison, comparison.gradient_fault)))
    page += [*_in_chunks(comparison), *_step_by_step(comparison), *_power(comparison), *_under_stress(comparison)]
    if comparison.heat_map is not None:
        limit = "tolerance" if place is None and comparison.question.binds else "bound"
        if comparison.reference and not comparison.reference.function.within:
            limit = "bound in float64"  # the map itself may show nothing over it
        page += heat_page(comparison.spec, comparison.heat_map, limit)
    page += [Sentence(each.label, f"{each.sentence}.") for each in blind_spots(comparison)]
    page += more(named(comparison), least=max((len(each.deviations) for each in _explained(comparison)), default=1))
    dtypes = " and ".join(dict.fromkeys(comparison.sides.dtypes))
    run = where_it_ran(
        comparison.device_name, dtypes, comparison.threads, comparison.torch_version, comparison.back_ends
    )
    page.append(Sentence("Run", run))
    return page + ([Sentence("Rerun", comparison.rerun, verbatim=True)] if comparison.rerun else [])


def named(comparison: Judged) -> tuple[str, ...]:
    """What `rnnscope explain` has a page of: the deviations, otherwise the cause or the verdict; blind spots."""
    decisive = comparison.stress if comparison.stress and comparison.parts_under_stress else comparison
    found = [name for each in _explained(decisive) for name in each.deviations]
    found = found or [each.relation.relation for each in _broken(decisive)] or [comparison.cause or comparison.verdict]
    found += [each.name for each in blind_spots(comparison)]
    found += ["gradient not given"] if comparison.figures.missing_gradients else []
    found += [_RELATIONS[each.by] for each in comparison.calls]
    return tuple(dict.fromkeys(found))


def _differences_grid(title: str, first: str, differences: tuple[Difference, ...], comparison: Judged) -> Grid:
    binds = comparison.question.binds
    names = (first, "shape", "max abs", "at", "max rel", "max ulp", *(["over tolerance"] if binds else []))
    columns = tuple(Column(name, prose=name == "shape", number=name not in (first, "shape", "at")) for name in names)
    rows = (_differences_row(each) for each in differences)
    return Grid(title, columns, tuple(row[: len(columns)] for row in rows))


def _differences_row(each: Difference) -> tuple[str, ...]:
    """The cells of a row, of which the last one is shown if the tolerance binds."""
    if each.max_abs is None or each.max_rel is None or each.worst_index is None:
        return (each.name, f"left {each.shape}, right {each.right_shape}", *["-"] * 5)
    return (
        each.name,
        str(each.shape),
        f"{each.max_abs:.3g}",
        "-" if each.max_abs == 0 else f"{_INDEXED.get(each.name, '')}[{', '.join(map(str, each.worst_index))}]",
        f"{each.max_rel:.3g}",
        "-" if each.max_ulp is None else f"{each.max_ulp:.3g}",
        f"{thousands(each.mismatched or 0)} of {thousands(each.total)}",
    )


def _reference_grid(comparison: Judged, reference: Reference) -> Grid:
    """For each check the tensor that is nearest to its bound, with the error and the bound there."""
    numbers = (Column("error", number=True), Column("bound", number=True))
    columns = (Column("what", name=True), Column("computed in"), *numbers, Column("nearest at", prose=True))
    rows = (
        _reference_row("right against left", reference.function),
        _reference_row(f"left: {comparison.left}", reference.left),
        _reference_row(f"right: {comparison.right}", reference.right),
    )
    return Grid("Against the equations in float64", columns, rows)


def _reference_row(what: str, check: Check) -> tuple[str, ...]:
    worst, index = check.worst, check.worst.index
    name = worst.name if is_of_outputs(worst.name) else f"grad of {worst.name}"
    at = f"{name}[{', '.join(map(str, index))}]"
    at = worst.name if worst.name == f"{MEAN}y" else at
    if check.single_steps and len(index) == 3:
        at = "{}: step {}, item {}, unit {}".format(worst.name, *index)
    elif check.single_steps and len(index) == 4:
        at = "{0}[{2}]: step {1}, item {3}, unit {4}".format(worst.name, *index)
    row = (what, _arithmetic_in_words(check.arithmetic), f"{worst.error:.3g}", f"{worst.bound:.3g}")
    return (*row, at if worst.error else "-")


def _explained(comparison: Judged) -> tuple[Explanation, ...]:
    """The deviations that the page names."""
    reference = comparison.reference
    return comparison.explanations if reference and reference.deviating else ()


def _broken(comparison: Judged) -> tuple[BrokenRelation, ...]:
    """The relation that the page names."""
    return tuple(filter(None, (comparison.reasons.broken_relation,)))


def _why(comparison: Judged) -> Page:
    """The deviations that a side has, and the relation that it breaks."""
    reference, reasons = comparison.reference, comparison.reasons
    if reference is None or not reference.deviating:
        return []
    roles = dict.fromkeys(each.side for each in reasons.explanations)
    found = [f"{side_in_words(comparison, role, 'The')} {_does(reasons.explanations, role)}" for role in roles]
    for each in _broken(comparison):
        side, relation = side_in_words(comparison, each.side, "The"), each.relation
        found.append(f"{side} breaks {relation.relation}: {relation.message}")
    if not found:
        if comparison.only_where_made:
            return []
        if reference.about_coarser or reasons.dependences or reasons.refused or comparison.weights:
            return []
        outputs = [each for each in reference.function.margins if is_of_outputs(each.name)]
        only = "only gradients differ, so no convention of the outputs explains it"
        none, recorded = "no known deviation explains it", comparison.sides.recorded
        if not all(pairs_are_tried(comparison.spec, role == recorded) for role in reference.deviating):
            none += "; two at once were not tried on so large a network"
        found = [only if all(each.within for each in outputs) else none]
    return [Sentence("Why", f"{each}.") for each in found]


def _does(explanations: tuple[Explanation, ...], role: str) -> str:
    """What a side does; where this input does not tell several apart, one of them."""
    found = [each for each in explanations if each.side == role]
    if len(found) == 1:
        return found[0].does
    ways = [in_brackets(each.does) if len(each.deviations) == 1 else each.does for each in found]
    return f"does one of these, which are the same on this input: {'; '.join(ways)}"


def _kept(comparison: Judged) -> Page:
    """Where a side keeps what it keeps."""
    page: Page = []
    for each in comparison.calls:
        if each.changes is not None:
            side = side_in_words(comparison, each.side, "The")
            kept = f"changes {_some(each.changes)} when it is called"
            if not each.changes:
                kept = "keeps something that is neither a parameter nor a buffer"
            page.append(Sentence("Why", f"{side} {kept}."))
    return page


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _own(comparison: Judged) -> Page:
    """What was noticed of somebody's own class."""
    page: Page = []
    by_chance = {each.side for each in comparison.calls if each.by == "chance"}
    for role in sorted(by_chance | {each.side for each in comparison.reasons.dependences if not each.repeats}):
        side = side_in_words(comparison, role, "The")
        page.append(Sentence("Why", f"{side} gives something else each time it is run."))
    for found in comparison.reasons.dependences:
        side = side_in_words(comparison, found.side, "The")
        if found.ignores:
            page.append(Sentence("Why", f"{side}: its output does not depend on {', '.join(found.ignores)}."))
    for role, names in comparison.figures.missing_gradients:
        side, named = side_in_words(comparison, role), ", ".join(names)
        page.append(Sentence("Blind spot", f"{side} gives no gradient of {named}, so that these are not compared."))
    reference = comparison.reference
    for each in reference.inside if reference and comparison.cause != "precision" else ():
        page.append(Sentence("Note", f"{side_in_words(comparison, each.side, 'The')} {_computes_inside(each)}."))
    for role, dtype in comparison.figures.wrong_dtypes:
        asked = comparison.sides.dtypes[0 if role == "left" else 1]
        side = side_in_words(comparison, role, "The")
        why = ", as autocast does" if role == "right" and dtype == comparison.sides.how.autocast else ""
        page.append(Sentence("Note", f"{side} returned {dtype} where {asked} was asked for{why}."))
    return page


def _adapted(comparison: Judged) -> Page:
    """What could not be told, and what was done to build and to call a class of the user's."""
    told = ((side_in_words(comparison, side, "The"), "; ".join(each)) for side, each in comparison.adaptations if each)
    notes = [Sentence("Note", f"{each[0].upper()}{each[1:]}.") for each in comparison.notes]
    return [*notes, *(Sentence("Adapted", f"{side}: {each}.") for side, each in told)]


def _gradient_fault(comparison: Judged, fault: GradientFault) -> str:
    """Which gradient is the first that is off, and how."""
    where = f"the gradient of {fault.name}" + (f", gate {fault.gate}" if fault.gate else "")
    where += "" if comparison.side else f" on {side_in_words(comparison, fault.side)}"
    where += {True: ", in single steps", False: ", though not in single steps", None: ""}[fault.single_steps]
    where += "" if fault.through == "y" else f", of what comes back through {fault.through}"
    scaled = f"it is {fault.scale:.4g} times torch's" if fault.scale is not None else ""
    by_chance = f"{scaled}, which may be chance" if scaled else "it is no multiple of torch's"
    how = {"missing": "it is 0 where torch's is not", "scale": scaled, "formula": by_chance}
    how["rounding"] = f"rounding to {COARSEST} would explain it"
    back = fault.kind == "missing" and fault.single_steps and fault.name in ("h0", "c0")
    return f"{where}: {how[fault.kind]}{', so that a step hands none back to the one before' if back else ''}."


def _in_chunks(comparison: Judged) -> Page:
    chunk, steps = comparison.question.chunk, comparison.spec.seq_len
    if chunk is None or chunk >= steps:
        return []
    chunks, rest = divmod(steps, chunk)
    last = f" and one of {counted(rest, 'step')}" if rest else ""
    of = f"{counted(chunks, 'chunk')} of {counted(chunk, 'step')}{last}"
    return [Sentence("In chunks", f"{of}, each from the state after the one before.")]


def _step_by_step(comparison: Judged) -> Page:
    if comparison.question.resync:
        count = counted(comparison.outputs[-1].shape[1], "sequence")
        return [Sentence("Step by step", f"{count} of one step, each fed the reference's state before it.")]
    reference = comparison.reference
    checks = (reference.function, reference.left, reference.right) if reference else ()
    counts = [each.whole_steps for each in checks if each.whole_steps is not None]
    tamed = next(
        (f"all {comparison.spec.seq_len} steps with {tamed_in_words(each)}" for each in checks if each.tamed_by), ""
    )
    if not counts:
        hides = "rounding hides small faults in the later steps, so that they were compared in other ways too"
        return [Sentence("Step by step", f"{hides}: {tamed}.")] if tamed else []
    first = f"; the first {counted(max(counts), 'step')} as a whole too" if max(counts) else ""
    first += f"; {tamed}" if tamed else ""
    why = "rounding moves whole runs too far to tell, so every step was compared by itself, from the reference's state"
    return [Sentence("Step by step", f"{why}{first}.")]


def _power(comparison: Judged) -> Page:
    power = comparison.reasons.power
    if power is None:
        return []
    outcomes = {"caught": power.caught, "missed": power.missed, "never seen": power.equivalent}
    columns = (Column("outcome"), Column("count", number=True), Column("deviations on the right side", prose=True))
    rows = tuple((word, str(len(names)), "; ".join(names) or "-") for word, names in outcomes.items())
    return [Grid("What this comparison would have caught", columns, rows)]


def _under_stress(comparison: Judged) -> Page:
    """What was found under stress, in short."""
    stress, spec = comparison.stress, comparison.spec
    if stress is None:
        asked = comparison.question.stress
        return [Sentence("Under stress", "not asked, since they differ as it is.")] if asked else []
    rows = [("verdict", _verdict_under_stress(stress))]
    rows += [("cause", stress.cause)] if stress.cause else []
    rows += [("reached", f"{reach_in_words(spec, stress.reached)}.")] if stress.reached else []
    rows += [(each.label.lower(), each.text) for each in (*_why(stress), *_own(stress)) if isinstance(each, Sentence)]
    place = stress.first_divergence
    rows += [("first at", f"{place_in_words(stress.spec, place)}.")] if place else []
    state = "" if spec.h0 == "zeros" else " and the initial state"
    title = f"Under stress: x{state} {STRESS_TIMES} times as large, in {counted(stress.spec.seq_len, 'step')}"
    return [Grid(title, (Column("what"), Column("found", prose=True)), tuple(rows))]


def _verdict_under_stress(stress: Judged) -> str:
    if stress.cause == "nonfinite" and stress.verdict == "undecided":
        dtypes = " or ".join(dict.fromkeys(stress.sides.dtypes))
        return f"undecided: numbers so large are near or beyond what {dtypes} can say, so that nothing can be told."
    return verdict_in_words(stress)


def verdict_in_words(comparison: Judged) -> str:
    """The verdict and why, in a few sentences."""
    stress, plain = comparison.stress, comparison.as_asked
    if stress is None:
        return _with_calls(comparison)
    if comparison.parts_under_stress:
        return f"different: {plain.verdict} as asked, but not under stress, as the table there says."
    counts = ", which does not count" if stress.verdict == "undecided" else ""
    return f"{comparison.verdict}: {_because(plain)}; under stress {stress.verdict}{counts}."


def _with_calls(comparison: Judged) -> str:
    """The verdict and why; what other calls give is said first."""
    in_first_calls = replace(comparison, calls=())
    because, differs = _because(in_first_calls), in_first_calls.verdict == "different"
    is_other = in_first_calls.cause == "function"  # then a line behind Why names chance
    told = [_unsteady(comparison, each) for each in comparison.calls if each.by == "state" or not is_other]
    if not told:
        return f"{comparison.verdict}: {because}."
    if comparison.reference is None and comparison.question.reference and not in_first_calls.cause:
        return f"{comparison.verdict}: {'. Besides, '.join(told)}. In float64 it raises an error."
    alone = "too" if differs else "alone"
    return f"{comparison.verdict}: {'. Besides, '.join(told)}. In first calls {alone}: {because}."


def _unsteady(comparison: Judged, found: Unsteady) -> str:
    side, at = side_in_words(comparison, found.side), found.output
    at += f"[{', '.join(map(str, found.index))}]" if found.index else ""  # another shape has no place
    if found.by == "state":
        other = f"with the same input, call {found.call} gives"
        return f"{side} keeps state from call to call: {other} {at} {found.max_abs:.2g} apart from call 1"
    return f"{side} does not give the same each time it is run: {at} is {found.max_abs:.2g} apart"


def _arithmetic_in_words(arithmetic: str) -> str:
    """The name of an arithmetic as people write it."""
    return "TF32" if arithmetic == "tf32" else arithmetic


def _coarse_in_words(arithmetic: str) -> str:
    """An arithmetic that was told by its roundings alone, of which TF32 and float16 have the same."""
    return "TF32 or float16" if arithmetic == "tf32" else arithmetic


def _computes_inside(inside: Inside) -> str:
    about = "" if inside.is_seen else "about "
    return f"computes in {about}{_coarse_in_words(inside.arithmetic)} inside"


def _tensor_in_words(name: str) -> str:
    """An output by its name, a gradient as "the gradient of x", so that x is not taken for the input."""
    return _TENSORS.get(name, f"the gradient of {name}")


def _because(comparison: Judged) -> str:
    reference = comparison.reference
    if comparison.frozen is not None:
        return _is_frozen(comparison, comparison.frozen)
    if comparison.cause == "shape":
        rows = [each for each in comparison.figures.rows if each.shape != each.right_shape]
        told = [words for each in rows for words in _axes_in_words(comparison, each)]
        return (
            f"the shapes of {' and '.join(each.name for each in rows)} differ{': ' * bool(told)}{', and '.join(told)}"
        )
    if comparison.cause == "nonfinite":
        sides = " and ".join(side_in_words(comparison, side) for side in comparison.nonfinite)
        return f"NaN or infinity came out of {sides}" if sides else "in float64 NaN or infinity came out"
    if reference is None:
        return _BY_TOLERANCE[comparison.verdict].format(_on_these_weights(comparison))
    if not reference.function.within:
        return _other_function(comparison, reference)
    if comparison.cause == "precision":
        return _worse(comparison, reference)
    far = " as far as can be told" if reference.function.whole_steps is not None else ""
    same = f"same function{_on_these_weights(comparison)}" + (
        " as far as a recorded run can tell" if comparison.sides.recorded else far
    )
    same += ", though not torch's" if reference.deviating else ""
    same += ", though their weights differ" if comparison.weights else ""
    if not reference.decided:
        over = ", and elements are over the tolerance" if comparison.verdict == "different" else ""
        return _undecided(reference) + over
    if comparison.verdict == "different":
        return f"{same}, and they differ by rounding alone, but elements are over the tolerance"
    if comparison.verdict == "identical":
        return f"{same}, and every bit agrees"
    return f"{same}; {_rounding(comparison, reference)}"


def _frozen_grid(title: str, comparison: Judged, frozen: Frozen) -> Grid:
    """What an export does at the sizes of the run, and where it was made."""
    columns = (Column("sizes", name=True), Column("what"), Column("found", prose=True))
    here = f"{frozen.output} has shape {frozen.shape}, torch has {frozen.expected}" if frozen.output else "fails"
    asked, made_at = _sizes_asked(comparison), _sizes_in_words(comparison, frozen.made_at)
    return Grid(title, columns, ((asked, "asked for", here), (made_at, "made at", frozen.there)))


def _only_where_made(comparison: Judged) -> Page:
    """Why a side is off that is frozen, or the same function where it was made alone."""
    if comparison.frozen is not None and comparison.frozen.reason:
        side = side_in_words(comparison, comparison.frozen.side, "The")
        return [Sentence("Why", f"{side} says: {comparison.frozen.reason}.")]
    if comparison.only_where_made is None:
        return []
    side, made_at = comparison.only_where_made
    at = f"at {_sizes_in_words(comparison, made_at)}, where it was made"
    who = side_in_words(comparison, side, "The")
    return [Sentence("Why", f"{who} is the same function {at}; at {_sizes_asked(comparison)} it gives other values.")]


def _sizes_asked(comparison: Judged) -> str:
    return _sizes_in_words(comparison, (comparison.spec.seq_len, comparison.spec.batch_size))


def _sizes_in_words(comparison: Judged, sizes: tuple[int, int]) -> str:
    """L and N: "L = 7, N = 4"."""
    steps, items = sizes
    return f"L = {steps}" if comparison.spec.unbatched else f"L = {steps}, N = {items}"


def _is_frozen(comparison: Judged, frozen: Frozen) -> str:
    does = "gives another shape" if frozen.output else "fails"
    made, asked = _sizes_in_words(comparison, frozen.made_at), _sizes_asked(comparison)
    runs = "is the same function" if frozen.there in ("identical", "equivalent") else "runs"
    who = side_in_words(comparison, frozen.side)
    return f"{who} is frozen: it {runs} at {made}, where it was made, and at {asked} it {does}"


def _axes_in_words(comparison: Judged, row: Difference) -> list[str]:
    """Which axis of an output is off on a side, where its sizes tell."""
    expected = next((each for each in tensor_shapes(comparison.spec) if each.name == row.name), None)
    if expected is None:
        return []
    sides = zip(("left", "right"), (row.shape, row.right_shape), strict=True)
    told = (
        (side_in_words(comparison, side), _axes_off(row.name, shape, expected, comparison.spec.seq_len))
        for side, shape in sides
    )
    return [f"{words} on {side}" for side, words in told if words]


def _axes_off(name: str, shape: Shape, expected: TensorShape, steps: int) -> str:
    dims = list(expected.dims)
    if shape == expected.shape[1:] and name in ("h", "c"):
        return f"{name} has no layer dim"
    if len(shape) > len(dims):
        return f"{name} has {len(shape)} dims where torch has {len(dims)}"
    if len(shape) != len(dims) or shape == expected.shape:
        return ""
    sizes = dict(zip(dims, expected.shape, strict=True))
    orders = (each for each in permutations(dims) if tuple(sizes[dim] for dim in each) == shape)
    if other := next(orders, None):
        return f"{name} is ({', '.join(other)}) where torch has ({', '.join(dims)})"
    off = [dim for dim, got, size in zip(dims, shape, expected.shape, strict=True) if got != size]
    if off == ["N"] and shape[dims.index("N")] == steps:
        return f"{name} has L = {steps} where torch has N = {sizes['N']}, as if it walked along the batch"
    return f"{name} has another {' and another '.join(off)}" if off else ""


def _on_these_weights(comparison: Judged) -> str:
    """The words " on these weights" where others would show more."""
    return " on these weights" if any(each.name in OF_WEIGHTS for each in comparison.unseen) else ""


def _other_function(comparison: Judged, reference: Reference) -> str:
    used, worst = _arithmetic_in_words(reference.function.arithmetic), reference.function.worst
    tamed = f" with {tamed_in_words(reference.function)}" if reference.function.tamed_by else ""
    apart = f"in {used}{tamed} {_is_off(worst, 'apart')}"
    apart += f", and rounding explains {worst.bound:.2g}"
    return f"not the same function: {apart}{_who(comparison, reference)}{_of_a_recording(comparison, reference)}"


def _worse(comparison: Judged, reference: Reference) -> str:
    """Which side computes worse than its arithmetic allows."""
    check = reference.left if comparison.side == "left" else reference.right
    name, used = side_in_words(comparison, comparison.side or ""), _arithmetic_in_words(check.arithmetic)
    how, where = f"computes worse than {used} allows", ""
    if inside := next((each for each in reference.inside if each.side == comparison.side), None):
        how = _computes_inside(inside)
    elif 1 < coarsest_times(check.arithmetic) < check.worst.nearness[1]:
        how = f"is further off in {used} than even {COARSEST} would be"
        where = f" in {_arithmetic_in_words(reference.function.arithmetic)}"
    worst = check.worst
    off = f"{_is_off(worst, 'off')}, and rounding in {used} explains {worst.bound:.2g}"
    return f"same function{where}, but {name} {how}: {off}"


def _is_off(worst: Margin, off: str) -> str:
    """How far a tensor is off: "y is 0.25 apart"."""
    name, on_average = worst.name.removeprefix(MEAN), " on average" if worst.name.startswith(MEAN) else ""
    return f"{_tensor_in_words(name)} is {worst.error:.2g} {off}{on_average}"


def _who(comparison: Judged, reference: Reference) -> str:
    """Which side is off, or whether it is the weights."""
    own = " with its own weights" if comparison.weights else ""
    if len(reference.deviating) == 2:
        return f". Neither side computes what torch's equations say{own}"
    if comparison.side is not None:
        off = side_in_words(comparison, comparison.side)
        return f". It is {off} that does not compute what torch's equations say{own}"
    return ". It is the weights: both sides compute what torch's equations say of their own" if own else ""


def _of_a_recording(comparison: Judged, reference: Reference) -> str:
    if comparison.sides.recorded is None or comparison.sides.recorded not in reference.deviating:
        return ""
    if reference.about_coarser:
        near = f". It is as near as {_coarse_in_words(reference.about_coarser)} would be"
        may = "quantized" if reference.about_coarser == INT8 else "computed in that"
        return f"{near}: it may have been {may}, or a weight is off by as little"
    return ". A recorded run has no float64, so that it may be worse precision too"


def _undecided(reference: Reference) -> str:
    if not reference.function.decided:
        return f"rounding in float64 alone may move {_moved(reference.function)}, so that nothing can be told"
    check = reference.right if reference.left.decided else reference.left
    used = _arithmetic_in_words(check.arithmetic)
    moved = f"same function in float64, but in {used} rounding alone may move {_moved(check)}"
    return f"{moved}: how well the sides compute is not decidable in this precision"


def _moved(check: Check) -> str:
    """What is moved too far, and how far."""
    widest = max((each for each in check.margins if not each.decided), key=lambda each: each.bound)
    far = f"by {widest.bound:.2g}" if math.isfinite(widest.bound) else "without limit"
    steps = "even in a single step" if check.single_steps else "over all steps, and single ones cannot be taken"
    return f"{_tensor_in_words(widest.name)} {far} {steps}"


def _rounding(comparison: Judged, reference: Reference) -> str:
    sides = {"left": reference.left.arithmetic, "right": reference.right.arithmetic}
    tf32 = [side for side, arithmetic in sides.items() if arithmetic == "tf32"]
    if tf32 and reference.without_tf32 is not None:
        who = "both sides compute" if len(tf32) == 2 else f"{side_in_words(comparison, tf32[0])} computes"
        return f"{who} in TF32; --no-tf32 brings it to {reference.without_tf32:.2g}"
    if _through_onednn(comparison):
        half = comparison.sides.dtypes[0]
        return f"the module computes through oneDNN, which rounds {half} in its own way; --no-onednn leaves it out"
    used = list(dict.fromkeys(map(_arithmetic_in_words, sides.values())))
    allow = "allows" if len(used) == 1 else "allow"
    return f"they differ by rounding alone, and each side is as exact as {' and '.join(used)} {allow}"


def _through_onednn(comparison: Judged) -> bool:
    """Whether oneDNN takes nn.LSTM over in bfloat16, and with it most of the difference."""
    spec, module = comparison.spec, "module" in (comparison.left, comparison.right)
    taken = spec.kind == "lstm" and not spec.proj_size and spec.lengths is None and module
    same_place = comparison.device_name == "cpu" and set(comparison.sides.dtypes) == {"bfloat16"}
    return taken and same_place and dict(comparison.back_ends).get("onednn", False)
