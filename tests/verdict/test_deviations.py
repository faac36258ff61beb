"""Every named deviation: caught by the verdict, explained by its own name, and told where it cannot show."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope import RnnscopeError, Spec, compare
from rnnscope.network.shapes import GATES
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.spec.question import blind_spots
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import Run, run_cells
from rnnscope.verdict.deviations import DEVIATIONS, Deviation, deviations

SPECS = {
    "rnn": Spec(),
    "relu": Spec(nonlinearity="relu"),
    "lstm": Spec(kind="lstm"),
    "gru": Spec(kind="gru"),
    "both directions": Spec(kind="gru", bidirectional=True, seq_len=4, num_layers=3),
    "both directions of an lstm": Spec(kind="lstm", bidirectional=True, batch_first=True),
    "equal layers": Spec(input_size=20, num_layers=3, seq_len=4, batch_size=4),
    "projection": Spec(kind="lstm", proj_size=8),
    "lengths": Spec(kind="gru", lengths=(5, 2, 3), bidirectional=True),
    "unbatched": Spec(kind="lstm", unbatched=True),
    "no bias": Spec(kind="gru", bias=False, num_layers=3),
    "zeros": Spec(h0="zeros", num_layers=1),
    "large cell state": Spec(kind="lstm", input_size=200, hidden_size=1, num_layers=1, seq_len=40),
}
"""Together they have every deviation."""

CASES = [(name, each) for name, spec in SPECS.items() for each in deviations(spec)]

SAME_FUNCTION = {("rnn", "b_ih and b_hh swapped"), ("lstm", "b_ih and b_hh swapped")}
"""(kind, deviation): the sum of the two biases is all that counts."""

LARGE = {"cell state clipped at 3"}
"""With initial weights c comes so far only in the case of a large cell state."""


def named(name: str) -> Deviation:
    return next(each for each in DEVIATIONS if each.name == name)


def with_deviation(monkeypatch: pytest.MonkeyPatch, deviation: Deviation) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", deviation.run)


@pytest.mark.parametrize(("name", "deviation"), CASES, ids=[f"{name}: {deviation.name}" for name, deviation in CASES])
def test_a_deviation_is_caught_and_explained_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, name: str, deviation: Deviation
) -> None:
    spec = SPECS[name]
    with_deviation(monkeypatch, deviation)
    found = compare(spec, right="equations")
    if (spec.kind, deviation.name) in SAME_FUNCTION or (deviation.name in LARGE and name != "large cell state"):
        assert found.exit_code == 0
    elif deviation.name == "h0 ignored" and spec.h0 == "zeros":
        assert any("whether the initial state is used" in each.sentence for each in blind_spots(spec))
    elif deviation.name == "batch and time swapped" and spec.seq_len != spec.batch_size:
        assert (found.verdict, found.cause) == ("different", "shape")
    else:
        assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
        assert deviation.name in [each.convention for each in found.explanations]
        assert len(found.explanations) == 1
        assert found.first_divergence is not None


def test_every_deviation_has_a_case() -> None:
    assert {each.name for each in DEVIATIONS} == {each.name for _, each in CASES}


def test_names_are_unique() -> None:
    assert len({each.name for each in DEVIATIONS}) == len(DEVIATIONS)


@pytest.mark.parametrize(("kind", "count"), [("lstm", 23), ("gru", 5)])
def test_every_order_of_the_gates_is_there_but_torchs(kind: str, count: int) -> None:
    orders = {each.name for each in deviations(Spec(kind=kind)) if each.name.startswith("gates ")}
    every = {f"gates {' '.join(order)}" for order in permutations(GATES[kind])}
    assert len(orders) == count
    assert orders == every - {f"gates {' '.join(GATES[kind])}"}


def test_an_unknown_fault_is_explained_by_no_convention(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        return run_cells(spec, {name: 1.01 * each for name, each in weights.items()}, given)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    assert "Why: no known deviation explains it." in cli("compare").out


def test_the_explanation_is_a_sentence(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", named("gates i f o g").run)
    text = " ".join(cli("compare", "--kind", "lstm").out.split())
    assert "Why: The right side (cells) stacks its gates i f o g; torch stacks i f g o." in text


def test_a_wrong_left_side_is_explained_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "cells", named("update gate inverted").run)
    found = compare(Spec(kind="gru"), "cells", "module")
    assert [(each.side, each.convention) for each in found.explanations] == [("left", "update gate inverted")]


def test_two_wrong_sides_that_agree_are_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cells", "module"):
        monkeypatch.setitem(subjects.SUBJECTS, name, named("reset before the matmul").run)
    found = compare(Spec(kind="gru"))
    assert (found.verdict, found.cause, found.side) == ("identical", None, None)
    assert found.reference is not None
    assert found.reference.deviating == ("left", "right")
    assert {each.convention for each in found.explanations} == {"reset before the matmul"}


# As a side of a comparison.


@pytest.mark.parametrize("typed", ["W_hh-transposed", "w-hh-transposed", "W_hh transposed"])
def test_a_side_may_be_a_deviation(typed: str) -> None:
    found = compare(Spec(), right=f"deviation:{typed}")
    assert (found.verdict, found.side, found.right) == ("different", "right", f"deviation:{typed}")
    assert [each.convention for each in found.explanations] == ["W_hh transposed"]


def test_a_left_side_may_be_a_deviation_in_a_dtype_of_its_own() -> None:
    found = compare(Spec(), "deviation:h0-ignored@cpu/float64", "module", grad=True)
    assert found.sides.dtypes == ("float64", "float32")
    assert [(each.side, each.convention) for each in found.explanations] == [("left", "h0 ignored")]
    assert found.gradients
    assert found.figures.missing_gradients == ()


def test_two_sides_of_one_deviation_are_identical() -> None:
    found = compare(Spec(kind="gru"), "deviation:update-gate-inverted", "deviation:update-gate-inverted")
    assert (found.verdict, found.more) == ("identical", ("update gate inverted",))


def test_a_deviation_is_no_class_with_a_memory_of_its_own() -> None:
    assert compare(Spec(), right="deviation:b_hh-dropped", chunk=2).blind_spots == ()


def test_a_deviation_can_be_run_again(cli: Cli) -> None:
    words = ("compare", "--kind", "gru", "--right", "deviation:gates-z-r-n@cpu/float64", "--map")
    line = re.findall(r"^Rerun: rnnscope (.*)$", cli(*words).out, re.MULTILINE)[0]
    assert cli(*line.split()) == cli(*words)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (Spec(kind="lstm"), "gates-z-r-n"),
        (Spec(bias=False), "b_hh-dropped"),
        (Spec(), "directions-swapped-in-h"),
        (Spec(kind="lstm", proj_size=3), "W_hh-transposed"),
        (Spec(), "lengths-ignored"),
    ],
)
def test_a_deviation_that_makes_no_sense_is_refused(spec: Spec, name: str) -> None:
    with pytest.raises(RnnscopeError, match=f"--left deviation:{name} makes no sense for nn.") as refused:
        compare(spec, f"deviation:{name}", "module")
    assert str(refused.value.hint).startswith("try rnnscope compare ")


# Against networks that are written here, independently of the table.


def by_hand(kind: str, order: str) -> subjects.Subject:
    """A loop of the formulas of torch's documentation, with the gates stacked in another order."""

    def run(spec: Spec, weights: Weights, given: Input) -> Run:
        w, (x, state) = weights, (given.x, given.state)
        h, y = state[0][0], []
        c = state[1][0] if kind == "lstm" else h
        for step in x:
            a = step @ w["weight_ih_l0"].T + w["bias_ih_l0"]
            b = h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
            ih, hh = (dict(zip(order, each.chunk(len(order), -1), strict=True)) for each in (a, b))
            if kind == "lstm":
                i, f, o = (torch.sigmoid(ih[gate] + hh[gate]) for gate in "ifo")
                c = f * c + i * torch.tanh(ih["g"] + hh["g"])
                h = o * torch.tanh(c)
            else:
                r, z = (torch.sigmoid(ih[gate] + hh[gate]) for gate in "rz")
                n = torch.tanh(ih["n"] + r * hh["n"])
                h = (1 - z) * n + z * h
            y.append(h)
        return Run(torch.stack(y), (h[None], c[None]) if kind == "lstm" else (h[None],))

    return run


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_class_with_its_own_order_is_told_its_order(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for order in map("".join, permutations(GATES[kind])):
        monkeypatch.setitem(subjects.SUBJECTS, "cells", by_hand(kind, order))
        found = compare(Spec(kind=kind, num_layers=1))
        expected = [] if order == GATES[kind] else [f"gates {' '.join(order)}"]
        assert [each.convention for each in found.explanations] == expected


def outputs_of(spec: Spec, name: str) -> tuple[Tensor, ...]:
    run = named(name).run(spec, draw_weights(spec), draw_input(spec))
    return run.y, *run.state


def torchs(spec: Spec, weights: Weights, given: Input) -> tuple[Tensor, ...]:
    module: Any = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[spec.kind](
        spec.input_size, spec.hidden_size, spec.num_layers, bidirectional=spec.bidirectional, dtype=torch.float64
    )
    module.load_state_dict(weights)
    with torch.no_grad():
        y, last = module(given.x, given.state if spec.kind == "lstm" else given.state[0])
    return (y, *last) if isinstance(last, tuple) else (y, last)


def swapped_rows(h: Tensor) -> Tensor:
    return h[[1, 0, 3, 2]]


BOTH = Spec(kind="lstm", bidirectional=True, dtype="float64")


@pytest.mark.parametrize(
    ("spec", "name", "change"),
    [
        (Spec(dtype="float64"), "b_hh dropped", lambda w, g: ({n: e * ("bias_hh" not in n) for n, e in w.items()}, g)),
        (Spec(dtype="float64"), "b_ih dropped", lambda w, g: ({n: e * ("bias_ih" not in n) for n, e in w.items()}, g)),
        (
            Spec(dtype="float64"),
            "W_hh transposed",
            lambda w, g: ({n: e.T if "weight_hh" in n else e for n, e in w.items()}, g),
        ),
        (Spec(dtype="float64"), "h0 ignored", lambda w, g: (w, Input(g.x, (g.state[0] * 0,)))),
        (BOTH, "c0 ignored", lambda w, g: (w, Input(g.x, (g.state[0], g.state[1] * 0)))),
        (BOTH, "h0 and c0 swapped", lambda w, g: (w, Input(g.x, (g.state[1], g.state[0])))),
        (
            Spec(kind="lstm", dtype="float64"),
            "forget bias of 1",
            lambda w, g: (
                {n: e + (torch.arange(80) // 20 == 1) if "bias_ih" in n else e for n, e in w.items()},
                g,
            ),
        ),
        (
            Spec(kind="gru", dtype="float64", num_layers=1),
            "update gate inverted",  # 1 - σ(a) = σ(-a)
            lambda w, g: (
                {
                    n: e * torch.where(torch.arange(60) // 20 == 1, -1, 1).view(-1, *[1] * (e.dim() - 1))
                    for n, e in w.items()
                },
                g,
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_deviation_computes_what_torch_does_with_other_numbers(
    spec: Spec, name: str, change: Callable[[Weights, Input], tuple[Weights, Input]]
) -> None:
    expected = torchs(spec, *change(draw_weights(spec), draw_input(spec)))
    for actual, each in zip(outputs_of(spec, name), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("directions swapped in y", lambda y, h, c: (torch.cat((y[..., 20:], y[..., :20]), -1), h, c)),
        ("directions swapped in h", lambda y, h, c: (y, swapped_rows(h), swapped_rows(c))),
        ("h ordered direction-major", lambda y, h, c: (y, h[[0, 2, 1, 3]], c[[0, 2, 1, 3]])),
    ],
)
def test_a_deviation_gives_torchs_output_in_another_order(name: str, change: Callable[..., tuple[Tensor, ...]]) -> None:
    expected = change(*torchs(BOTH, draw_weights(BOTH), draw_input(BOTH)))
    for actual, each in zip(outputs_of(BOTH, name), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("h and c swapped", lambda y, h, c: (y, c, h)),
        ("items of h in reverse", lambda y, h, c: (y, h[:, [4, 3, 2, 1, 0]], c[:, [4, 3, 2, 1, 0]])),
    ],
)
def test_a_state_is_torchs_in_another_order(name: str, change: Callable[..., tuple[Tensor, ...]]) -> None:
    expected = change(*torchs(BOTH, draw_weights(BOTH), draw_input(BOTH)))
    assert_all_close(outputs_of(BOTH, name), expected)


def test_items_of_h_sorted_by_length_are_torchs_on_sorted_items() -> None:
    spec = Spec(kind="gru", lengths=(2, 4, 3), dtype="float64")
    plain, by_length = outputs_of(spec, "items of h sorted by length"), [1, 2, 0]
    given = draw_input(spec)
    packed = pack_padded_sequence(given.x[:, by_length], torch.tensor([4, 3, 2]))
    module = nn.GRU(10, 20, 2, dtype=torch.float64)
    module.load_state_dict(draw_weights(spec))
    with torch.no_grad():
        y, h = module(packed, given.state[0][:, by_length])
    assert_all_close(plain, (pad_packed_sequence(y)[0][:, [2, 0, 1]], h))


def test_h0_for_the_first_layer_alone_is_zeros_above_it() -> None:
    given = draw_input(BOTH)
    given = Input(given.x, tuple(each * torch.tensor([1, 1, 0, 0]).view(4, 1, 1) for each in given.state))
    assert_all_close(outputs_of(BOTH, "h0 for the first layer alone"), torchs(BOTH, draw_weights(BOTH), given))


@pytest.mark.parametrize(
    ("name", "layers"), [("y of the first layer", 1), ("y of the layer below the top", 2)], ids=["first", "below"]
)
def test_y_of_a_lower_layer_is_y_of_a_network_that_ends_there(name: str, layers: int) -> None:
    spec = Spec(kind="gru", num_layers=3, dtype="float64")
    weights, given = draw_weights(spec), draw_input(spec)
    lower = {each: weight for each, weight in weights.items() if int(each[-1]) < layers}
    below, _ = torchs(replace(spec, num_layers=layers), lower, Input(given.x, (given.state[0][:layers],)))
    _, h = torchs(spec, weights, given)
    assert_all_close(outputs_of(spec, name), (below, h))


def test_padding_that_is_walked_shows_in_h_and_not_in_y() -> None:
    spec = Spec(lengths=(4, 2, 3), dtype="float64")
    y, h = torchs(spec, draw_weights(spec), draw_input(spec))
    real = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 0]]).unsqueeze(-1)
    assert_all_close(outputs_of(spec, "lengths ignored but in y"), (y * real, h))


def assert_all_close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


def test_a_backward_direction_that_is_fed_forward_is_a_forward_one() -> None:
    spec = Spec(kind="gru", bidirectional=True, num_layers=1, dtype="float64")
    y, h = outputs_of(spec, "backward direction fed forward")
    weights, given = draw_weights(spec), draw_input(spec)
    backward = {name.removesuffix("_reverse"): each for name, each in weights.items() if name.endswith("_reverse")}
    expected, last = torchs(replace(spec, bidirectional=False), backward, Input(given.x, (given.state[0][1:],)))
    torch.testing.assert_close(y[..., 20:], expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(h[1:], last, rtol=0, atol=1e-14)


def reversed_layers(weights: Weights) -> Weights:
    other = {"l0": "l2", "l1": "l1", "l2": "l0"}
    return {f"{name[:-2]}{other[name[-2:]]}": each for name, each in weights.items()}


def other_biases(weights: Weights) -> Weights:
    return {
        name: weights[name.replace("_ih", "_??").replace("_hh", "_ih").replace("_??", "_hh")]
        if name.startswith("bias")
        else each
        for name, each in weights.items()
    }


EQUAL = Spec(input_size=20, num_layers=3, dtype="float64")


@pytest.mark.parametrize(
    ("spec", "name", "change"),
    [
        (EQUAL, "layers in reverse order", reversed_layers),
        (Spec(kind="gru", dtype="float64"), "b_ih and b_hh swapped", other_biases),
        (Spec(dtype="float64"), "both biases dropped", lambda w: {n: e * (e.dim() - 1) for n, e in w.items()}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_deviation_of_weights_is_torch_with_other_weights(
    spec: Spec, name: str, change: Callable[[Weights], Weights]
) -> None:
    expected = torchs(spec, change(draw_weights(spec)), draw_input(spec))
    for actual, each in zip(outputs_of(spec, name), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=0, atol=1e-14)


def test_the_other_nonlinearity_is_torchs() -> None:
    spec = Spec(dtype="float64")
    relu = nn.RNN(10, 20, 2, nonlinearity="relu", dtype=torch.float64)
    relu.load_state_dict(draw_weights(spec))
    given = draw_input(spec)
    with torch.no_grad():
        expected, _ = relu(given.x, given.state[0])
    torch.testing.assert_close(outputs_of(spec, "tanh and relu swapped")[0], expected, rtol=0, atol=1e-14)


def test_lengths_that_are_ignored_are_no_lengths() -> None:
    spec = Spec(lengths=(4, 2, 3), dtype="float64")
    expected = torchs(spec, draw_weights(spec), draw_input(spec))
    for actual, each in zip(outputs_of(spec, "lengths ignored"), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=0, atol=1e-14)


def test_batch_and_time_swapped_is_torch_on_the_transpose() -> None:
    spec = Spec(kind="gru", seq_len=4, batch_size=4, dtype="float64")
    given = draw_input(spec)
    y, h = torchs(spec, draw_weights(spec), Input(given.x.transpose(0, 1), given.state))
    actual = outputs_of(spec, "batch and time swapped")
    torch.testing.assert_close(actual, (y.transpose(0, 1), h), rtol=0, atol=1e-14)


def test_backward_outputs_that_are_not_flipped_back_are_torchs_flipped() -> None:
    spec = Spec(bidirectional=True, num_layers=1, dtype="float64")
    y, h = torchs(spec, draw_weights(spec), draw_input(spec))
    actual = outputs_of(spec, "backward outputs not flipped back")
    torch.testing.assert_close(actual, (torch.cat((y[..., :20], y[..., 20:].flip(0)), -1), h), rtol=0, atol=1e-14)


def test_a_layer_fed_by_the_previous_step_starts_with_h0() -> None:
    spec = Spec(dtype="float64", seq_len=5)
    weights, (x, (h0,)) = draw_weights(spec), (draw_input(spec).x, draw_input(spec).state)
    lower, upper = ({n.replace("l1", "l0"): e for n, e in weights.items() if n.endswith(end)} for end in ("l0", "l1"))
    alone = replace(spec, num_layers=1)
    first, last = torchs(alone, lower, Input(x, (h0[:1],)))
    late = torch.cat((h0[:1], first[:-1]))
    y, top = torchs(replace(alone, input_size=20), upper, Input(late, (h0[1:],)))
    actual = outputs_of(spec, "layer fed by the previous step")
    torch.testing.assert_close(actual, (y, torch.cat((last, top))), rtol=0, atol=1e-14)


Gates = dict[str, Tensor]


def stepped(spec: Spec, step: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """A loop over one layer: the step gets W·x + b by gate, a way to get W·h + b of any h, and h and c."""
    w, given, order = draw_weights(spec), draw_input(spec), GATES[spec.kind]
    h, c = given.state[0][0], given.state[-1][0]

    def of(name: str, tensor: Tensor) -> Gates:
        rows = (tensor @ w[f"weight_{name}_l0"].T + w[f"bias_{name}_l0"]).chunk(len(order), -1)
        return dict(zip(order, rows, strict=True))

    y = []
    for x in given.x:
        h, c = step(of("ih", x), lambda each: of("hh", each), h, c)
        y.append(h)
    return (torch.stack(y), h[None], c[None])[: 3 if spec.kind == "lstm" else 2]


def sigmoid(gate: str, a: Gates, b: Gates) -> Tensor:
    return torch.sigmoid(a[gate] + b[gate])


def lstm_cell(a: Gates, b: Gates, c: Tensor) -> tuple[Tensor, Tensor]:
    """o and c'."""
    c = sigmoid("f", a, b) * c + sigmoid("i", a, b) * torch.tanh(a["g"] + b["g"])
    return sigmoid("o", a, b), c


def without_tanh(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, c = lstm_cell(a, of_h(h), c)
    return o * c, c


def gated_before_tanh(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, c = lstm_cell(a, of_h(h), c)
    return torch.tanh(o * c), c


def lstm_too_early(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, new = lstm_cell(a, of_h(h), c)
    o, new = lstm_cell(a, of_h(o * torch.tanh(new)), c)
    return o * torch.tanh(new), new


def cut(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, c = lstm_cell(a, of_h(h), c)
    return (o * torch.tanh(c))[:, :8], c


def reset_before(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    b = of_h(h)
    z, n = sigmoid("z", a, b), torch.tanh(a["n"] + of_h(sigmoid("r", a, b) * h)["n"])
    return (1 - z) * n + z * h, c


def reset_kept(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    b = of_h(h)
    r, z = sigmoid("r", a, b), sigmoid("z", a, b)
    return (1 - z) * torch.tanh(a["n"] + r * b["n"]) + z * (r * h), c


def bias_not_reset(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    b, bias = of_h(h), of_h(torch.zeros_like(h))["n"]
    r, z = sigmoid("r", a, b), sigmoid("z", a, b)
    return (1 - z) * torch.tanh(a["n"] + bias + r * (b["n"] - bias)) + z * h, c


def lstm_of(
    gates: Callable[[str, Tensor, Tensor], Tensor] = lambda gate, a, c: a.tanh() if gate == "g" else a.sigmoid(),
    cell: Callable[[Tensor], Tensor] = lambda c: c,
    tanh: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A step that makes each gate of its letter, its sum, and of the c that is there when it is made."""

    def step(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        b = of_h(h)
        i, f, g = (gates(gate, a[gate] + b[gate], c) for gate in "ifg")
        c = cell(f * c + i * g)
        return gates("o", a["o"] + b["o"], c) * tanh(c), c

    return step


def more_on(gate: str, number: float) -> Callable[..., tuple[Tensor, Tensor]]:
    def gates(letter: str, a: Tensor, c: Tensor) -> Tensor:
        a = a + number if letter == gate else a
        return a.tanh() if letter == "g" else a.sigmoid()

    return lstm_of(gates)


def coupled(given: str, a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    b = of_h(h)
    i, f = sigmoid("i", a, b), sigmoid("f", a, b)
    i, f = (i, 1 - i) if given == "i" else (1 - f, f)
    c = f * c + i * torch.tanh(a["g"] + b["g"])
    return sigmoid("o", a, b) * torch.tanh(c), c


def normalized(a: Tensor) -> Tensor:
    return (a - a.mean(1, keepdim=True)) / (a.var(1, correction=0, keepdim=True) + 1e-5).sqrt()


def gru_of(
    sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid,
    tanh: Callable[[Tensor], Tensor] = torch.tanh,
    new: Callable[[Tensor], Tensor] = lambda h: h,
) -> Callable[..., tuple[Tensor, Tensor]]:
    def step(a: Gates, of_h: Callable[[Tensor], Gates], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        b = of_h(h)
        r, z = sigmoid(a["r"] + b["r"]), sigmoid(a["z"] + b["z"])
        return new((1 - z) * tanh(a["n"] + r * b["n"]) + z * h), c

    return step


ONE: dict[str, Any] = {"num_layers": 1, "dtype": "float64"}
LSTM, GRU = Spec(kind="lstm", **ONE), Spec(kind="gru", **ONE)


@pytest.mark.parametrize(
    ("spec", "name", "step"),
    [
        (Spec(kind="lstm", **ONE), "tanh missing on the cell state", without_tanh),
        (Spec(kind="lstm", **ONE), "output gate before tanh", gated_before_tanh),
        (Spec(kind="lstm", **ONE), "new hidden used too early", lstm_too_early),
        (Spec(kind="lstm", proj_size=8, **ONE), "projection left out", cut),
        (Spec(kind="gru", **ONE), "reset before the matmul", reset_before),
        (Spec(kind="gru", **ONE), "reset state kept", reset_kept),
        (GRU, "b_hn outside the reset gate", bias_not_reset),
        (LSTM, "forget bias of 2", more_on("f", 2)),
        (LSTM, "bias of 1 on the input gate", more_on("i", 1)),
        (LSTM, "bias of 1 on the cell gate", more_on("g", 1)),
        (LSTM, "bias of 1 on the output gate", more_on("o", 1)),
        (LSTM, "coupled forget gate", partial(coupled, "i")),
        (LSTM, "coupled input gate", partial(coupled, "f")),
        (
            LSTM,
            "peepholes of weight 1",
            lstm_of(lambda gate, a, c: a.tanh() if gate == "g" else (a + c).sigmoid()),
        ),
        (LSTM, "cell state clipped at 1", lstm_of(cell=nn.Hardtanh())),
        (LSTM, "cell state clipped at 3", lstm_of(cell=nn.Hardtanh(-3, 3))),
        (
            LSTM,
            "hard sigmoid",
            lstm_of(lambda gate, a, c: a.tanh() if gate == "g" else nn.functional.hardsigmoid(a)),
        ),
        (
            LSTM,
            "hard sigmoid of Keras 2",
            lstm_of(lambda gate, a, c: a.tanh() if gate == "g" else nn.functional.hardtanh(a / 5 + 0.5, 0, 1)),
        ),
        (
            LSTM,
            "hard tanh",
            lstm_of(lambda gate, a, c: nn.functional.hardtanh(a) if gate == "g" else a.sigmoid(), tanh=nn.Hardtanh()),
        ),
        (
            LSTM,
            "layer norm on the sums",
            lstm_of(lambda gate, a, c: normalized(a).tanh() if gate == "g" else normalized(a).sigmoid()),
        ),
        (LSTM, "layer norm on c", lstm_of(cell=normalized)),
        (GRU, "hard sigmoid", gru_of(sigmoid=nn.Hardsigmoid())),
        (GRU, "hard tanh", gru_of(tanh=nn.Hardtanh())),
        (
            GRU,
            "layer norm on the sums",
            gru_of(lambda a: normalized(a).sigmoid(), lambda a: normalized(a).tanh()),
        ),
        (GRU, "layer norm on h", gru_of(new=normalized)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_deviation_of_the_step_by_hand(spec: Spec, name: str, step: Callable[..., tuple[Tensor, Tensor]]) -> None:
    torch.testing.assert_close(outputs_of(spec, name), stepped(spec, step), rtol=0, atol=1e-14)


def test_gradients_of_a_deviation_belong_to_the_weights_that_were_given() -> None:
    # Rows read in another order are still the rows that were given.
    found = compare(Spec(kind="gru", num_layers=1), right="equations", grad=True, power=True)
    assert found.reasons.power
    assert "gates z r n" in found.reasons.power.caught


# What a comparison can see.


def test_power_sorts_every_deviation_that_applies() -> None:
    found = compare(Spec(kind="lstm", seq_len=1, h0="zeros"), power=True).reasons.power
    assert found
    assert {*found.caught, *found.missed, *found.equivalent} == {
        each.name for each in deviations(Spec(kind="lstm", seq_len=1, h0="zeros"))
    }
    assert {"W_hh transposed", "h0 ignored", "c0 ignored", "forget bias of 1"} <= set(found.missed)
    assert "b_ih and b_hh swapped" in found.equivalent
    assert {"gates i f o g", "b_hh dropped", "tanh missing on the cell state"} <= set(found.caught)


@pytest.mark.parametrize("name", SPECS)
def test_a_default_comparison_misses_nothing_but_what_it_warns_of(name: str) -> None:
    found = compare(SPECS[name], right="equations", power=True).reasons.power
    assert found
    assert list(found.missed) == (["h0 ignored"] if name == "zeros" else [])
    assert set(found.equivalent) <= {"b_ih and b_hh swapped", *LARGE}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("h0", ["random", "zeros"])
@pytest.mark.parametrize(("length", "batch"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_a_missed_deviation_is_warned_of(length: int, batch: int, h0: str, kind: str, bidirectional: bool) -> None:
    spec = Spec(kind=kind, seq_len=length, batch_size=batch, h0=h0, bidirectional=bidirectional)
    found = compare(spec, right="equations", power=True).reasons.power
    assert found
    assert bool(found.missed) is any(blind_spots(spec))


def test_blind_spots_are_told_without_power(cli: Cli) -> None:
    text = " ".join(cli("compare", "--seq-len", "1", "--h0", "zeros").out.split())
    assert "Blind spot: one step from --h0 zeros never uses weight_hh: use --seq-len 2 or more" in text
    assert "Blind spot" not in cli("compare").out


def test_a_tolerance_alone_lets_more_pass() -> None:
    spec = Spec(kind="gru", dtype="bfloat16", hidden_size=64, seq_len=2)
    loose = compare(spec, rtol=0, atol=0.3, reference=False, power=True).reasons.power
    strict = compare(spec, rtol=0, atol=0.3, power=True).reasons.power
    assert loose
    assert strict
    assert "b_ih and b_hh swapped" in strict.caught
    assert "b_ih and b_hh swapped" not in loose.caught
