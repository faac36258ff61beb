"""flagos-ai/FlagGems#5014: a fused LSTM cell computes the first 128 units, and leaves the others out without a word.

A program of the kernel covers up to 128 units, and one is started for each item. With a hidden_size over 128 the rest
of the new h and c is never written, and the next step and the layer above read it. There stands what the memory had;
here it is zeros. No tolerance was found in the report. Its other fault, of the gradients, is left out.
"""

from functools import partial

import pytest
import torch
from graveyard.grave import Bug, Sides, device
from torch import Tensor

from rnnscope import Spec
from rnnscope.network.equations import Layer, State
from rnnscope.network.weights import Input, Weights
from rnnscope.subjects.builtin import Run, run_equations, run_module

LARGEST_BLOCK = 128


def fused_lstm_cell(faulty: bool, w: Layer, x: Tensor, state: State) -> State:
    h, c = state
    gates = x @ w.W_ih.T + h @ w.W_hh.T
    if w.b_ih is not None and w.b_hh is not None:
        gates = gates + (w.b_ih + w.b_hh)
    hy, cy = torch.zeros_like(c), torch.zeros_like(c)
    size = c.shape[1]
    block = min(size, LARGEST_BLOCK)
    programs = 1 if faulty else -(-size // block)
    for program in range(programs):
        units = slice(program * block, (program + 1) * block)
        i, f, g, o = (each[:, units] for each in gates.chunk(4, 1))
        cy[:, units] = f.sigmoid() * c[:, units] + i.sigmoid() * g.tanh()
        hy[:, units] = o.sigmoid() * cy[:, units].clone().tanh()
    return hy, cy


def lstm(faulty: bool, spec: Spec, weights: Weights, given: Input) -> Run:
    if spec.kind != "lstm" or spec.proj_size:
        return run_module(spec, weights, given)
    return run_equations(spec, weights, given, partial(fused_lstm_cell, faulty))


def machine(patch: pytest.MonkeyPatch, faulty: bool) -> None:
    device("xpu", lambda *asked: lstm(faulty, *asked))(patch, True)


BUG = Bug(
    report="flagos-ai/FlagGems#5014",
    told="a fused LSTM cell never writes the units from 128 on",
    half=1,
    form=Sides(Spec(kind="lstm", hidden_size=129), lambda faulty, folder: "module@xpu", machine=machine),
    named="function",
    place={"step": 0, "layer": 0, "unit": 128},
)
