"""What several test files share: the answer of a command line, where things stand, and texts without their figures."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from rnnscope import Spec

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


def masked(text: str) -> str:
    """The text without the digits that differ from machine to machine, and without the spaces that they fill."""
    text = re.sub(r"torch \d[\w.+]*", "torch V", text)
    text = re.sub("is a build without CUDA|finds no CUDA device on this machine", "has no CUDA", text)
    figure = r"\d[\d.]*(e[-+]\d+)?"
    text = re.sub(
        rf"^((?:--\S+)? +\S+) +(?:\d+|-) +(?:\d+|-) +- +(\d+|-) +{figure}$", r"\1 N N - \2 F", text, flags=re.M
    )
    text = re.sub(rf"\) +{figure} +([yhc]?\[[\d, ]+\]|-) +{figure} +{figure}\n", ") F [I] F F\n", text)
    text = re.sub(rf"((?:float|bfloat)\d\d) +{figure} +{figure} +((?:grad of )?\w+\[[\d, ]+\]|-)", r"\1 F F [I]", text)
    return re.sub(r"[ ─]+", " ", text)
