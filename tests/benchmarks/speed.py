"""How fast rnnscope is, as ratios taken in one run: `python tests/benchmarks/speed.py`. Prints; asserts nothing.

Each ratio is of the least times over alternating pairs, since one run varies by a quarter.
"""

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
PAIRS = 15

Timed = Callable[[], object]


def ratio(ours: Timed, yardstick: Timed, pairs: int = PAIRS) -> tuple[float, float]:
    """(least time of ours in seconds, the same over the least time of the yardstick)."""
    least = [float("inf")] * 2
    for _ in range(pairs):
        for number, run in enumerate((ours, yardstick)):
            start = time.perf_counter()
            run()
            least[number] = min(least[number], time.perf_counter() - start)
    return least[0], least[0] / least[1]


def process(*words: str) -> Timed:
    """A process of this interpreter, from start to end."""
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=False)


def report(name: str, limit: float, figures: tuple[float, float]) -> None:
    seconds, times = figures
    print(f"{name:40} {seconds * 1000:8.0f} ms {times:8.2f} x   (at most {limit:.2f})", flush=True)


def start_up() -> None:
    minimal = process(str(HERE / "minimal_app.py"), "--size", "4")
    for words in ("--help", "--version", "compare --layres 2", "shapes --dry-run"):
        report(f"rnnscope {words}", 1.25, ratio(process("-m", "rnnscope", *words.split()), minimal))


def compare() -> None:
    by_hand = process(str(HERE / "bare_torch.py"))
    report("rnnscope compare", 1.20, ratio(process("-m", "rnnscope", "compare"), by_hand))


def cells() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from torch import nn

    from rnnscope import Spec, subjects
    from rnnscope.weights import cell_weights, draw_input, draw_weights

    spec = Spec(seq_len=1000, batch_size=1, input_size=16, hidden_size=32, num_layers=2)
    given, weights = draw_input(spec), cell_weights(spec, draw_weights(spec))
    below, above = nn.RNNCell(16, 32), nn.RNNCell(32, 32)
    network = subjects.build_cells(spec)
    network.load_state_dict(weights)
    for number, cell in enumerate((below, above)):
        cell.load_state_dict({name: weights[f"cells.{number}.{name}"] for name in cell.state_dict()})

    def by_hand() -> torch.Tensor:
        first, second = given.h0
        steps = []
        for step in given.x:
            first = below(step, first)
            second = above(first, second)
            steps.append(second)
        return torch.stack(steps)

    with torch.no_grad():
        assert torch.equal(network(given.x, given.h0)[0], by_hand())
        report("cells, L=1000 N=1 H_in=16 H=32 K=2", 1.10, ratio(lambda: network(given.x, given.h0), by_hand, 30))


if __name__ == "__main__":
    start_up()
    compare()
    cells()
