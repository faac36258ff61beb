"""The subject `quantized`: torch's dynamic int8 of the module, and what it does not take."""

import json
import warnings
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope import Spec
from rnnscope.errors import RnnscopeError
from rnnscope.network.weights import Input, Weights, draw_input, draw_weights
from rnnscope.subjects.builtin import Run, build_module, prepare_quantized

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True, "batch_first": True},
    {"lengths": (2, 4, 1)},
    {"lengths": (2, 4, 1), "batch_first": True, "bidirectional": True},
    {"num_layers": 3, "h0": "zeros"},
]


def quantized(spec: Spec, weights: Weights, given: Input) -> Run:
    with torch.no_grad():
        return prepare_quantized(spec, weights, given).run()


def by_hand(spec: Spec, weights: Weights, given: Input) -> Tensor:
    """y of torch's module in a model, as torch's tutorial quantizes it."""
    model = nn.Sequential(build_module(spec))
    model[0].load_state_dict(weights)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = quantize(model.eval(), {nn.LSTM, nn.GRU}, dtype=torch.qint8)[0]
    x: Any = given.x
    if spec.lengths:
        x = pack_padded_sequence(x, torch.tensor(spec.lengths), spec.batch_first, enforce_sorted=False)
    with torch.no_grad():
        y = module(x, given.state if spec.kind == "lstm" else given.state[0])[0]
    found: Tensor = pad_packed_sequence(y, spec.batch_first)[0] if spec.lengths else y
    return found


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_it_is_what_torch_makes_of_the_module(kind: str, layout: dict[str, Any]) -> None:
    spec = Spec(kind=kind, **layout)
    weights, given = draw_weights(spec), draw_input(spec)
    assert quantized(spec, weights, given).y.equal(by_hand(spec, weights, given))


def test_a_step_of_one_unit_worked_by_hand() -> None:
    # The steps of W_ih are 1/127.5, so that 1, .5, -.25 and .75 become 127, 64, -32 and 96 of them. x = 0.4 is the end
    # of its own range, and so exact. i = σ(.4·127/127.5), f = σ(.4·64/127.5), g = tanh(-.4·32/127.5),
    # o = σ(.4·96/127.5); c = f·0.5 + i·g, h = o·tanh(c). Without quantization c is 0.215247 and h is 0.121772.
    spec = Spec(kind="lstm", input_size=1, hidden_size=1, num_layers=1, seq_len=1, batch_size=1)
    column = torch.tensor([[1.0], [0.5], [-0.25], [0.75]])
    weights = {
        "weight_ih_l0": column,
        "weight_hh_l0": column,
        "bias_ih_l0": torch.zeros(4),
        "bias_hh_l0": torch.zeros(4),
    }
    given = Input(torch.full((1, 1, 1), 0.4), (torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5)))
    run = quantized(spec, weights, given)
    found = [float(run.state[1]), float(run.state[0])]
    assert found == pytest.approx([0.2151493, 0.1217795], abs=2e-7)


REFUSED = [
    ("--kind rnn", "nn.RNN", "use --kind lstm"),
    ("--kind lstm --no-bias", "--no-bias", "leave --no-bias out"),
    ("--kind lstm --proj-size 4", "--proj-size 4", "leave --proj-size out"),
    ("--kind gru --unbatched", "--unbatched", "use --batch 1"),
    ("--kind gru --dtype bfloat16", "--dtype bfloat16", "use --right quantized@cpu/float32"),
    ("--kind gru --train --dropout 1", "--train with dropout 1", "leave --train out"),
    ("--kind gru --grad", "gives no gradients for --grad", "leave --grad out"),
]


@pytest.mark.parametrize(("flags", "what", "mend"), REFUSED)
def test_what_torchs_does_not_take_is_refused_in_a_sentence(cli: Cli, flags: str, what: str, mend: str) -> None:
    answer = cli("compare", "--right", "quantized", *flags.split())
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert answer.err.startswith("rnnscope: --right quantized ")
    assert what in answer.err
    assert answer.err.rstrip().endswith(mend)


def test_another_device_is_refused(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--left", "quantized@cuda")
    assert "--left quantized@cuda cannot do --device cuda: torch's runs on the CPU" in answer.err
    assert "quantized@cpu" in answer.err


def test_it_stands_beside_a_side_in_float64(cli: Cli) -> None:
    words = ("--kind", "gru", "--dtype", "float64", "--right", "quantized@cpu/float32")
    assert cli("compare", *words).code == 0


def test_no_gradients_come_through_it() -> None:
    spec = Spec(kind="gru")
    with pytest.raises(RnnscopeError, match="quantized gives no gradients"), torch.enable_grad():
        prepare_quantized(spec, draw_weights(spec), draw_input(spec))


def test_torchs_warnings_stay_off_stderr(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", "quantized")
    assert (answer.code, answer.err) == (0, "")


def test_the_page_says_how_it_was_made(cli: Cli) -> None:
    document = json.loads(cli("compare", "--kind", "lstm", "--right", "quantized", "--json").out)
    engine = torch.backends.quantized.engine
    made = f"quantized by torch.ao.quantization.quantize_dynamic, engine {engine}"
    assert document["adaptations"] == {"right": [made]}


@pytest.mark.parametrize(("kind", "message"), [("gru", None), ("rnn", "torch has one of nn.LSTM and nn.GRU alone")])
def test_it_is_timed_where_torch_has_it(cli: Cli, kind: str, message: str | None) -> None:
    words = ("--kind", kind, "--subjects", "module,quantized", "--min-time", "0.01", "--json")
    row = json.loads(cli("bench", *words).out)["rows"][1]
    assert row["subject"] == "quantized"
    assert (message or "") in (row["message"] or "")
    assert (row["median_s"] is None) == (message is not None)
