"""How often a check is wrong: right networks of all kinds must break nothing, and what a check costs.

`python tests/benchmarks/relations.py right 500`, `torch 200`, `faults` or `cost`. Asserts nothing. Every case follows
from its number alone. `rnnscope help check` has the figures.
"""

import math
import sys
import time
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from random import Random
from typing import Any

from faulty_networks import FAULTY
from generated_recurrent import Network, generated

Row = tuple[str, list[tuple[str, str, float, str]], int, float]
"""What a network is, each relation with its outcome, its share of the bound and its message, the calls and seconds."""


def right(number: int) -> Row:
    """A network that was drawn at random, at its own sizes and in its own dtype."""
    import torch

    drawn = generated(number)
    shape = (drawn.N, drawn.L) if drawn.batch_first else (drawn.L, drawn.N)
    x = torch.randn(*shape, drawn.H_in, generator=torch.Generator().manual_seed(number)).to(drawn.dtype)
    plan: Any = drawn.module.plan
    return checked(drawn.words, drawn.module, x, batch_first=drawn.batch_first, make=partial(Network, plan))


def torchs(number: int) -> Row:
    """A module of torch's in a configuration that was drawn at random."""
    import torch
    from torch import nn

    draw = Random(number)
    kind = draw.choice((nn.RNN, nn.LSTM, nn.GRU))
    inputs, hidden, steps, items = (draw.choice((1, 2, 3, 5, 10, 20, 40)) for _ in range(4))
    options: dict[str, Any] = {
        "num_layers": draw.choice((1, 1, 2, 3)),
        "bias": draw.random() < 0.8,
        "batch_first": draw.random() < 0.5,
        "bidirectional": draw.random() < 0.4,
    }
    if kind is nn.RNN:
        options["nonlinearity"] = draw.choice(("tanh", "relu"))
    if kind is nn.LSTM and hidden > 1 and draw.random() < 0.3:
        options["proj_size"] = draw.randrange(1, hidden)
    torch.manual_seed(number)
    module, gain = kind(inputs, hidden, **options), math.exp(draw.uniform(math.log(0.3), math.log(4)))
    with torch.no_grad():
        for each in module.parameters():
            each.mul_(gain)
    x = torch.randn(*((items, steps) if options["batch_first"] else (steps, items)), inputs)
    words = f"{kind.__name__}({inputs}, {hidden}, {options}) L={steps} N={items} gain {gain:.2f}"
    return checked(words, module, x, make=partial(kind, inputs, hidden, **options))


def checked(words: str, module: Any, x: Any, **options: Any) -> Row:
    """One network, relation by relation."""
    import torch

    import rnnscope

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    found = rnnscope.check(module, x, **options)
    relations = [(each.relation, each.outcome, _share(each), each.message) for each in found.relations]
    return words, relations, sum(many for _, many in found.calls), time.perf_counter() - start


def _share(relation: Any) -> float:
    """How near the distance came to its bound."""
    return relation.max_abs / relation.bound if relation.bound and relation.max_abs is not None else 0.0


def told(rows: list[Row]) -> None:
    """The outcomes of each relation, the greatest share of the bound where it holds, and every false alarm."""
    outcomes, shares = defaultdict[str, Counter[str]](Counter), defaultdict[str, float](float)
    why = Counter[str]()
    for words, relations, _, _ in rows:
        for name, outcome, share, message in relations:
            outcomes[name][outcome] += 1
            if outcome == "holds":
                shares[name] = max(shares[name], share)
            if outcome == "broken":
                print(f"FALSE ALARM {name}: {message}\n    {words}")
            if outcome == "undecided":
                why[f"{name}: {message[:90]}"] += 1
    print(f"{len(rows)} networks, {sum(row[2] for row in rows) / len(rows):.0f} calls each")
    for name, counted in outcomes.items():
        print(f"{name:15} {dict(counted)} nearest {shares[name]:.3f}")
    for reason, many in why.most_common(12):
        print(f"undecided {many} times: {reason}")


def faults() -> None:
    """Whether each of the faulty networks is named by the relation that it breaks, and by no other."""
    import torch

    import rnnscope

    missed = 0
    for net in FAULTY:
        torch.manual_seed(0)
        module = net.make(10, 20)
        x = torch.randn(4, 32, 10) if net.batch_first else torch.randn(32, 4, 10)
        found = rnnscope.check(module, x, batch_first=net.batch_first, make=partial(net.make, 10, 20))
        broken = [each.relation for each in found.told("broken")]
        if broken != [net.breaks]:
            missed += 1
            print(f"{net.name}: {net.breaks} is broken, and told are {broken}")
    print(f"{len(FAULTY)} faults, {missed} missed or told as another")


def main(what: str, count: int) -> None:
    """Run one of the measurements."""
    if what == "faults":
        faults()
        return
    with ProcessPoolExecutor(2) as pool:
        told(list(pool.map({"right": right, "torch": torchs}[what], range(count), chunksize=5)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
