"""Is what a command is said to need what it takes? Each case runs in a process of its own, and its peak is measured.

The estimates hold for what a comparison of two equal networks runs: both sides, the reference, and as many randomly
rounded runs as their bounds ask for. Not covered are --power and the reasons of a side that differs, which run the
known deviations one by one; networks in which rounding decides the whole runs, where `check_steps` asks once more; and
a benchmark of many lengths, which keeps the weights and the input of all.
"""

import pytest
from support import Cli, peak

from rnnscope.network import costs

REFERENCE = [
    "",
    "--right equations --bidirectional",
    "--right compiled --kind lstm",
    "--seq-len 1 --batch 1 --input-size 7000 --hidden-size 2500 --layers 1",
    "--kind lstm --input-size 1200 --hidden-size 1200 --dtype bfloat16",
    "--input-size 3000 --hidden-size 3000 --dtype float64",
    "--seq-len 400 --batch 64 --input-size 1500 --hidden-size 32 --layers 1",
    "--seq-len 1 --batch 30000 --input-size 1 --hidden-size 300 --layers 2",
    "--seq-len 2500 --batch 64 --hidden-size 128",
    "--seq-len 400 --batch 200 --hidden-size 100 --batch-first --dtype bfloat16",
    "--kind lstm --seq-len 200 --batch 200 --hidden-size 128 --bidirectional --layers 3",
    "--kind gru --seq-len 300 --batch 200 --hidden-size 100 --bidirectional --right equations",
    "--kind gru --seq-len 800 --batch 64 --hidden-size 100 --layers 1 --right items",
    "--kind lstm --seq-len 300 --batch 256 --hidden-size 100 --layers 1 --dtype float64",
    "--kind lstm --seq-len 300 --batch 256 --hidden-size 100 --proj-size 20 --right equations",
    f"--kind gru --hidden-size 100 --bidirectional --lengths {','.join(str(100 + step) for step in range(200))}",
    "--seq-len 30000 --batch 1 --input-size 1 --hidden-size 1 --layers 1",
    "--seq-len 1 --batch 1 --input-size 1 --hidden-size 1 --layers 1000",
    "--input-size 1 --hidden-size 20 --layers 20 --seq-len 100 --batch 500",
    "--seq-len 500 --batch 256 --hidden-size 64 --kind lstm --chunk 100",
    "--resync --seq-len 200 --batch 200 --hidden-size 64 --kind lstm",
    "--resync --seq-len 10000 --batch 1 --kind gru",
    "--resync --grad --seq-len 200 --batch 100 --hidden-size 64",
    "--map --seq-len 200 --batch 200 --hidden-size 100 --layers 3",
    "--map --seq-len 100 --batch 200 --hidden-size 100 --kind lstm --bidirectional",
    "--map --seq-len 100 --batch 200 --hidden-size 100 --kind gru --grad",
]

GRADIENTS = [
    "",
    "--kind lstm --bidirectional --layers 3",
    "--seq-len 1 --batch 1 --input-size 3000 --hidden-size 2000 --layers 1",
    "--seq-len 400 --batch 64 --input-size 800 --hidden-size 32 --layers 1",
    "--seq-len 1 --batch 30000 --input-size 1 --hidden-size 200 --layers 1",
    "--seq-len 2500 --batch 64 --hidden-size 128",
    "--kind gru --seq-len 1200 --batch 64 --hidden-size 128",
    "--kind lstm --seq-len 2500 --batch 64 --hidden-size 128",
    "--kind lstm --seq-len 150 --batch 128 --hidden-size 100 --layers 3 --bidirectional --dtype bfloat16",
    "--kind gru --seq-len 150 --batch 128 --hidden-size 100 --layers 1 --right equations --batch-first",
    "--kind gru --seq-len 150 --batch 128 --hidden-size 100 --dtype float64",
    "--kind lstm --seq-len 200 --batch 30 --hidden-size 50 --right items",
    f"--kind lstm --hidden-size 100 --layers 1 --lengths {','.join(str(100 + step) for step in range(100))}",
    "--kind gru --seq-len 5000 --batch 1 --input-size 1 --hidden-size 1 --layers 2",
    "--seq-len 8000 --batch 1 --input-size 1 --hidden-size 1 --layers 1",
]

NO_REFERENCE = [
    "",
    "--input-size 5000 --hidden-size 3000 --layers 1",
    "--seq-len 800 --batch 64 --input-size 1200 --hidden-size 32 --layers 1",
    "--seq-len 1 --batch 50000 --input-size 1 --hidden-size 400 --layers 1",
    "--seq-len 2500 --batch 64 --hidden-size 128",
    "--kind lstm --seq-len 800 --batch 128 --hidden-size 128 --batch-first",
    "--kind gru --seq-len 500 --batch 128 --hidden-size 128 --bidirectional --dtype float64",
    "--kind gru --seq-len 500 --batch 128 --hidden-size 128 --right equations --dtype bfloat16",
    "--seq-len 200000 --batch 1 --input-size 1 --hidden-size 1 --layers 1",
    "--seq-len 100000 --batch 1 --chunk 1000",
    "--seq-len 2000 --batch 128 --hidden-size 128 --chunk 500 --kind lstm",
    "--map --seq-len 300 --batch 128 --hidden-size 128 --kind gru",
    "--grad --kind lstm --seq-len 300 --batch 128 --hidden-size 128",
    "--grad --kind gru --seq-len 300 --batch 128 --hidden-size 128 --bidirectional --dtype bfloat16",
    "--grad --seq-len 400 --batch 64 --input-size 1000 --hidden-size 128 --dtype float64",
    "--grad --seq-len 400 --batch 64 --input-size 1200 --hidden-size 32 --layers 1 --dtype bfloat16",
    "--grad --input-size 3000 --hidden-size 2500 --layers 1 --dtype float64",
]

OTHERS = [
    "shapes",
    "shapes --input-size 4000 --hidden-size 4000",
    "shapes --kind gru --seq-len 500 --batch 256 --input-size 100 --hidden-size 100",
    "trace",
    "trace --kind lstm --input-size 2500 --hidden-size 2500 --layers 1",
    "trace --kind lstm --seq-len 500 --batch 256 --input-size 100 --hidden-size 64 --bidirectional",
    "bench --min-time 0.01",
    "bench --min-time 0.01 --subjects module,cells --seq-len 300 --batch 256 --hidden-size 128 --kind gru",
    "bench --min-time 0.01 --subjects module,cells,equations --input-size 2500 --hidden-size 2500 --layers 1",
    "bench --min-time 0.01 --subjects module,cells --seq-len 100 --batch 256 --hidden-size 128 --kind lstm --grad",
    "bench --min-time 0.01 --subjects module,items --seq-len 200 --batch 32 --hidden-size 64 --kind gru --grad",
    "bench --min-time 0.01 --subjects module,cells --seq-len 3000 --batch 1 --layers 1",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *(f"compare {words}" for words in REFERENCE),
        *(f"compare --grad {words}" for words in GRADIENTS),
        *(f"compare --no-reference {words}" for words in NO_REFERENCE),
        *OTHERS,
    ],
)
def test_what_is_said_to_be_needed_is_taken(words: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr(costs, "free_bytes", lambda: 0)
    monkeypatch.setattr(costs, "human_bytes", lambda count: said.append(count))
    cli(*words.split())
    estimate, measured = said[0] / 2**20, peak(f"{words} --quiet --threads 1 --no-memory-check")
    print(f"| `{words[:100]}` | {measured:.0f} | {estimate:.0f} | {estimate / measured:.2f} |")
    assert 0.9 <= estimate / measured <= 1.6
