"""How fast rnnscope is, as ratios taken in one run: `python tests/benchmarks/speed.py`. Prints; asserts nothing.

Each ratio is of the least times over alternating pairs, since one run varies by a quarter.
"""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
PAIRS = 15

Timed = Callable[[], object]


def ratio(ours: Timed, baseline: Timed, pairs: int = PAIRS) -> tuple[float, float]:
    """(least time of ours in seconds, the same over the least time of the baseline)."""
    least = [float("inf")] * 2
    for _ in range(pairs):
        for number, run in enumerate((ours, baseline)):
            start = time.perf_counter()
            run()
            least[number] = min(least[number], time.perf_counter() - start)
    return least[0], least[0] / least[1]


def process(*words: str) -> Timed:
    """A process of this interpreter, from start to end. Byte code is kept, as it is where the package is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=False, env=environment)


def report(name: str, limit: float, figures: tuple[float, float]) -> None:
    seconds, times = figures
    print(f"{name:46} {seconds * 1000:8.0f} ms {times:8.2f} x   (at most {limit:.2f})", flush=True)


def start_up() -> None:
    minimal = process(str(HERE / "minimal_app.py"), "--size", "4")
    for words, limit in (
        ("--help", 1.15),
        ("--version", 1.15),
        ("compare --layres 2", 1.25),
        ("shapes --dry-run", 1.25),
    ):
        report(f"rnnscope {words}", limit, ratio(process("-m", "rnnscope", *words.split()), minimal))


def compare() -> None:
    by_hand = process(str(HERE / "bare_torch.py"))
    report("rnnscope compare", 1.20, ratio(process("-m", "rnnscope", "compare"), by_hand))


SIZES = ((1000, 1, 16, 32, 2), (500, 32, 128, 256, 2))
"""L, N, H_in, H and K of the loops over time."""


def cells(kind: str, sizes: tuple[int, int, int, int, int]) -> None:
    """The stack of cells against the shortest loop of the same cells by hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

    from rnnscope import StackedCells
    from rnnscope.network.cells import CELLS

    length, batch, width, hidden, layers = sizes
    network = StackedCells(kind, width, hidden, layers)
    below, above = CELLS[kind](width, hidden), CELLS[kind](hidden, hidden)
    below.load_state_dict(network.cells[0].state_dict())
    above.load_state_dict(network.cells[1].state_dict())
    x, zeros = torch.randn(length, batch, width), torch.zeros(layers, batch, hidden)
    lstm = kind == "lstm"

    def by_hand() -> torch.Tensor:
        first, second = zip(zeros, zeros, strict=True) if lstm else zeros
        steps = []
        for step in x:
            first = below(step, first)
            second = above(first[0] if lstm else first, second)
            steps.append(second[0] if lstm else second)
        return torch.stack(steps)

    with torch.no_grad():
        assert torch.equal(network(x)[0], by_hand())
        name = f"{kind} cells, L={length} N={batch} H_in={width} H={hidden} K={layers}"
        report(name, 1.10, ratio(lambda: network(x), by_hand, 30 if batch == 1 else 10))


if __name__ == "__main__":
    start_up()
    compare()
    for sizes in SIZES:
        for kind in ("rnn", "lstm", "gru"):
            cells(kind, sizes)
