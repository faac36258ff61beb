"""StackedCells as its users see it: called like torch's modules, returning what they return, and turned into them.

The grid is that of torch's own suite; torch's module is the witness, in float64 with gradients.
"""

import copy
import shutil
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from rnnscope import RnnscopeError, Spec, StackedCells, compare
from rnnscope.network.cells import MODULES, CompiledCells, without_compiler
from rnnscope.network.shapes import cell_name

H_IN, H, L = 3, 4, 5
KINDS = {"tanh": ("rnn", "tanh"), "relu": ("rnn", "relu"), "lstm": ("lstm", "tanh"), "gru": ("gru", "tanh")}
FORMS = ["unbatched", "unbatched strided", *(f"batch {n}{s}" for n in (0, 1, 4) for s in ("", " strided"))]
FORMS += ["packed", "packed unsorted"]
ALLOWED = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-3}
"""Of values below about 1. On the CPU torch computes an LSTM in bfloat16 through oneDNN, which rounds otherwise."""


def pair(kind: str, layers: int, **options: Any) -> tuple[Any, StackedCells]:
    """torch's module, and cells with the same weights."""
    name, nonlinearity = KINDS[kind]
    extra = {"nonlinearity": nonlinearity} if name == "rnn" else {}
    torch.manual_seed(layers)
    module = MODULES[name](H_IN, H, layers, **options, **extra)
    return module, StackedCells.from_module(module)


shared_pair = cache(pair)
"""The same pair for every input of the grid, which changes nothing in it but its gradients."""


def given(form: str, rows: int, lstm: bool, batch_first: bool, dtype: torch.dtype) -> tuple[Any, Any]:
    """An input of that form, and an initial state for it."""
    generator = torch.Generator().manual_seed(1)
    count = 4 if "packed" in form else int(form.split()[1]) if "batch " in form else 0
    batch = () if form.startswith("unbatched") else (count,)
    x = torch.randn(L, *batch, 2 * H_IN, generator=generator, dtype=torch.float64).to(dtype)
    x = x[..., ::2] if "strided" in form else x[..., :H_IN].contiguous()
    if batch and batch_first:
        x = x.transpose(0, 1) if "strided" in form else x.transpose(0, 1).contiguous()
    state = [torch.randn(rows, *batch, H, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]
    hx = (state[0], state[1]) if lstm else state[0]
    if "packed" not in form:
        return x.requires_grad_(), hx
    lengths = [2, 5, 1, 2] if "unsorted" in form else [5, 2, 2, 1]
    return pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted="unsorted" not in form), hx


def tensors(result: Any) -> list[Tensor]:
    """All tensors of an output and its state."""
    output, hidden = result
    data = [output.data, output.batch_sizes] if isinstance(output, PackedSequence) else [output]
    return [*data, *(hidden if isinstance(hidden, tuple) else [hidden])]


def gradients(network: nn.Module, result: Any) -> dict[str, Tensor]:
    """Of every parameter, by torch's names, for a cotangent that is no constant."""
    network.zero_grad()
    floats = [each for each in tensors(result) if each.is_floating_point()]
    cotangents = [torch.linspace(-1, 1, each.numel(), dtype=each.dtype).view_as(each) for each in floats]
    torch.autograd.backward(floats, cotangents)
    found = {name: each.grad for name, each in network.named_parameters()}
    return {cell_name(name) if "cells" in name else name: grad for name, grad in found.items() if grad is not None}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_hx", [True, False], ids=["hx", "no-hx"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "time-first"])
@pytest.mark.parametrize(
    ("kind", "layers", "bias", "bidirectional", "dtype"),
    list(product(KINDS, (1, 2, 3), (True, False), (True, False), ALLOWED)),
)
def test_what_comes_out_is_what_torch_gives(
    kind: str, layers: int, bias: bool, bidirectional: bool, dtype: str, batch_first: bool, with_hx: bool, form: str
) -> None:
    options = {"bias": bias, "bidirectional": bidirectional, "batch_first": batch_first, "dtype": getattr(torch, dtype)}
    module, cells = shared_pair(kind, layers, **options)
    x, hx = given(form, (2 if bidirectional else 1) * layers, kind == "lstm", batch_first, getattr(torch, dtype))
    expected, actual = (network(x, hx) if with_hx else network(x) for network in (module, cells))
    assert isinstance(actual[1], tuple) is (kind == "lstm")
    for theirs, ours in zip(tensors(expected), tensors(actual), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ALLOWED[dtype], atol=ALLOWED[dtype])
    if dtype == "float64" and "batch 0" not in form:
        torch.testing.assert_close(gradients(cells, actual), gradients(module, expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_a_packed_output_is_packed_as_the_input(enforce_sorted: bool) -> None:
    module, cells = pair("gru", 1)
    items = [torch.randn(n, H_IN, generator=torch.Generator().manual_seed(n)) for n in (4, 4, 2, 2, 1)]
    packed = pack_sequence(items, enforce_sorted)
    theirs, ours = module(packed)[0], cells(packed)[0]
    torch.testing.assert_close(ours.data, theirs.data)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert one is other or torch.equal(one, other)


def test_the_backward_direction_starts_at_each_items_own_end() -> None:
    _, cells = pair("lstm", 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(L, 2, H_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, (h, c) = cells(pack_padded_sequence(x, torch.tensor([5, 3])))
    _, (alone_h, alone_c) = cells(x[:3, 1])
    torch.testing.assert_close((h[:, 1], c[:, 1]), (alone_h, alone_c), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("kind", "layers", "bidirectional"), list(product(KINDS, (1, 3), (True, False))))
def test_there_and_back_loses_nothing(kind: str, layers: int, bidirectional: bool) -> None:
    options = {"bidirectional": bidirectional, "batch_first": True, "dtype": torch.float64}
    module, cells = pair(kind, layers, **options, dropout=0.25 if layers > 1 else 0.0)
    next(module.parameters()).requires_grad_(False)
    back = StackedCells.from_module(module.eval()).to_module()
    assert repr(back) == repr(module)
    assert back.training is False
    for (name, theirs), (ours_name, ours) in zip(module.named_parameters(), back.named_parameters(), strict=True):
        assert (name, theirs.requires_grad, theirs.dtype) == (ours_name, ours.requires_grad, ours.dtype)
        assert torch.equal(theirs, ours)
        assert theirs.data_ptr() != ours.data_ptr()
    assert {each.data_ptr() for each in cells.parameters()}.isdisjoint(each.data_ptr() for each in module.parameters())


def test_the_names_of_the_state_dict() -> None:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    expected = [f"{stack}.{k}.{name}" for stack in ("cells", "reverse_cells") for k in (0, 1) for name in names]
    assert list(StackedCells("lstm", 3, 4, 2, bidirectional=True).state_dict()) == expected


@pytest.mark.parametrize("name", ["weight_ih_l0", "bias_hh_l12_reverse"])
def test_a_name_has_one_other_name(name: str) -> None:
    assert cell_name(cell_name(name)) == name


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_it_learns(kind: str) -> None:
    torch.manual_seed(0)
    cells, head = StackedCells(kind, 2, 8, bidirectional=True), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*cells.parameters(), *head.parameters()], lr=0.05)
    x = torch.randn(6, 16, 2)
    losses = []
    for _ in range(40):
        y, _ = cells(x)
        loss = (head(y).squeeze(-1) - x.sum(-1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_dropout_acts_between_layers_in_training(probability: float) -> None:
    module, cells = pair("gru", 3, dropout=probability, dtype=torch.float64)
    x = torch.randn(L, 2, H_IN, dtype=torch.float64)
    torch.testing.assert_close(cells(x), module(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(cells.eval()(x), module.eval()(x), rtol=0, atol=1e-14)


def test_dropout_draws_in_training_alone() -> None:
    _, cells = pair("lstm", 2, dropout=0.5)
    x = torch.randn(L, 2, H_IN)
    assert not torch.equal(cells(x)[0], cells(x)[0])
    assert torch.equal(cells.eval()(x)[0], cells(x)[0])


def test_it_can_be_copied_and_pickled() -> None:
    cells = StackedCells("gru", H_IN, H, 2)
    x = torch.ones(L, 1, H_IN)
    assert torch.equal(copy.deepcopy(cells)(x)[0], cells(x)[0])


X = torch.zeros(L, 2, H_IN)
H0 = torch.zeros(1, 2, H)


@pytest.mark.parametrize(
    ("kind", "x", "hx", "sentence"),
    [
        ("gru", X, (H0, H0), "StackedCells(gru): hx is a tuple of 2, but the tensor h0 was expected"),
        ("rnn", X, (H0,), "StackedCells(rnn): hx is a tuple of 1, but the tensor h0 was expected"),
        ("lstm", X, H0, "StackedCells(lstm): hx is a Tensor, but the pair (h0, c0) was expected"),
        ("lstm", X, (H0,), "StackedCells(lstm): hx is a tuple of 1, but the pair (h0, c0) was expected"),
        ("gru", X, H0[:, :1], "StackedCells(gru): h0 has shape (1, 1, 4), but shape (1, 2, 4) was expected"),
        ("gru", X[:, 0], H0, "StackedCells(gru): h0 has shape (1, 2, 4), but shape (1, 4) was expected"),
        ("lstm", X, (H0, H0[0]), "StackedCells(lstm): c0 has shape (2, 4), but shape (1, 2, 4) was expected"),
        ("lstm", X, (H0, 3), "StackedCells(lstm): c0 has type int, but shape (1, 2, 4) was expected"),
        (
            "gru",
            X,
            H0.double(),
            "StackedCells(gru): h0 is in torch.float64, but torch.float32 as the weights are was expected",
        ),
        (
            "gru",
            X.double(),
            None,
            "StackedCells(gru): input is in torch.float64, but torch.float32 as the weights are was expected",
        ),
        ("gru", X[..., :2], None, "StackedCells(gru): input has 2 features, but input_size 3 was expected"),
        (
            "gru",
            X[0, 0],
            None,
            "StackedCells(gru): input has shape (3,), but 3 dims, or 2 where it is unbatched was expected",
        ),
        ("gru", [1], None, "StackedCells(gru): input is a list, but a tensor or a packed sequence was expected"),
        (
            "gru",
            X[:0],
            None,
            "StackedCells(gru): input has shape (0, 2, 3), but a sequence of at least one step was expected",
        ),
    ],
)
def test_what_it_cannot_take_is_said_with_what_it_expected(kind: str, x: Any, hx: Any, sentence: str) -> None:
    with pytest.raises(RnnscopeError) as caught:
        StackedCells(kind, H_IN, H)(x, hx)
    assert str(caught.value) == sentence


def test_tied_weights_stay_tied_there_and_back() -> None:
    module = nn.GRU(4, 4, 2)
    module.weight_hh_l1 = module.weight_hh_l0
    cells = StackedCells.from_module(module)
    assert cells.cells[1].weight_hh is cells.cells[0].weight_hh
    back = cells.to_module()
    assert back.weight_hh_l1 is back.weight_hh_l0
    x = torch.randn(L, 2, 4, generator=torch.Generator().manual_seed(0))
    for network in (cells, back):
        torch.testing.assert_close(network(x)[0], module(x)[0])


def test_under_autocast_it_computes_as_it_is_told() -> None:
    cells = StackedCells("lstm", H_IN, H)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = cells(X.bfloat16())
    assert y.shape == (L, 2, H)


class Doubling(nn.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        y, last = super().forward(input, hx)
        return 2 * y, last


def reparametrised() -> nn.LSTM:
    return torch.nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")  # type: ignore[no-any-return]


def mixed() -> nn.LSTM:
    module = nn.LSTM(3, 4)
    module.weight_ih_l0.data = module.weight_ih_l0.data.double()
    return module


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: StackedCells.from_module(Doubling(3, 4)),
            "from_module takes nn.RNN, nn.LSTM or nn.GRU, and got Doubling",
        ),
        (
            lambda: StackedCells.from_module(mixed()),
            "the weights of the LSTM are not all of one dtype and on one device",
        ),
        (
            lambda: StackedCells.from_module(reparametrised()),
            "parametrizations.weight_hh_l0.original0 is reparametrised, or no parameter of ParametrizedLSTM: "
            "make it plain first",
        ),
        (
            lambda: StackedCells("lstm", 3, 4, nonlinearity="relu"),
            "StackedCells: nonlinearity is 'relu', but lstm has none to choose",
        ),
        (
            lambda: StackedCells("lstm", 3, 4, dropout=1.5),
            "StackedCells: dropout is 1.5, but it must be a number from 0 to 1",
        ),
        (lambda: StackedCells("cnn", 3, 4), "StackedCells: kind is 'cnn', but it must be one of rnn, lstm, gru"),
        (
            lambda: StackedCells("gru", 3, 4, 0),
            "StackedCells: num_layers is 0, but it must be a whole number of at least 1",
        ),
        (
            lambda: StackedCells("gru", 3, 2.5),  # type: ignore[arg-type]
            "StackedCells: hidden_size is 2.5, but it must be a whole number of at least 1",
        ),
        (
            lambda: StackedCells("rnn", 3, 4, nonlinearity="gelu"),
            "StackedCells: nonlinearity is 'gelu', but it must be tanh or relu",
        ),
        (
            lambda: StackedCells.from_module(nn.LSTM(3, 4, proj_size=2)),
            "nn.LSTMCell knows no projection, and the nn.LSTM has proj_size=2",
        ),
        (
            lambda: StackedCells.from_module(nn.Linear(3, 4)),  # type: ignore[arg-type]
            "from_module takes nn.RNN, nn.LSTM or nn.GRU, and got Linear",
        ),
        (lambda: cell_name("weight"), "'weight' is no name of a parameter of torch's modules or of StackedCells"),
    ],
)
def test_what_it_cannot_be_is_said(make: Any, sentence: str) -> None:
    with pytest.raises(RnnscopeError) as caught:
        make()
    assert str(caught.value) == sentence


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")


@needs_compiler
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_compiled_step_is_the_same_function(kind: str) -> None:
    found = compare(Spec(kind=kind, seq_len=4), right="compiled", grad=True)
    assert found.exit_code == 0
    assert found.cause in (None, "rounding")


@needs_compiler
def test_it_is_compiled_once_for_each_shape_and_not_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo.utils as dynamo

    dynamo.counters.clear()
    cells = CompiledCells("gru", 3, 5, 2)
    with torch.no_grad():
        cells(torch.randn(40, 2, 3))
    assert dynamo.counters["stats"]["unique_graphs"] == 2  # one for each layer's input size


@needs_compiler
def test_more_shapes_than_torchs_own_limit_stay_compiled() -> None:
    import torch._dynamo.utils as dynamo

    dynamo.counters.clear()
    with torch.no_grad():
        for size in range(2, 13):
            CompiledCells("rnn", size, 4, 1)(torch.randn(2, 1, size))
    assert dynamo.counters["stats"]["unique_graphs"] == 11


def test_without_a_compiler_it_is_trouble_and_says_so(bash: Cli, tmp_path: object) -> None:
    answer = bash("rnnscope compare --right compiled", CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(
        "rnnscope: the subject compiled needs a compiler, and torch.compile finds no C++ compiler"
    )
    assert answer.err.endswith("); install g++ (on a GPU Triton too), look at what CXX names, or use cells\n")


def behind(first: Exception, second: Exception) -> Exception:
    first.__cause__ = second
    return first


class InductorError(RuntimeError):
    """As torch's own, which another release may call otherwise."""


InductorError.__module__ = "torch._inductor.exc"

NONE = "the subject compiled needs a compiler, and torch.compile finds no C++ compiler that works"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("InvalidCxxCompiler: No working C++ compiler found"),
            f"{NONE} (RuntimeError: InvalidCxxCompiler",
        ),
        (RuntimeError("backend='inductor' raised:\nNo working C++ compiler found\nmore"), f"{NONE} (No working C++"),
        (RuntimeError("it failed\n\nC++ compile error\nomp.h is missing"), f"{NONE} (C++ compile error)"),
        (behind(RuntimeError("it failed"), OSError("no C++ compiler")), f"{NONE} (OSError: no C++ compiler)"),
        (RuntimeError("Cannot find a working triton\nTriton is missing"), "the subject compiled needs a compiler, and"),
        (InductorError("IndexError: list index"), "torch.compile cannot compile a step (IndexError: list index)"),
    ],
    ids=["first", "second line", "third line", "cause", "triton", "another"],
)
def test_a_missing_compiler_is_found_wherever_it_is_said(error: Exception, message: str) -> None:
    found = without_compiler(error)
    assert found is not None
    assert found.message.startswith(message)
    assert found.hint is not None
    assert "look at what CXX names" in found.hint or "Triton" in found.hint


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), InductorError("out of memory")], ids=str)
def test_what_is_no_compiler_stays_what_it_is(error: Exception) -> None:
    assert without_compiler(error) is None
