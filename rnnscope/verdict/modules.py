"""Two files of recorded runs, module by module: the verdict of each module and of all, and what is said of it.

A module is to blame where its input agrees and its output does not. What a later one is given differs anyway, by what
came before it: so each run is judged by itself, too, with its own weights and input.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from rnnscope.help.explain import more
from rnnscope.pages.ci import ERROR, FAILED, PASSED, Case
from rnnscope.pages.page import Column, Grid, Page, Sentence, counted, said, where_it_ran
from rnnscope.pages.render import Result
from rnnscope.spec.options import SOURCE_FLAGS, Sources
from rnnscope.spec.question import nan_last
from rnnscope.spec.sides import LEFT, RECORDED, RIGHT
from rnnscope.spec.spec import Spec, rerun
from rnnscope.verdict.figures import Check, Difference
from rnnscope.verdict.result import Comparison

NETWORK = ("kind", "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "bidirectional", "proj_size")
"""What two runs of one module have in common."""


@dataclass(frozen=True)
class JudgedRun:
    """A recorded run against the equations in float64, with its own weights and input.

    name: the run in its file. device: where it ran; None where the file does not say. comparison: None where random
    masks of dropout are in the run, which nobody can draw again.
    """

    file: str
    name: str
    spec: Spec
    device: str | None
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """What the comparison says: different where this is not what torch's equations give."""
        return self.comparison.verdict if self.comparison else "undecided"

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        found = self.comparison
        check = found.reference.right if found and found.reference else None
        return {
            "file": self.file,
            "name": self.name,
            "device": self.device,
            "dtype": self.spec.dtype,
            "verdict": self.verdict,
            "cause": found.cause if found else "dropout",
            "max_abs": check.max_abs if check else None,
            "bound": check.worst.bound if check else None,
            "explanations": [asdict(each) for each in found.explanations] if found else [],
            "first_divergence": asdict(found.first_divergence) if found and found.first_divergence else None,
        }


@dataclass(frozen=True)
class ComparedModule:
    """One module in two files, or one call of it.

    inputs, outputs: x, h0 and c0, or y, h and c, of the right run against the left one; none where the networks have
    other sizes. weights: those that differ. input_share, output_share: how far they are apart, as a share of the
    greatest number there; input_allowed: how much of that rounding may have brought. function: right output against
    left one within measured bounds, where weights and input agree and the output does not.
    """

    path: str
    left: JudgedRun
    right: JudgedRun
    inputs: tuple[Difference, ...] = ()
    weights: tuple[Difference, ...] = ()
    outputs: tuple[Difference, ...] = ()
    input_share: float = 0.0
    output_share: float = 0.0
    input_allowed: float = 0.0
    function: Check | None = None

    @property
    def runs(self) -> tuple[JudgedRun, JudgedRun]:
        return self.left, self.right

    @property
    def is_one_network(self) -> bool:
        """Whether both runs are of one kind and size."""
        return all(getattr(self.left.spec, name) == getattr(self.right.spec, name) for name in NETWORK)

    @property
    def input_max_abs(self) -> float | None:
        """How far inputs are apart; None where they have other shapes."""
        return _max_abs(self.inputs)

    @property
    def output_max_abs(self) -> float | None:
        """How far outputs are apart; None where they have other shapes."""
        return _max_abs(self.outputs)

    @property
    def same_input(self) -> bool:
        """Whether every number that went in agrees."""
        return self.is_one_network and all(each.identical for each in self.inputs)

    @property
    def parts(self) -> bool:
        """Whether the input agrees, and the output does not: here the two runs part."""
        return self.same_input and not all(each.identical for each in self.outputs)

    @property
    def off(self) -> tuple[JudgedRun, ...]:
        """The runs that are not what torch's equations give. Two that do the same something else are not off."""
        found = tuple(each for each in self.runs if each.verdict == "different")
        alike = self.is_identical or (self.function and self.function.within and self.function.decided)
        return () if len(found) == 2 and alike else found

    @property
    def is_identical(self) -> bool:
        """Whether weights, input and output agree bit for bit."""
        return self.same_input and not self.weights and all(each.identical for each in self.outputs)

    @property
    def cause(self) -> str | None:
        """Why the runs are not identical, the first that holds: other networks, input that is NaN, a run that is off
        by itself, other weights, input further apart than rounding brings it, output further apart than that, masks.

        network, input, shape, nonfinite, function, precision, weights, dropout, rounding; None where they are identical
        or nothing can be told.
        """
        if not self.is_one_network:
            return "network"
        if any(each.nonfinite for each in self.inputs):
            return "input"
        if self.off:
            return self.off[0].comparison.cause if self.off[0].comparison else None
        if self.weights:
            return "weights"
        if not self.input_share <= self.input_allowed:  # NaN is over
            return "input"
        if self.function and not self.function.within:
            return "function"
        if self.is_identical:
            return None
        if any(each.comparison is None for each in self.runs):
            return "dropout"
        return "rounding" if self._is_decided else None

    @property
    def _is_decided(self) -> bool:
        decided = self.function is None or self.function.decided
        return decided and all(each.verdict != "undecided" for each in self.runs)

    @property
    def verdict(self) -> str:
        """identical, equivalent (rounding explains it all), different, or undecided."""
        if self.cause not in (None, "rounding", "dropout"):
            return "different"
        if self.is_identical:
            return "identical"
        return "equivalent" if self.cause == "rounding" else "undecided"

    def facts(self) -> dict[str, Any]:
        """What programs get of it."""
        return {
            "path": self.path,
            "verdict": self.verdict,
            "cause": self.cause,
            "side": self._side,
            "spec": self.left.spec.facts,
            "input_max_abs": self.input_max_abs,
            "input_share": self.input_share,
            "input_allowed": self.input_allowed,
            "output_max_abs": self.output_max_abs,
            "bound": self.function.worst.bound if self.function else None,
            "weights_differ": bool(self.weights),
            "inputs": [asdict(each) for each in self.inputs],
            "outputs": [asdict(each) for each in self.outputs],
            "weight_differences": [asdict(each) for each in self.weights],
            "left": self.left.facts(),
            "right": self.right.facts(),
        }

    @property
    def _side(self) -> str | None:
        if len(self.off) != 1:
            return None
        return "left" if self.off[0] is self.left else "right"


def _max_abs(rows: tuple[Difference, ...]) -> float | None:
    found = [each.max_abs for each in rows if each.max_abs is not None]
    return max(found, key=nan_last) if found and len(found) == len(rows) else None


@dataclass(frozen=True)
class ComparedRuns(Result):
    """Two files of recorded runs, module by module in the order in which they were called.

    only_left, only_right: runs that only one file has. recorded: for each file, where its runs were recorded, as far as
    it says so. notes: what a file says of runs that it has not.
    """

    left: str
    right: str
    sources: Sources
    modules: tuple[ComparedModule, ...]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    recorded: dict[str, str]
    notes: tuple[str, ...]
    used_threads: int
    torch_version: str
    device_name: str = "cpu"

    command: ClassVar[str] = "compare"

    @property
    def rerun(self) -> str:
        """The command line that compares them again."""
        sides = ((LEFT, f"{RECORDED}{self.left}"), (RIGHT, f"{RECORDED}{self.right}"))
        prefixes = [(SOURCE_FLAGS[name], getattr(self.sources, name)) for name in ("prefix", "right_prefix")]
        return rerun(self.command, Spec(threads=self.used_threads), *sides, *prefixes)

    @property
    def threads(self) -> int:
        return self.used_threads

    @property
    def first(self) -> ComparedModule | None:
        """The first module whose input agrees and whose output does not."""
        return next((each for each in self.modules if each.parts), None)

    @property
    def first_different(self) -> ComparedModule | None:
        """The first module that is different."""
        return next((each for each in self.modules if each.verdict == "different"), None)

    @property
    def verdict(self) -> str:
        """different where a module is, or where one file has a run that the other has not; otherwise undecided where a
        module is, identical where all are, and equivalent.
        """
        found = {each.verdict for each in self.modules}
        if "different" in found or self.only_left or self.only_right:
            return "different"
        if "undecided" in found:
            return "undecided"
        return "identical" if found == {"identical"} else "equivalent"

    @property
    def exit_code(self) -> int:
        """0 when identical or equivalent, 1 when different, 2 when undecided."""
        return {"different": 1, "undecided": 2}.get(self.verdict, 0)

    def page(self) -> Page:
        """The table of modules, and what it says in words."""
        page: Page = [_grid(self)]
        page.append(Sentence("Verdict", f"{self.verdict}: {_because(self)}.", "bad" if self.exit_code else "good"))
        if self.first:
            page.append(Sentence("They part in", f"{_where(self.first)}."))
        page += [Sentence("Why", f"{each}.") for each in _why(self.first_different)]
        for file, other, names in ((self.left, self.right, self.only_left), (self.right, self.left, self.only_right)):
            if names:
                page.append(Sentence("Note", f"{file} alone, and not {other}, has {', '.join(map(_quoted, names))}."))
        page += [Sentence("Note", f"{each}.") for each in (*_alike(self), *self.notes)]
        page += more(_named(self))
        if self.recorded:
            page.append(Sentence("Recorded", f"{_recorded(self.recorded)}."))
        dtypes = " and ".join(dict.fromkeys(run.spec.dtype for each in self.modules for run in each.runs))
        page.append(Sentence("Run", where_it_ran("cpu", dtypes, self.used_threads, self.torch_version)))
        return [*page, Sentence("Rerun", self.rerun, verbatim=True)]

    def cases(self) -> Iterator[Case]:
        """One for each module, and one for each run that one file alone has."""
        lines = said(self.page(), "They part in", "Why", "Rerun")
        for each in self.modules:
            outcome, message = PASSED, ""
            if each.verdict == "different":
                outcome, message = FAILED, f"different: {_off(self, each)}."
            elif each.verdict == "undecided":
                outcome, message = ERROR, f"undecided: {_undecided(each)}."
            yield Case(_quoted(each.path), outcome, each.cause or each.verdict, message, lines, self.right)
        for file, names in ((self.left, self.only_left), (self.right, self.only_right)):
            for name in names:
                yield Case(_quoted(name), FAILED, "missing", f"different: {file} alone has it.", lines, file)

    def facts(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        return {
            "left": f"{RECORDED}{self.left}",
            "right": f"{RECORDED}{self.right}",
            "modules": [each.facts() for each in self.modules],
            "verdict": self.verdict,
            "first": self.first and self.first.path,
            "first_different": self.first_different and self.first_different.path,
            "only_left": list(self.only_left),
            "only_right": list(self.only_right),
            "recorded": self.recorded,
            "notes": list(self.notes),
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One record a module."""
        names = ("path", "verdict", "cause", "side", "input_max_abs", "output_max_abs", "bound", "weights_differ")
        for each in self.modules:
            facts = each.facts()
            sizes = {name: getattr(each.left.spec, name) for name in NETWORK}
            yield (
                {name: facts[name] for name in names} | sizes | {"left": each.left.verdict, "right": each.right.verdict}
            )


def _quoted(path: str) -> str:
    return path or "the model itself"


def _recorded(where: dict[str, str]) -> str:
    """Where runs were recorded: once, where that is the same for all files."""
    places = dict.fromkeys(where.values())
    return next(iter(places)) if len(places) == 1 else "; ".join(f"{file} {place}" for file, place in where.items())


def _alike(found: ComparedRuns) -> Iterator[str]:
    """The modules that do something of their own, the same in both files."""
    for each in found.modules:
        if not each.off and all(run.verdict == "different" for run in each.runs):
            yield f"both runs of {_quoted(each.path)} are alike, and not what torch's equations give"


def _grid(found: ComparedRuns) -> Grid:
    apart = (Column("input apart", number=True), Column("output apart", number=True), Column("bound", number=True))
    columns = (Column("module", name=True), Column("network", prose=True), *apart, Column("verdict", prose=True))
    rows = tuple(
        (
            each.path or '""',
            _network(each.left.spec),
            _figure(each.input_max_abs),
            _figure(each.output_max_abs),
            _figure(each.function.worst.bound if each.function else None),
            each.verdict + (f": {each.cause}" if each.cause else ""),
        )
        for each in found.modules
    )
    return Grid(f"{found.right} against {found.left}, module by module", columns, rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _network(spec: Spec) -> str:
    """Kind and sizes in short: LSTM 10→20, K=2, D=2."""
    facts = [f"{spec.kind.upper()} {spec.input_size}→{spec.hidden_size}"]
    facts += [f"K={spec.num_layers}"] if spec.num_layers > 1 else []
    facts += ["D=2"] if spec.bidirectional else []
    facts += [f"P={spec.proj_size}"] if spec.proj_size else []
    facts += [spec.nonlinearity] if spec.nonlinearity != "tanh" else []
    facts += [] if spec.bias else ["no bias"]
    return ", ".join(facts)


def _because(found: ComparedRuns) -> str:
    """Why the verdict is what it is: of the first module that decides it."""
    each = found.first_different
    if each is not None:
        return f"{_quoted(each.path)} is the first module that differs: {_off(found, each)}"
    if found.only_left or found.only_right:
        return "one file has runs that the other has not; those that both have are the same"
    every = f"{counted(len(found.modules), 'module')} {'has' if len(found.modules) == 1 else 'have'} the same weights"
    if found.verdict == "undecided":
        doubtful = next(each for each in found.modules if each.verdict == "undecided")
        return f"{_quoted(doubtful.path)} is not decidable: {_undecided(doubtful)}"
    if found.verdict == "identical":
        return f"{every}, input and output, bit for bit"
    return f"{every}, and their outputs differ by rounding alone"


def _off(found: ComparedRuns, each: ComparedModule) -> str:
    """What is wrong with a module that is different."""
    if each.cause == "network":
        networks = (f"{_network(run.spec)} in {run.file}" for run in each.runs)
        return f"it is {' and '.join(networks)}"
    if each.off:
        return _off_by_itself(each)
    right = "each run is what torch's equations give of its own weights and input"
    if not all(run.verdict in ("identical", "equivalent") for run in each.runs):
        right = "whether each run is right in itself is not decidable"
    if each.cause == "weights":
        worst = max(each.weights, key=lambda row: nan_last(row.max_abs or 0.0))
        more_of_them = f" and {len(each.weights) - 1} more" if len(each.weights) > 1 else ""
        return f"its weights differ ({worst.name} by {_figure(worst.max_abs)}{more_of_them}); {right}"
    if each.cause == "input":
        apart = each.input_max_abs
        how = "has other shapes" if apart is None else f"is {apart:.3g} apart, which is more than rounding brings"
        how = "has NaN or infinity in it" if any(row.nonfinite for row in each.inputs) else how
        where = "before the first module" if each is found.modules[0] else "between it and the modules before"
        return f"its input {how}; {right}. Look at what comes {where}, which is not recorded"
    return f"from the same input {_apart(each)}, and rounding explains {_bound(each)}; each is near the equations"


def _off_by_itself(each: ComparedModule) -> str:
    """How runs are off that are not what the equations give."""
    files = " and ".join(run.file for run in each.off)
    comparison = each.off[0].comparison
    if each.cause == "nonfinite":
        return f"NaN or infinity comes out in {files}, of an input that is finite"
    if each.cause == "shape" or comparison is None or comparison.reference is None:
        return f"its output has other shapes in {files} than torch's"
    worst = comparison.reference.right.worst
    says = f"in {files} it is not what torch's equations give of its own weights and input"
    return f"{says}: {worst.name} is {worst.error:.2g} apart, and rounding explains {worst.bound:.2g}"


def _undecided(each: ComparedModule) -> str:
    if each.cause == "dropout":
        return "it ran in training mode, and random masks of dropout are in its output; record it after model.eval()"
    return "rounding alone may move its output too far"


def _where(each: ComparedModule) -> str:
    """The first module whose input agrees and whose output does not, and whether that is rounding."""
    if each.weights:
        return f"{_quoted(each.path)}: the same input, other weights, and {_apart(each)}"
    is_rounding = {"equivalent": f"by rounding, which explains {_bound(each)}", "undecided": "undecided"}
    of = is_rounding.get(each.verdict, f"more than rounding explains, which is {_bound(each)}")
    return f"{_quoted(each.path)}: the same weights and input, and {_apart(each)}, {of}"


def _apart(each: ComparedModule) -> str:
    worst = max(each.outputs, key=lambda row: nan_last(row.max_abs or 0.0))
    return f"{worst.name} is {_figure(worst.max_abs)} apart"


def _bound(each: ComparedModule) -> str:
    return _figure(each.function.worst.bound if each.function else None)


def _why(each: ComparedModule | None) -> Iterator[str]:
    """The deviations that runs have."""
    for run in each.off if each else ():
        if run.comparison and run.comparison.explanations:
            yield f"{run.file} {run.comparison.explanations[0].does}"


def _named(found: ComparedRuns) -> list[str]:
    """What `rnnscope explain` has a page of: the deviations, otherwise the cause or the verdict."""
    each = found.first_different
    runs = [run.comparison for run in each.off if run.comparison] if each else []
    deviations = [name for run in runs for explanation in run.explanations for name in explanation.deviations]
    cause = each.cause if each else "rounding" if found.verdict == "equivalent" else None
    return deviations or [cause or found.verdict, found.verdict]
