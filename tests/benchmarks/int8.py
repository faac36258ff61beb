"""How often a verdict on int8 is wrong: right schemes must be the same function, and planted faults another one.

`python tests/benchmarks/int8.py right 1000`, or `faults`, `recorded`, `autocast`. Asserts nothing. Every case follows
from its number alone. `rnnscope help measured` has the figures.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from calibration import log_uniform
from int8_networks import SCHEMES, SIZES, Fault, subject


@dataclass(frozen=True)
class Outcome:
    """One case: what it was, what the verdict was, and how near the greatest error came to its bound."""

    number: int
    group: str
    verdict: str
    nearness: float
    words: str


def random_case(number: int) -> tuple[Random, Any, float, Any]:
    """A random network of int8 and its problem; weights 0.1 to 10 times the default, and W_hh up to 3 times another."""
    import torch

    from rnnscope import Spec
    from rnnscope.verdict.problem import draw_problem, rounded

    torch.set_num_threads(1)
    draw = Random(number)
    kind = draw.choice(("lstm", "gru"))
    seq_len, hidden_size = log_uniform(draw, 1, 200), log_uniform(draw, 1, 128)
    spec = Spec(
        kind=kind,
        input_size=log_uniform(draw, 1, 128),
        hidden_size=hidden_size,
        num_layers=draw.choice((1, 1, 2, 3)),
        bidirectional=draw.random() < 0.3,
        seq_len=seq_len,
        batch_size=min(log_uniform(draw, 1, 16), max(1, 20_000 // (seq_len * hidden_size))),
        h0=draw.choice(("random", "random", "zeros")),
        seed=draw.randrange(2**30),
        threads=1,
    )
    scale = 10 ** draw.uniform(-1, 1)
    problem = draw_problem(spec, ("float32",))
    weights = {
        name: scale * (draw.uniform(0.3, 3) if name.startswith("weight_hh") else 1) * each
        for name, each in problem.weights.items()
    }
    return (
        draw,
        spec,
        scale,
        replace(problem, weights={name: rounded(each, ("float32",)) for name, each in weights.items()}),
    )


def evidence_of(spec: Any, problem: Any) -> Any:
    """The module on both sides, to be held against others: bounds are measured once."""
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict.evidence import Evidence, Side

    left = Side("left", "module", spec, SUBJECTS["module"], "float32")
    return Evidence(problem, left, left)


def judged(number: int, group: str, words: str, whole: Any, run: Any, is_right: bool) -> Outcome:
    """The verdict on a network in int8, held against the left side of some evidence."""
    from rnnscope.verdict.evidence import Side

    right = Side("right", group, whole.left.spec, run, "int8", has_float64=False)
    evidence = whole.against(right)
    checks = (evidence.same_function(), evidence.precision(right))
    nearness = max(each.worst.nearness[1] for each in checks)
    verdict = "same" if all(each.decided for each in checks) else "undecided"
    if not all(each.within for each in checks):
        verdict = "different"
    bad = "different" if is_right else "same"
    return Outcome(number, group, f"WRONG: {verdict}" if verdict == bad else verdict, nearness, words)


def right(number: int) -> list[Outcome]:
    """A right scheme, and torch's own module, which must not be called different."""
    from rnnscope.subjects.builtin import SUBJECTS

    draw, spec, scale, problem = random_case(number)
    scheme = draw.choice([*SCHEMES])
    words, evidence = f"x{scale:.2f} {spec}", evidence_of(spec, problem)
    return [
        judged(number, "torch's own module", words, evidence, SUBJECTS["quantized"], True),
        judged(number, scheme, words, evidence, subject(scheme), True),
    ]


def faults(number: int) -> list[Outcome]:
    """Each planted fault in one size, which must be called different."""
    found = []
    _, spec, scale, problem = random_case(number)
    evidence = evidence_of(spec, problem)
    for name, sizes in SIZES.items():
        draw = Random(f"{number} {name}")
        fault = Fault(name, draw.choice(sizes), draw.randrange(spec.num_layers), draw.randrange(4))
        has_inputs = name in ("zero point", "clipped inputs")
        scheme = draw.choice([each for each in SCHEMES if not (has_inputs and SCHEMES[each].weights_alone)])
        words = f"{scheme} {fault} x{scale:.2f} {spec}"
        found.append(judged(number, f"{name} {fault.size:g}", words, evidence, subject(scheme, fault), False))
    return found


def recorded(number: int) -> list[Outcome]:
    """Recorded runs in one arithmetic or another, without a word of which one: what is it called?"""
    import torch

    from rnnscope.subjects.builtin import SUBJECTS, Run
    from rnnscope.verdict.evidence import Evidence, Side
    from rnnscope.verdict.problem import solve

    draw, spec, scale, problem = random_case(number)
    left = Side("left", "module", spec, SUBJECTS["module"], "float32")
    others = draw.sample([*SCHEMES], 2)
    off = replace(problem, weights={name: each * 1.001 for name, each in problem.weights.items()})
    runs = {
        "torch's own module": (SUBJECTS["quantized"], problem, "float32"),
        **{f"int8, {each}": (subject(each), problem, "float32") for each in others},
        "bfloat16": (SUBJECTS[draw.choice(("module", "cells", "equations"))], problem, "bfloat16"),
        "float16": (SUBJECTS[draw.choice(("cells", "equations"))], problem, "float16"),
        "weights off by a thousandth": (SUBJECTS["module"], off, "float32"),
    }
    found = []
    for group, (run, of, dtype) in runs.items():
        with torch.no_grad():
            given = solve(run, replace(spec, dtype=dtype), of)
        kept = Run(given["y"].float(), tuple(given[each].float() for each in ("h", "c") if each in given))
        side = Side("right", "recorded", spec, lambda *_, kept=kept: kept, "float32", is_recorded=True)
        side = replace(side, has_float64=False, has_layers=False, has_steps=False)
        evidence = Evidence(problem, left, side)
        finite = all(each.isfinite().all() for each in kept.outputs().values())
        if not finite or evidence.same_function().within:
            continue
        left_over = evidence.bounds.left_by_int8(evidence.exact(side))
        name = str(evidence.about_coarser(side))
        is_wrong = name == "int8" and "int8" not in group and "torch" not in group
        found.append(Outcome(number, group, f"WRONG: {name}" if is_wrong else name, left_over, f"x{scale:.2f} {spec}"))
    return found


def autocast(number: int) -> list[Outcome]:
    """A right network under autocast, with gradients in half of the cases, which must not be called different."""
    import torch
    from calibration import random_facts, random_problem

    from rnnscope import Spec
    from rnnscope.subjects.builtin import SUBJECTS
    from rnnscope.verdict.evidence import Evidence, Side, under_autocast

    torch.set_num_threads(1)
    draw = Random(number)
    facts = random_facts(draw) | {"dtype": "float32"}
    facts |= {"hidden_size": min(facts["hidden_size"], 64), "input_size": min(facts["input_size"], 64)}
    if "lengths" not in facts:
        facts["seq_len"] = min(facts["seq_len"], 100)
    spec, dtype = Spec(**facts), draw.choice(("bfloat16", "float16"))
    scale, problem = random_problem(draw, spec, grad=draw.random() < 0.5)
    name = draw.choice(("module", "cells", "equations", "items"))
    left = Side("left", "equations", spec, SUBJECTS["equations"], "float32")
    right = under_autocast(Side("right", name, spec, SUBJECTS[name], "float32"), dtype)
    evidence = Evidence(problem, left, right)
    words = f"{name} x{scale:.2f} {'' if problem.cotangents is None else '--grad '}{spec}"
    try:
        run = evidence.in_own_dtype(right)
    except Exception as error:
        return [Outcome(number, dtype, f"refused: {str(error)[:80]}", 0.0, words)]
    if not all(each.isfinite().all() for each in run.values()):
        return [Outcome(number, dtype, "left out: NaN or infinity", 0.0, words)]
    checks = (evidence.same_function(), evidence.precision(right))
    verdict = "same" if all(each.decided for each in checks) else "undecided"
    verdict = verdict if all(each.within for each in checks) else "WRONG: different"
    return [Outcome(number, dtype, verdict, max(each.worst.nearness[1] for each in checks), words)]


QUESTIONS: dict[str, Callable[[int], list[Outcome]]] = {
    "right": right,
    "faults": faults,
    "recorded": recorded,
    "autocast": autocast,
}


def _in_words(verdicts: dict[str, Counter[str]], nearest: dict[str, list[float]]) -> str:
    """What became of each group, and how near its errors came to the bound: the median and the greatest."""
    lines = []
    for group, counts in sorted(verdicts.items()):
        near = sorted(nearest[group])
        lines.append(f"\n  {group}: {dict(sorted(counts.items()))}; {near[len(near) // 2]:.2f}, at most {near[-1]:.2f}")
    return "".join(lines)


def main(question: str, count: int, start: int = 0) -> None:
    """Ask so many cases, and print what became of each group."""
    verdicts: dict[str, Counter[str]] = {}
    nearest: dict[str, list[float]] = {}
    with ProcessPoolExecutor(2, initializer=warnings.simplefilter, initargs=("ignore",)) as pool:
        for done, outcomes in enumerate(pool.map(QUESTIONS[question], range(start, start + count)), 1):
            if done % 50 == 0:
                print(f"{done} of {count}: {_in_words(verdicts, nearest)}", flush=True)
            for each in outcomes:
                verdicts.setdefault(each.group, Counter())[each.verdict] += 1
                nearest.setdefault(each.group, []).append(each.nearness)
                if each.verdict == "WRONG: different":
                    print(each, flush=True)
    print(_in_words(verdicts, nearest))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
