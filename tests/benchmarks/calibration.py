"""How often the verdict is wrong: random correct pairs must be the same, random deviations must be found.

`python tests/benchmarks/calibration.py pairs 10000`, or another of QUESTIONS. Asserts nothing.
It takes an hour on two cores. Every case follows from its number alone, which is printed where the verdict is wrong.
"""

import math
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

PAIRS = (("module", "cells"), ("module", "equations"), ("cells", "equations"))


@dataclass(frozen=True)
class Outcome:
    """One case: its number and what it was, for who wants to see it again, and what the verdict was."""

    number: int
    words: str
    verdict: str
    by_steps: bool = False


def log_uniform(draw: Random, least: int, most: int) -> int:
    return round(math.exp(draw.uniform(math.log(least), math.log(most))))


def random_facts(draw: Random) -> dict[str, Any]:
    """A random Spec's fields."""
    kind = draw.choice(("rnn", "lstm", "gru"))
    facts: dict[str, Any] = {
        "kind": kind,
        "input_size": log_uniform(draw, 1, 256),
        "hidden_size": log_uniform(draw, 1, 256),
        "num_layers": draw.choice((1, 1, 2, 2, 3)),
        "nonlinearity": draw.choice(("tanh", "relu")) if kind == "rnn" else "tanh",
        "bias": draw.random() < 0.8,
        "bidirectional": draw.random() < 0.3,
        "batch_first": draw.random() < 0.3,
        "seq_len": log_uniform(draw, 1, 500),
        "batch_size": log_uniform(draw, 1, 16),
        "h0": draw.choice(("random", "random", "zeros")),
        "dtype": draw.choice(("float32", "float32", "float64", "bfloat16", "float16")),
        "onednn": draw.choice((True, False)),
        "seed": draw.randrange(2**30),
        "threads": 1,
    }
    # The largest ones get few items, or a handful of cases would take all the time.
    size = facts["seq_len"] * facts["num_layers"] * (facts["input_size"] + facts["hidden_size"])
    facts["batch_size"] = min(facts["batch_size"], max(1, 100_000 // size))
    shape = draw.random()
    if shape < 0.1:
        facts |= {"unbatched": True}
        del facts["batch_size"]
    elif shape < 0.25:
        lengths = tuple(draw.randint(1, facts["seq_len"]) for _ in range(facts["batch_size"]))
        facts |= {"lengths": lengths}
        del facts["batch_size"], facts["seq_len"]
    return facts


def random_problem(draw: Random, spec: Any, grad: bool = False) -> Any:
    """Weights 0.1 to 10 times the default; a fifth of the LSTMs and GRUs forget almost nothing."""
    import torch

    from rnnscope.verdict.problem import draw_problem, rounded

    scale = 10 ** draw.uniform(-1, 1)
    problem = draw_problem(spec, (spec.dtype,), grad)
    weights = {name: scale * each for name, each in problem.weights.items()}
    if spec.kind != "rnn" and spec.bias and draw.random() < 0.2:
        gate = slice(spec.hidden_size, 2 * spec.hidden_size)  # f of i f g o, z of r z n
        for name, each in weights.items():
            if name.startswith("bias_ih"):
                each[gate] = torch.full((spec.hidden_size,), draw.uniform(3, 12), dtype=each.dtype)
    return scale, replace(problem, weights={name: rounded(each, problem.dtypes) for name, each in weights.items()})


def pair(number: int, grad: bool = False) -> list[Outcome]:
    """A correct pair, which must not be called different."""
    from rnnscope import Spec
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict.evidence import Evidence, Side

    draw = Random(number)
    facts = random_facts(draw)
    if grad and "batch_size" in facts:  # a gradient is a sum over all steps of all items
        facts |= {"seq_len": min(facts["seq_len"], 100), "hidden_size": min(facts["hidden_size"], 64)}
        facts["batch_size"] = log_uniform(draw, 1, 1024)
    spec = Spec(**facts)
    names = draw.choice(PAIRS)
    scale, problem = random_problem(draw, spec, grad)
    left, right = (
        Side(role, n, spec, SUBJECTS[n], spec.dtype) for role, n in zip(("left", "right"), names, strict=True)
    )
    return judged(number, f"{' '.join(names)} x{scale:.2f} {spec}", Evidence(problem, left, right))


def gradients(number: int) -> list[Outcome]:
    """A correct pair with its gradients, over many items too."""
    return pair(number, grad=True)


def rewritten(number: int) -> list[Outcome]:
    """A correct class whose operations are others, or come in another order, which must not be called different."""
    from rnnscope import Spec
    from rnnscope.subjects.adapting import own_network
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict.evidence import Evidence, Side

    draw = Random(number)
    kind = draw.choice(("lstm", "gru", "gru"))
    facts = {"seq_len": 20, "batch_size": 3} | random_facts(draw)
    plain = {"bias": True, "nonlinearity": "tanh", "bidirectional": False, "batch_first": False}
    spec = Spec(**facts | plain | {"kind": kind, "unbatched": False, "lengths": None})
    name = "JoinedLstm" if kind == "lstm" else draw.choice(("JoinedGru", "InterpolatedGru"))
    network = own_network(f"{Path(__file__).parent / 'rewritten.py'}:{name}", spec)
    scale, problem = random_problem(draw, spec)
    left = Side("left", "module", spec, SUBJECTS["module"], spec.dtype)
    right = Side("right", name, spec, network.run, spec.dtype, is_own=True)
    return judged(number, f"{name} x{scale:.2f} {spec}", Evidence(problem, left, right))


def written(number: int, grad: bool = False) -> list[Outcome]:
    """Another writing of a right network, in corners too, which must not be called different."""
    import torch
    from writings import writing

    torch.set_num_threads(1)
    words, evidence = writing(number, grad)
    return judged(number, words, evidence)


def written_gradients(number: int) -> list[Outcome]:
    """The same with gradients."""
    return written(number, grad=True)


def judged(number: int, words: str, evidence: Any) -> list[Outcome]:
    """What becomes of a correct pair."""
    left, right, dtype = evidence.left, evidence.right, evidence.left.spec.dtype
    if not all(each.isfinite().all() for side in (left, right) for each in evidence.in_own_dtype(side).values()):
        return [Outcome(number, words, "left out: NaN or infinity")]
    checks = (evidence.same_function(), evidence.precision(left), evidence.precision(right))
    verdict = "same" if all(each.decided for each in checks) else f"undecided in {dtype}"
    for name, each in zip(("FUNCTION", "PRECISION of the left", "PRECISION of the right"), checks, strict=True):
        if not each.within:
            verdict = f"FALSE ALARM: {name} in {dtype}"
    return [Outcome(number, words, verdict, any(each.whole_steps is not None for each in checks))]


def deviating(number: int) -> list[Outcome]:
    """Some deviations of one network, each of which must be called different unless it is the same function."""
    import torch

    from rnnscope import Spec
    from rnnscope.spec.question import blind_spots
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict.deviations import deviations
    from rnnscope.verdict.diagnosis import rich_probe
    from rnnscope.verdict.evidence import Evidence, Side

    draw = Random(number)
    spec = Spec(**random_facts(draw) | {"dtype": "float32"})
    scale, problem = random_problem(draw, spec)
    left = Side("left", "module", spec, SUBJECTS["module"], "float32")
    evidence, rich = (Evidence(each, left, left) for each in (problem, rich_probe(problem, spec)))
    if not all(each.isfinite().all() for each in evidence.exact(left).values()):
        return [Outcome(number, str(spec), "left out: NaN or infinity")]
    outcomes = []
    known = list(deviations(spec))
    for deviation in draw.sample(known, min(6, len(known))):
        wrong = Side("right", deviation.name, spec, deviation.run, "float32")
        mutant = evidence.against(wrong)
        words = f"{deviation.name} x{scale:.2f} {spec}"
        outputs, expected = mutant.exact(wrong), mutant.exact(left)
        if any(outputs[name].shape != each.shape for name, each in expected.items()):
            outcomes.append(Outcome(number, words, "caught by its shape"))
            continue
        check = mutant.same_function()
        if not check.within:
            outcomes.append(Outcome(number, words, "caught", check.whole_steps is not None))
        elif not check.decided:
            outcomes.append(Outcome(number, words, "undecided"))
        elif rich.against(wrong).same_function().within:
            outcomes.append(Outcome(number, words, "left out: the same function"))
        elif any(blind_spots(spec)):
            outcomes.append(Outcome(number, words, "left out: told to be a blind spot"))
        elif all(torch.equal(outputs[name], each) for name, each in mutant.bounds.reference.items()):
            outcomes.append(Outcome(number, words, "not one bit of the output tells"))
        else:
            outcomes.append(Outcome(number, words, "MISSED"))
    return outcomes


def pairs_of_deviations(number: int) -> list[Outcome]:
    """Two deviations at once, which must be named, and never by a name of another function."""
    import torch

    from rnnscope import Spec
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict import deviations
    from rnnscope.verdict.diagnosis import explanations, rich_probe
    from rnnscope.verdict.evidence import Evidence, Side
    from rnnscope.verdict.problem import draw_problem

    torch.set_num_threads(1)
    draw = Random(number)
    facts = random_facts(draw) | {"dtype": "float32", "h0": "random"}
    facts |= {"input_size": min(facts["input_size"], 64), "hidden_size": min(facts["hidden_size"], 64)}
    if facts.get("lengths"):
        facts["lengths"] = tuple(min(each, draw.randint(1, 40)) for each in facts["lengths"])
    else:
        facts["seq_len"] = min(facts["seq_len"], 40)
    spec = Spec(**facts)
    pair = draw.choice(list(deviations.pairs_of_deviations(spec)))
    words = f"{pair.name} {spec}"
    problem = draw_problem(spec, ("float32",))
    left, right = (Side(role, role, spec, SUBJECTS["module"], "float32") for role in ("left", "right"))
    wrong = replace(right, run=pair.run)
    evidence = Evidence(problem, left, wrong)
    if any(evidence.exact(wrong)[name].shape != each.shape for name, each in evidence.exact(left).items()):
        return [Outcome(number, words, "left out: caught by its shape")]
    fewer = [SUBJECTS["module"], *(each.run for each in pair.parts)]
    if any(_same(problem, pair.run, each) for each in fewer):
        return [Outcome(number, words, "left out: one of both does nothing")]
    found = explanations(evidence, (wrong,))
    if not found:
        return [Outcome(number, words, "NOT NAMED")]
    table = {each.name: each for each in (*deviations.DEVIATIONS, *deviations.pairs_of_deviations(spec))}
    named = [_same(rich_probe(problem, spec), pair.run, table[each.convention].run) for each in found]
    told = " | ".join(each.convention for each in found)
    if not any(named):
        return [Outcome(number, f"{told} for {words}", "MISNAMED")]
    ambiguous = ", ambiguous" if len(found) > 1 and not all(named) else ""
    single = ", by a single one" if len(found[0].deviations) == 1 else ""
    return [Outcome(number, f"{told} for {words}", f"named{ambiguous}{single}")]


def inside(number: int) -> list[Outcome]:
    """A side that rounds to a coarser dtype inside: no fault of the function, and right where that is what is asked."""
    from coarser import rounding_case

    case = rounding_case(number)
    found = case.found
    if found.cause == "nonfinite":
        return [Outcome(number, case.words, "left out: NaN or infinity")]
    wrong = found.cause == "function" or (case.is_fine and found.exit_code == 1)
    return [Outcome(number, case.words, f"FALSE ALARM: {found.cause}" if wrong else f"{found.verdict}, {found.cause}")]


def small_faults(number: int) -> list[Outcome]:
    """A side with a fault of the function of 1e-7 to 1e-2, which must not be called precision."""
    from coarser import faulty_case

    case = faulty_case(number)
    found = case.found
    if found.cause == "nonfinite":
        return [Outcome(number, case.words, "left out: NaN or infinity")]
    if found.cause == "precision" or (found.reference and found.reference.inside):
        return [Outcome(number, case.words, "FALSE CAUSE")]
    is_found = found.cause == "function"
    return [Outcome(number, case.words, "function" if is_found else f"left out: below rounding, {found.verdict}")]


def chaotic(number: int) -> list[Outcome]:
    """A fault that sets in late, in networks of which many are chaotic by then; a sixth of the sides are right."""
    from coarser import chaotic_case

    is_right, case = chaotic_case(number)
    found = case.found
    if found.cause == "nonfinite":
        return [Outcome(number, case.words, "left out: NaN or infinity")]
    by_steps = bool(found.reference and found.reference.function.in_parts)
    if is_right:
        verdict = "FALSE ALARM" if found.exit_code == 1 else f"right: {found.verdict}"
    elif found.exit_code == 1:
        verdict = "caught" if found.cause == "function" else "FALSE CAUSE"
        verdict = "MISSED: a wrong reason" if found.explanations else verdict
    else:
        told = any(each.name == "late fault" for each in found.blind_spots)
        verdict = "undecided" if found.exit_code else "told to be a blind spot" if told else "MISSED"
    return [Outcome(number, case.words, verdict, by_steps)]


def recorded(number: int) -> list[Outcome]:
    """A recorded run: a right one must not be called different, one with an item 1 % off must, however quiet it is."""
    import torch

    from rnnscope import Spec
    from rnnscope.subjects.builtin import SUBJECTS, Run
    from rnnscope.verdict.evidence import Evidence, Side
    from rnnscope.verdict.problem import rounded

    torch.set_num_threads(1)
    draw = Random(number)
    plain = {"lengths": None, "unbatched": False, "batch_size": 4, "batch_first": False, "h0": "random"}
    facts = {"seq_len": 20} | random_facts(draw) | plain
    facts |= {"hidden_size": min(facts["hidden_size"], 64), "seq_len": min(facts["seq_len"], 60)}
    spec = Spec(**facts)
    scale, problem = random_problem(draw, spec)
    quiet = torch.ones(4, 1, dtype=torch.float64, device="cpu")
    quiet[0] = 10 ** draw.uniform(-4, 0)
    given = [rounded(quiet * each, problem.dtypes) for each in (problem.given.x, *problem.given.state)]
    problem = replace(problem, given=type(problem.given)(given[0].to(problem.given.x.dtype), tuple(given[1:])))
    side = Side("right", "recorded", spec, SUBJECTS["module"], spec.dtype)
    off = draw.random() < 0.5
    run = side.solve(problem, spec.dtype)
    off = off and bool(run["y"][:, 0].any())
    if off:
        run["y"][:, 0] *= 1.01
    kept = Run(run["y"], tuple(run[name] for name in ("h", "c") if name in run))
    right = replace(side, run=lambda *_: kept, is_recorded=True, has_float64=False, has_layers=False, has_steps=False)
    evidence = Evidence(problem, Side("left", "equations", spec, SUBJECTS["equations"], spec.dtype), right)
    words = f"{'1 % off' if off else 'right'}, a quiet item of {quiet[0].item():.1g}, x{scale:.2f} {spec}"
    if not all(each.isfinite().all() for each in run.values()):
        return [Outcome(number, words, "left out: NaN or infinity")]
    check = evidence.same_function()
    if not off:
        return [
            Outcome(
                number, words, "FALSE ALARM" if not check.within else f"right: {'' if check.decided else 'un'}decided"
            )
        ]
    if spec.dtype in ("bfloat16", "float16"):
        return [Outcome(number, words, f"left out: 1 % in half precision, {'not ' if check.within else ''}seen")]
    return [Outcome(number, words, "caught" if not check.within else "undecided" if not check.decided else "MISSED")]


def _same(problem: Any, one: Any, other: Any) -> bool:
    """Whether two subjects compute the same function, as far as a problem shows it."""
    from rnnscope.verdict.bounds import Bounds
    from rnnscope.verdict.figures import distance_within
    from rnnscope.verdict.problem import solve

    bounds, actual = Bounds(problem, one), solve(other, problem.spec, problem)
    return distance_within(problem.spec, actual, bounds.reference, bounds.precision("float64")) is not None


QUESTIONS = {
    "pairs": pair,
    "gradients": gradients,
    "rewritten": rewritten,
    "written": written,
    "written-gradients": written_gradients,
    "deviations": deviating,
    "pairs-of-deviations": pairs_of_deviations,
    "inside": inside,
    "small-faults": small_faults,
    "chaotic": chaotic,
    "recorded": recorded,
}


def main(question: str, count: int, start: int = 0) -> None:
    """Ask until as many cases as asked for have been judged."""
    ask = QUESTIONS[question]
    verdicts: Counter[str] = Counter()
    judged = steps = 0
    print(f"{question}: {count} from number {start}", flush=True)
    with ProcessPoolExecutor(2, initializer=warnings.simplefilter, initargs=("ignore",)) as pool:
        for chunk in range(start, start + 100 * count, 100):
            for outcome in (each for several in pool.map(ask, range(chunk, chunk + 100)) for each in several):
                verdicts[outcome.verdict] += 1
                judged += not outcome.verdict.startswith("left out")
                steps += outcome.by_steps
                if outcome.verdict.startswith(("FALSE", "MISSED", "MISNAMED", "NOT", "not one")):
                    print(outcome, flush=True)
            if judged >= count:
                break
            print(judged, dict(verdicts), "step by step:", steps, flush=True)
    print(f"{judged} judged:", dict(sorted(verdicts.items())), "step by step:", steps)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
