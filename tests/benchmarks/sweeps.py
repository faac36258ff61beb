"""What a sweep costs, as ratios taken in one run: `python tests/benchmarks/sweeps.py`. Prints; asserts nothing.

Each ratio is of least times over alternating runs. All run with one thread, on a machine that does nothing else.
"""

import sys
import time
import warnings
from collections.abc import Callable

from speed import process, ratio, report

SMALL = ["--kind", "rnn,lstm,gru", "--layers", "1,2", "--hidden-size", "1..10", "--batch", "1..5"]
"""300 configurations."""

MANY = ["--kind", "rnn,lstm,gru", "--layers", "1..4", "--hidden-size", "1..200:50", "--batch", "1..12"]
"""5,472 configurations: a minute, beside which what torchrun takes to start is little."""


def one_process() -> None:
    one = process("-m", "rnnscope", "compare", "--threads", "1")
    report("300 configurations / rnnscope compare", 3.0, ratio(process("-m", "rnnscope", "sweep", *SMALL), one, 5))


def per_configuration() -> None:
    """A sweep in this process against the shortest loop that makes the same comparisons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

    from rnnscope import Spec, compare, sweep
    from rnnscope.spec.spec import SPEC_FLAGS
    from rnnscope.sweeps.plan import AXES, plan_of

    typed = dict(zip(SMALL[::2], SMALL[1::2], strict=True))
    axes = {name: flag.parse(typed[flag.name]) for name, flag in AXES.items() if flag.name in typed}
    plan = plan_of(axes)
    specs = [Spec(**each.of(SPEC_FLAGS)) for each in plan]
    torch.set_num_threads(1)

    def loop() -> None:
        for spec in specs:
            compare(spec)

    seconds, times = ratio(lambda: sweep(axes), loop, 5)
    report("one configuration / compare in a loop", 1.3, (seconds / len(specs), times))


def ranks() -> None:
    def launched(count: int) -> Callable[[], object]:
        launch = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}")
        return process(*launch, "-m", "rnnscope", "sweep", *MANY)

    one, two = launched(1), launched(2)
    least = [float("inf")] * 2
    for _ in range(2):
        for number, run in enumerate((one, two)):
            start = time.perf_counter()
            run()
            least[number] = min(least[number], time.perf_counter() - start)
    print(f"{'two ranks, as fast as one':46} {least[1]:8.1f} s  {least[0] / least[1]:8.2f} x   (at least 1.70)")


if __name__ == "__main__":
    asked = sys.argv[1:] or ["one_process", "per_configuration", "ranks"]
    for name in asked:
        globals()[name]()
