"""What torch gets from no file: with it an operator ends the process, never ends, or reads beyond its tensors."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rnnscope.subjects.calls_of_files import check_call
from rnnscope.subjects.exported_programs import _call, _operator_of_aten

ATEN = torch.ops.aten
X, H = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)
WEIGHTS = [torch.zeros(16, 3), torch.zeros(16, 4), torch.zeros(16), torch.zeros(16)]
FLAGS = (True, 1, 0.0, False, False)
PACKED = torch.zeros(7, 3)


def packed(*sizes: int) -> tuple[Any, ...]:
    return PACKED, torch.tensor(sizes, dtype=torch.int64), [H, H], WEIGHTS, *FLAGS


HOSTILE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "weights of h that are too small": (
        ATEN.lstm.input,
        (X, [H, H], [WEIGHTS[0], torch.zeros(4, 4), *WEIGHTS[2:]], *FLAGS, False),
    ),
    "weights of x that are too narrow": (
        ATEN.lstm.input,
        (X, [H, H], [WEIGHTS[0][:, :1], *WEIGHTS[1:]], *FLAGS, False),
    ),
    "states of more items": (ATEN.lstm.input, (X, [torch.zeros(1, 7, 4)] * 2, WEIGHTS, *FLAGS, False)),
    "states of more layers": (ATEN.lstm.input, (X, [torch.zeros(3, 2, 4)] * 2, WEIGHTS, *FLAGS, False)),
    "no sizes of a packed batch": (ATEN.lstm.data, packed()),
    "more items than numbers": (ATEN.lstm.data, packed(7)),
    "sizes that grow": (ATEN.lstm.data, packed(1, 2, 4)),
    "a number for a dtype": (ATEN.log_softmax.int, (X, 0, -1000000)),
    "a weight without numbers": (ATEN._weight_norm.default, (torch.zeros(0), torch.zeros(0), 0)),
    "a text repeated": (operator.mul, ("a", 10**12)),
    "a list repeated": (operator.mul, ([X], 10**12)),
    "a number repeating a list": (operator.mul, (10**12, [X])),
    "a text that formats": (operator.mod, ("%99999999999d", 1)),
    "numbers without end": (operator.mul, (2**64, 2**64)),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_could_end_the_process_never_reaches_torch(how: str) -> None:
    function, given = HOSTILE[how]
    with pytest.raises(ValueError, match=r"fit|no dtype|no size"):
        check_call(function, given, {})


def test_a_number_by_name_is_no_dtype() -> None:
    with pytest.raises(ValueError, match="no dtype"):
        check_call(ATEN.ones.default, ([3],), {"dtype": 2**62})


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "an LSTM": (ATEN.lstm.input, (X, [H, H], WEIGHTS, *FLAGS, False)),
    "a packed one": (ATEN.lstm.data, packed(2, 2, 2, 1)),
    "a dtype": (ATEN.log_softmax.int, (X, 0, torch.float64)),
    "weights by rows": (ATEN._weight_norm.default, (WEIGHTS[0], torch.ones(16, 1), 0)),
    "an item of a tuple": (operator.getitem, ((X, H), 1)),
    "sizes": (operator.floordiv, (7, 2)),
    "a size and a tensor": (operator.mul, (2, X)),
}


@pytest.mark.parametrize("how", RIGHT)
def test_what_an_exporter_writes_is_let_through(how: str) -> None:
    function, given = RIGHT[how]
    check_call(function, given, {})
    function(*given)


@pytest.mark.parametrize(
    ("name", "overload"),
    [
        ("special_laguerre_polynomial_l", "default"),  # as many rounds as a number says
        ("special_legendre_polynomial_p", "n_scalar"),
        ("gcd", "default"),  # divides the least whole number by -1
        ("lcm", "default"),
        ("remainder", "int"),  # divides by 0
        ("mul", "left_t"),  # repeats a list
        ("add", "str"),
    ],
)
def test_operators_that_never_end_or_end_the_process_are_refused(name: str, overload: str) -> None:
    assert _operator_of_aten(name, overload) is None


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("more", [{}, {"bias": False}, {"batch_first": True}, {"proj_size": 2}])
def test_every_form_of_torchs_networks_is_let_through(kind: str, bidirectional: bool, more: dict[str, Any]) -> None:
    if "proj_size" in more and kind != "LSTM":
        pytest.skip("nn.LSTM alone has a projection")
    made = getattr(torch.nn, kind)(3, 4, 2, bidirectional=bidirectional, **more)
    packet = getattr(ATEN, {"RNN": "rnn_tanh"}.get(kind, kind.lower()))
    rows = 4 if bidirectional else 2
    h, c = torch.zeros(rows, 2, made.proj_size or 4), torch.zeros(rows, 2, 4)
    hx = [h, c] if kind == "LSTM" else h
    flags = (made.bias, 2, 0.0, False, bidirectional)
    x = X.transpose(0, 1) if made.batch_first else X
    check_call(packet.input, (x, hx, made._flat_weights, *flags, made.batch_first), {})
    sizes = torch.tensor([2, 2, 2, 1])
    check_call(packet.data, (PACKED, sizes, hx, made._flat_weights, *flags), {})


def test_batch_norm_does_not_write_to_what_a_program_is_given() -> None:
    def tensor(name: str) -> dict[str, Any]:
        return {"as_tensor": {"name": name}}

    x = torch.rand(3, 4)
    flags = {"training": {"as_bool": True}, "momentum": {"as_float": 1.0}, "eps": {"as_float": 1e-5}}
    given: dict[str, Any] = {"input": tensor("x"), "weight": {"as_none": True}, "bias": {"as_none": True}}
    given |= {"running_mean": tensor("row"), "running_var": tensor("row"), **flags, "cudnn_enabled": {"as_bool": False}}
    # A file may call what stands at a place as it likes.
    inputs = [{"name": "", "arg": each, "kind": 1} for each in given.values()]
    node = {"target": "torch.ops.aten.batch_norm.default", "inputs": inputs, "outputs": [tensor("y")]}
    before = x.clone()
    with torch.no_grad():
        _call(node, {"x": x, "row": x[0]}, "cpu")
    assert torch.equal(x, before)
