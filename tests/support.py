"""What several test files share: the answer of a command line, where things stand, and texts without their figures."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st

from rnnscope import Spec

if TYPE_CHECKING:
    from rnnscope.network.equations import Step
    from rnnscope.network.weights import Input, Weights
    from rnnscope.subjects.builtin import Run

ROOT = Path(__file__).parents[1]

OWN = Path(__file__).with_name("own_networks.py")
"""The classes that stand for those of users; tests name them as a user does, FILE.py:Class."""


PLAIN_SPECS = st.builds(
    Spec,
    input_size=st.integers(1, 6),
    hidden_size=st.integers(1, 6),
    num_layers=st.integers(1, 4),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    bias=st.booleans(),
    batch_first=st.booleans(),
    seq_len=st.integers(1, 5),
    batch_size=st.integers(0, 4),
    h0=st.sampled_from(["random", "zeros"]),
    seed=st.integers(0, 2**30 - 1),
    dtype=st.sampled_from(["float32", "float64"]),
)
"""Specs of nn.RNN in every layout and size that is tried quickly."""


@dataclass(frozen=True)
class Answer:
    """What a command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]
"""Answers the words of a command line, or a line of shell."""


def ranks(*words: str, typed: str = "") -> Answer:
    """Answer a command line with two processes of torchrun."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rnnscope"]
    done = subprocess.run([*launch, *words], input=typed, capture_output=True, text=True, check=False, timeout=100)
    return Answer(done.returncode, done.stdout, done.stderr)


def lines_in(path: Path) -> list[bytes]:
    """The lines of a file in an order of their own."""
    return sorted(path.read_bytes().splitlines(keepends=True))


PEAK = """
import re, sys
import torch
from rnnscope.cli.shell import run
assert not sys.argv[1:] or run(sys.argv[1:]) in (0, 1)
print(re.search(r"VmHWM:[^0-9]*([0-9]+) kB", open("/proc/self/status").read())[1])
"""


def peak(words: str) -> float:
    """MiB that a process takes at most in which a command runs: none of the one that starts it.

    A resource usage would tell no less than the process that starts it has.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell the peak of a process by itself")
    command = [sys.executable, "-W", "ignore", "-c", PEAK, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


FIGURE = r"\d[\d.]*(?:e[-+]\d+)?"

CHECKS = rf"((?:float|bfloat)\d\d) +{FIGURE} +{FIGURE} +((?:grad of\s+)?\w+\[[\d,\s]+\]|-)"
"""A row of the table of a comparison that says how far each side is from the reference."""


GOLDEN_TORCH = "2.13."
"""The release under which goldens are written: the one of the README's set-up."""


def masked(text: str) -> str:
    """The text without the digits that differ from machine to machine, and without the spaces that they fill."""
    text = re.sub(r"torch \d[\w.+]*", "torch V", text)
    text = re.sub(r",\s\d+ threads?(?=,)|each with \d+ threads?, | --threads \d+", "", text)
    text = re.sub("is a build without CUDA|finds no CUDA device on this machine", "has no CUDA", text)
    text = re.sub(
        rf"^((?:--\S+)? +\S+) +(?:\d+|-) +(?:\d+|-) +- +(\d+|-) +{FIGURE}$", r"\1 N N - \2 F", text, flags=re.M
    )
    times_bound = r"\d[\d.]*e\+\d+"  # how often the bound goes into the distance, which follows the bound
    text = re.sub(rf"^((?:all|--\S+ \S+) +.*) {times_bound}$", r"\1 F", text, flags=re.MULTILINE)
    text = re.sub(rf"^(\w+ +(?:holds|undecided)) +{FIGURE} +{FIGURE}", r"\1 F F", text, flags=re.MULTILINE)
    text = re.sub(rf"^(\w+ +broken +{FIGURE}) +{FIGURE}", r"\1 F", text, flags=re.MULTILINE)  # the bound alone
    text = re.sub(rf"\) +{FIGURE} +([yhc]?\[[\d, ]+\]|-) +{FIGURE} +{FIGURE}\n", ") F [I] F F\n", text)
    return re.sub(r"[ ─]+", " ", re.sub(CHECKS, r"\1 F F [I]", text))


def without_rounding(text: str) -> str:
    """The text without the figures of rounding and the bounds, each sentence on one line, and without wide spaces.

    What a planted fault gives stays: its figures are the same everywhere.
    """
    sentence = r"^[A-Z][\w ]*: .*(?:\n(?![A-Z][\w ]*: ).+)*"
    text = re.sub(sentence, lambda found: found[0].replace("\n", " "), text, flags=re.MULTILINE)
    text = re.sub(r"\b([yhc]): step \d+(?:, \w+ \d+)+", r"\1[0]", text)  # the place in a comparison step by step
    text = re.sub(CHECKS, r"\1 F F [I]", text)
    text = re.sub(rf"\b(\w+[ |\t]+holds[ |\t]+){FIGURE}[ |\t]+{FIGURE}", r"\1F F", text)  # of a relation that holds
    row = rf"((?:float|bfloat)\d\d) \| {FIGURE} \| {FIGURE} \| .* \|\n"  # the same in Markdown
    text = re.sub(row, r"\1 | F | F | [I] |\n", text)
    text = re.sub(rf"(move \w+ by|explains|at most) {FIGURE}", r"\1 F", text)
    if not version("torch").startswith(GOLDEN_TORCH):  # another release draws other roundings, and so other bounds:
        # then another tensor may be the one that is told, which is the furthest over its bound.
        text = re.sub(rf"(in (?:float|bfloat)\d\d) [yhc] is {FIGURE} apart", r"\1 T is F apart", text)
    of_rounding = r'"(?:error|bound|\w+_max_abs)": |"max_abs": (?=[\d.e+-]+(?:,\s+"(?:error|deviations|bound)"|\s+\}))'
    text = re.sub(rf"({of_rounding})[\d.e+-]+", r"\1F", text)
    text = re.sub(r'("index": )(?:\[[^]]*\]|null)', r"\1[I]", text)
    return re.sub(r"[ ─]+", " ", re.sub(r"\d+\.\d{5,}(e-?\d+)?|\d{4,}\.0|\d[\d.]*e-(0[7-9]|[1-9]\d)", "F", text))


def rounded_cells(spec: Spec, weights: "Weights", given: "Input") -> "Run":
    """A stand-in for the cells, with every state moved in its last place: the same function, and never the same bits.

    Whether the cells themselves agree with torch's module to the bit depends on the CPU and on the number of threads.
    """
    import torch

    from rnnscope.subjects.builtin import run_equations

    def around(_: int, __: int, step: "Step") -> "Step":
        return lambda x, state: tuple(each * (1 + torch.finfo(each.dtype).eps) for each in step(x, state))

    return run_equations(spec, weights, given, around=around)
