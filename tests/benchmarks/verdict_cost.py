"""What the verdict costs over the two plain runs, at L=500 N=32 H=256 K=2: `python tests/benchmarks/verdict_cost.py`.

Module against cells, least times over a few runs: where the floor of the bound decides; where randomly rounded runs are
needed, all of them in both precisions; with the diagnosis of a side that deviates; and with --power.
"""

import time
import warnings
from collections.abc import Callable

warnings.simplefilter("ignore")

import torch  # noqa: E402

from rnnscope import Spec, compare  # noqa: E402
from rnnscope.subjects.builtin import SUBJECTS  # noqa: E402
from rnnscope.subjects.devices import running  # noqa: E402
from rnnscope.verdict.bounds import DRAWS, UNITS  # noqa: E402
from rnnscope.verdict.deviations import DEVIATIONS  # noqa: E402
from rnnscope.verdict.evidence import Evidence, Side  # noqa: E402
from rnnscope.verdict.problem import draw_problem, solve  # noqa: E402

LIMITS = {"rnn": 6, "lstm": 6, "gru": 3.5}
PERTURBED_LIMITS = {"rnn": 13, "lstm": 14, "gru": 10}


def least(run: Callable[[], object], times: int) -> float:
    """The least time of a run in seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def cost(kind: str) -> None:
    spec = Spec(kind=kind, input_size=256, hidden_size=256, seq_len=500, batch_size=32)
    problem = draw_problem(spec, ("float32",))
    left, right = SUBJECTS["module"], SUBJECTS["cells"]
    sides = Side("left", "module", spec, left, "float32"), Side("right", "cells", spec, right, "float32")

    def plain() -> None:
        with running(spec) as placed:
            for side in sides:
                solve(side.run, placed, problem)

    def perturbed() -> None:
        evidence = Evidence(problem, *sides)
        evidence.same_function()
        for side in sides:
            evidence.precision(side)
        evidence.bounds._error("float32")
        for unit in (UNITS["float64"], UNITS["float32"]):
            evidence.bounds._spread(unit, absolute=0.0, draws=DRAWS[0])

    def report(what: str, seconds: float, limit: str = "") -> None:
        print(f"{kind:5} {what:30} {seconds:7.2f} s {seconds / base:7.2f} x   {limit}", flush=True)

    plain()
    base = least(plain, 7)
    report("two plain runs", base)
    report("the floor decides", least(lambda: compare(spec), 3), f"(at most {LIMITS[kind]})")
    report("randomly rounded runs needed", least(perturbed, 2), f"(at most {PERTURBED_LIMITS[kind]})")
    wrong = next(each for each in DEVIATIONS if each.name == ("gates i f o g" if kind == "lstm" else "b_hh dropped"))
    SUBJECTS["cells"] = wrong.run
    report("a diagnosis", least(lambda: compare(spec), 1))
    SUBJECTS["cells"] = sides[1].run
    report("--power", least(lambda: compare(spec, power=True), 1))


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for kind in LIMITS:
        cost(kind)
