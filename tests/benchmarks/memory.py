"""How much memory a comparison takes: `python tests/benchmarks/memory.py`. Prints; asserts nothing.

Each figure is the least peak of resident memory over several processes, since the allocator gives back sooner or later.
"""

import os
import subprocess
import sys

RUNS = 5
MIB = 2**20

SIZES = (4000, 32, 128, 256)
"""L, N, H_in and H."""

IMPORT = "import warnings; warnings.simplefilter('ignore'); import torch; torch.set_grad_enabled(False); "

BARE = """
length, batch, width, hidden, layers = map(int, sys.argv[1:])
x, h0 = torch.randn(length, batch, width), torch.randn(layers, batch, hidden)
y, h = torch.nn.RNN(width, hidden, layers)(x, h0)
"""


def peak(*words: str, runs: int = RUNS) -> float:
    """MiB that a process of this interpreter takes at most, the least over some runs of it."""
    least = float("inf")
    for _ in range(runs):
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, words
        least = min(least, usage.ru_maxrss / 1024)  # Linux counts in KiB
    return least


def compare(flags: str, runs: int = RUNS) -> float:
    return peak("-m", "rnnscope", "compare", "-q", *flags.split(), runs=runs)


def whole(layers: int) -> None:
    """A comparison against a script that only runs nn.RNN on the same input."""
    length, batch, width, hidden = SIZES
    bare = peak("-c", f"import sys; {IMPORT}{BARE}", *map(str, SIZES), str(layers))
    print(f"K={layers}: nn.RNN alone {bare:.0f} MiB", flush=True)
    sizes = f"--seq-len {length} --batch {batch} --input-size {width} --hidden-size {hidden} --layers {layers}"
    for flag, limit in (("--no-reference", 1.10), ("", 4.0)):
        found = compare(f"{sizes} {flag}")
        print(f"  compare {flag:16} {found:6.0f} MiB {found / bare:6.2f} x   (at most {limit:.2f})", flush=True)


def chunks(length: int) -> None:
    """A long sequence in chunks against a process that has imported torch."""
    imported = peak("-c", IMPORT)
    found = compare(f"--seq-len {length} --batch 1 --no-reference --chunk 1000", runs=2)
    print(f"{length:,} steps: {found:.0f} MiB, {found - imported:.0f} over importing torch   (at most 100)", flush=True)


if __name__ == "__main__":
    whole(1)
    whole(3)
    chunks(100_000)
    chunks(1_000_000)
