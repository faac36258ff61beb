"""Runs of the recurrent modules of a live model, kept in a file by `record`, and read again one by one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnscope import RnnscopeError, compare, load, record
from rnnscope.files.recording import MOST, call_in, calls_in
from rnnscope.files.tensors import ABOUT, read_file
from rnnscope.spec.options import Sources


class Translator(nn.Module):
    """An encoder, and a loop over a cell, with what is not recurrent between them; a module that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)})
        self.bridge = nn.Linear(12, 4)
        self.decoder = nn.GRUCell(4, 7)
        self.spare = nn.RNN(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder["rnn"](x)
        h = x.new_ones(len(x), 7)
        for step in self.bridge(y).unbind(1):
            h = self.decoder(step, hx=h)
        return h


@pytest.fixture
def translator() -> Translator:
    torch.manual_seed(0)
    return Translator().eval()


def recorded(model: nn.Module, file: Path, run: Callable[[], Any]) -> Any:
    """What the model gives, and the content of the file."""
    with record(model, str(file)):
        given = run()
    return given, read_file(str(file))


def about(content: Any) -> Any:
    return json.loads(content[ABOUT])


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
def test_every_module_is_kept_under_its_path(translator: Translator, tmp_path: Path, ending: str) -> None:
    x = torch.randn(3, 4, 5)
    last, content = recorded(translator, tmp_path / f"run{ending}", lambda: translator(x))
    calls = calls_in(content)
    assert list(calls) == ["encoder.rnn", "decoder"]
    y, (h, c) = translator.encoder["rnn"](x)
    for name, each in {"x": x, "y": y, "h": h, "c": c}.items():
        assert torch.equal(calls["encoder.rnn"][name], each)
    assert "h0" not in calls["encoder.rnn"]
    decoder = calls["decoder"]
    assert torch.equal(decoder["x"], translator.bridge(y).transpose(0, 1))
    assert torch.equal(decoder["h0"], torch.ones(1, 3, 7))
    assert torch.equal(decoder["h"][0], last)
    assert torch.equal(decoder["y"][-1], last)
    assert torch.equal(decoder["weights.weight_hh_l0"], translator.decoder.weight_hh)
    assert about(content)["not_called"] == ["spare"]


@pytest.mark.parametrize("prefix", ["encoder.rnn", "decoder"])
def test_one_of_several_runs_is_judged(translator: Translator, tmp_path: Path, prefix: str, cli: Cli) -> None:
    file = tmp_path / "run.pt"
    recorded(translator, file, lambda: translator(torch.randn(3, 4, 5)))
    right = f"recorded:{file}"
    document = json.loads(cli("compare", "--left", "equations", "--right", right, "--prefix", prefix, "--json").out)
    assert document["verdict"] in ("identical", "equivalent")
    assert document["recorded"] == "right"
    again = cli(*document["rerun"].split()[1:], "--json")
    assert json.loads(again.out) == document


def test_weights_and_input_of_one_of_several_runs(translator: Translator, tmp_path: Path, cli: Cli) -> None:
    file = str(tmp_path / "run.pt")
    recorded(translator, tmp_path / "run.pt", lambda: translator(torch.randn(3, 4, 5)))
    answer = cli("compare", "--weights", file, "--inputs", file, "--prefix", "decoder", "--json")
    spec = json.loads(answer.out)["spec"]
    assert (answer.code, spec["kind"], spec["seq_len"], spec["batch_size"], spec["h0"]) == (0, "gru", 4, 3, "random")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("", "{file} has 2 runs: 'encoder.rnn', 'decoder'; name one, such as --prefix encoder.rnn"),
        (
            "--prefix decoded",
            "{file} has no run of 'decoded', but of 'encoder.rnn', 'decoder'; did you mean 'decoder'?",
        ),
        ("--right-prefix x", "{file} has no run of 'x', but of 'encoder.rnn', 'decoder'; try 'encoder.rnn'"),
    ],
)
def test_a_run_that_is_not_named_rightly(
    translator: Translator, tmp_path: Path, cli: Cli, flags: str, sentence: str
) -> None:
    file = tmp_path / "run.pt"
    recorded(translator, file, lambda: translator(torch.randn(3, 4, 5)))
    answer = cli("compare", "--right", f"recorded:{file}", *flags.split())
    assert (answer.code, answer.err) == (2, f"rnnscope: {sentence.format(file=file)}\n")


def test_a_file_of_one_run_is_read_as_any_other(tmp_path: Path, cli: Cli) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 4, batch_first=True))
    (y, _), content = recorded(model, tmp_path / "run.pt", lambda: model(torch.randn(5, 6, 2)))
    assert torch.equal(content["y"], y)
    found = compare_right(tmp_path / "run.pt")
    assert (found.spec.kind, found.spec.batch_first, found.exit_code) == ("gru", True, 0)
    assert cli("compare", "--right", f"recorded:{tmp_path / 'run.pt'}", "--prefix", "2").err == (
        f"rnnscope: {tmp_path / 'run.pt'} has no run of '2', but of '1'; try '1'\n"
    )


def compare_right(file: Path, prefix: str | None = None) -> Any:
    right = f"recorded:{file}"
    loaded = load(Sources(prefix=prefix), {}, "equations", right)
    return compare(loaded.spec, "equations", right, loaded=loaded)


def test_a_packed_input_is_padded_in_the_order_in_which_it_came(tmp_path: Path) -> None:
    lstm = nn.LSTM(3, 4, batch_first=True)
    x = torch.randn(3, 5, 3)
    packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), batch_first=True, enforce_sorted=False)
    (y, (h, c)), content = recorded(lstm, tmp_path / "run.pt", lambda: lstm(packed))
    assert content["lengths"].tolist() == [2, 5, 3]
    assert torch.equal(content["x"][0, :2], x[0, :2])
    assert not content["x"][0, 2:].any()
    assert torch.equal(content["y"], pad_packed_sequence(y, batch_first=True)[0])
    assert torch.equal(content["h"], h)
    assert torch.equal(content["c"], c)
    found = compare_right(tmp_path / "run.pt")
    assert (found.spec.lengths, found.exit_code) == ((2, 5, 3), 0)


MODULES = {
    "unbatched": (nn.GRU(3, 4, batch_first=True), (5, 3), (1, 4)),
    "both directions": (nn.RNN(3, 4, nonlinearity="relu", bidirectional=True), (5, 2, 3), (2, 2, 4)),
    "without bias": (nn.GRU(3, 4, bias=False, num_layers=2), (5, 2, 3), (2, 2, 4)),
    "in float64": (nn.GRU(3, 4).double(), (5, 2, 3), (1, 2, 4)),
    "in bfloat16": (nn.GRU(3, 4).bfloat16(), (5, 2, 3), (1, 2, 4)),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_state_is_kept_however_it_is_given(tmp_path: Path, name: str, by_name: bool) -> None:
    module, *shapes = MODULES[name]
    x, hx = (torch.randn(shape, dtype=next(module.parameters()).dtype) for shape in shapes)
    (y, h), content = recorded(
        module, tmp_path / "run.pt", lambda: module(input=x, hx=hx) if by_name else module(x, hx)
    )
    for key, each in {"x": x, "h0": hx, "y": y, "h": h}.items():
        assert torch.equal(content[key], each)
    assert compare_right(tmp_path / "run.pt").exit_code == 0


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection(tmp_path: Path) -> None:
    lstm, x, hx = nn.LSTM(3, 5, proj_size=2), torch.randn(4, 2, 3), (torch.randn(1, 2, 2), torch.randn(1, 2, 5))
    _, content = recorded(lstm, tmp_path / "run.pt", lambda: lstm(x, hx))
    assert torch.equal(content["c0"], hx[1])
    assert content["weights.weight_hr_l0"].shape == (2, 5)
    assert compare_right(tmp_path / "run.pt").exit_code == 0


@pytest.mark.parametrize(
    ("cell", "batch"),
    [(nn.LSTMCell(3, 4), (2,)), (nn.LSTMCell(3, 4), ()), (nn.RNNCell(3, 4, nonlinearity="relu"), (2,))],
)
def test_a_loop_over_a_cell_is_one_run(tmp_path: Path, cell: nn.Module, batch: tuple[int, ...]) -> None:
    x, states = torch.randn(6, *batch, 3), list[Any]()

    def loop() -> None:
        state = None
        for step in x:
            state = cell(step, state)
            states.append(state)

    _, content = recorded(cell, tmp_path / "run.pt", loop)
    ys = [each[0] if isinstance(each, tuple) else each for each in states]
    assert torch.equal(content["x"], x)
    assert torch.equal(content["y"], torch.stack(ys))
    assert torch.equal(content["h"][0], ys[-1])
    assert "h0" not in content
    assert compare_right(tmp_path / "run.pt").exit_code == 0


def test_two_loops_that_take_turns_are_two_runs(tmp_path: Path) -> None:
    cell, xs = nn.GRUCell(3, 4), torch.randn(2, 5, 2, 3)

    def loops() -> Tensor:
        states = [torch.randn(2, 4), torch.randn(2, 4)]
        for step in range(5):
            states = [cell(x[step], state) for x, state in zip(xs, states, strict=True)]
        return torch.stack(states)

    last, content = recorded(nn.ModuleDict({"cell": cell}), tmp_path / "run.pt", loops)
    calls = calls_in(content)
    assert list(calls) == ["cell", "cell#2"]
    for each, x, h in zip(calls.values(), xs, last, strict=True):
        assert torch.equal(each["x"], x)
        assert torch.equal(each["h"][0], h)


def test_a_state_that_is_changed_between_steps_starts_a_new_run(tmp_path: Path) -> None:
    cell, x = nn.GRUCell(3, 4), torch.randn(3, 2, 3)

    def loop() -> None:
        h = cell(x[1], cell(x[0]))
        cell(x[2], 2 * h)

    _, content = recorded(nn.ModuleList([cell]), tmp_path / "run.pt", loop)
    assert [len(each["x"]) for each in calls_in(content).values()] == [2, 1]


def test_calls_are_numbered_and_their_weights_stand_once(tmp_path: Path) -> None:
    model = nn.ModuleDict({"rnn": nn.GRU(3, 4)})
    xs = torch.randn(3, 5, 2, 3)

    def run() -> None:
        for number, x in enumerate(xs):
            model["rnn"](x)
            if number == 1:
                model["rnn"].get_parameter("weight_hh_l0").data.mul_(2)

    _, content = recorded(model, tmp_path / "run.pt", run)
    calls = calls_in(content)
    assert list(calls) == ["rnn", "rnn#2", "rnn#3"]
    assert "rnn#2.weights.weight_hh_l0" not in content
    weights = [each["weights.weight_hh_l0"] for each in calls.values()]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(2 * weights[0], weights[2])
    assert [compare_right(tmp_path / "run.pt", name).exit_code for name in calls] == [0, 0, 0]


def test_the_root_may_be_called_several_times(tmp_path: Path) -> None:
    gru = nn.GRU(3, 4)
    ys, content = recorded(gru, tmp_path / "run.pt", lambda: [gru(x)[0] for x in torch.randn(2, 5, 2, 3)])
    assert [torch.equal(each["y"], y) for each, y in zip(calls_in(content).values(), ys, strict=True)] == [True, True]
    assert compare_right(tmp_path / "run.pt", "#2").exit_code == 0


def test_more_calls_than_are_kept_are_counted(tmp_path: Path) -> None:
    model = nn.ModuleDict({"rnn": nn.GRU(3, 4)})
    _, content = recorded(
        model, tmp_path / "run.pt", lambda: [model["rnn"](torch.ones(1, 1, 3)) for _ in range(MOST + 3)]
    )
    assert len(calls_in(content)) == MOST
    assert about(content)["dropped"] == {"rnn": 3}


class Cells(nn.LSTM):
    """An LSTM of somebody's own that computes by a cell inside."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # type: ignore[override]
        self.cell(input[0])
        return super().forward(input, hx)


def test_of_modules_inside_one_another_the_outermost_is_kept(tmp_path: Path) -> None:
    model = nn.ModuleDict({"own": Cells()})
    _, content = recorded(model, tmp_path / "run.pt", lambda: model["own"](torch.randn(5, 2, 3)))
    assert list(calls_in(content)) == ["own"]


def test_a_compiled_model_has_the_paths_of_the_plain_one(translator: Translator, tmp_path: Path) -> None:
    compiled = nn.ModuleDict({"_orig_mod": translator})  # as torch.compile wraps it
    _, content = recorded(compiled, tmp_path / "run.pt", lambda: translator(torch.randn(3, 4, 5)))
    assert list(calls_in(content)) == ["encoder.rnn", "decoder"]


def test_the_model_stays_as_it_is(translator: Translator, tmp_path: Path) -> None:
    translator.train()
    before = {name: each.clone() for name, each in translator.state_dict().items()}
    x = torch.randn(3, 4, 5, requires_grad=True)
    plain = torch.autograd.grad(translator(x).sum(), x)[0]
    last, _ = recorded(translator, tmp_path / "run.pt", lambda: translator(x))
    assert torch.equal(torch.autograd.grad(last.sum(), x)[0], plain)
    assert all(torch.equal(each, before[name]) for name, each in translator.state_dict().items())
    assert translator.training
    assert all(each.grad is None for each in translator.parameters())
    assert not any(each._forward_hooks for each in translator.modules())


def test_what_is_changed_in_place_afterwards_is_kept_as_it_was(tmp_path: Path) -> None:
    gru, x = nn.GRU(3, 4), torch.ones(2, 1, 3)

    def run() -> None:
        with torch.no_grad():
            y, _ = gru(x)
            y.zero_()
            x.zero_()
            gru.get_parameter("weight_ih_l0").zero_()

    _, content = recorded(gru, tmp_path / "run.pt", run)
    assert all(bool(content[name].any()) for name in ("x", "y", "weights.weight_ih_l0"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_kept_without_autograd(translator: Translator, tmp_path: Path, mode: Callable[[], Any]) -> None:
    with mode():
        recorded(translator, tmp_path / "run.pt", lambda: translator(torch.randn(3, 4, 5)))
    assert compare_right(tmp_path / "run.pt", "decoder").exit_code == 0


def test_weights_are_those_that_computed(tmp_path: Path) -> None:
    gru = nn.utils.parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0")
    with torch.no_grad():
        gru.get_parameter("parametrizations.weight_hh_l0.original0").mul_(3)
    _, content = recorded(gru, tmp_path / "run.pt", lambda: gru(torch.randn(5, 2, 3)))
    assert torch.equal(content["weights.weight_hh_l0"], gru.all_weights[0][1])
    assert compare_right(tmp_path / "run.pt").exit_code == 0


def test_what_another_hook_gives_instead_is_not_kept(tmp_path: Path) -> None:
    gru = nn.GRU(3, 4)
    gru.register_forward_hook(lambda module, args, outputs: (2 * outputs[0], outputs[1]))
    (y, _), content = recorded(gru, tmp_path / "run.pt", lambda: gru(torch.randn(5, 2, 3)))
    assert torch.equal(2 * content["y"], y)


def test_an_error_in_the_block_leaves_no_file_and_no_hook(translator: Translator, tmp_path: Path) -> None:
    translator.bridge.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), record(translator, str(tmp_path / "run.pt")):
        translator(torch.randn(3, 4, 5))
    assert list(tmp_path.iterdir()) == []
    assert not any(each._forward_hooks for each in (translator.encoder["rnn"], translator.decoder, translator.spare))


def test_a_file_that_is_there_is_refused_before_the_model_runs(translator: Translator, tmp_path: Path) -> None:
    file, runs = tmp_path / "run.pt", []
    file.write_text("mine")
    with pytest.raises(RnnscopeError, match="is there already"), record(translator, str(file)):
        runs.append(1)
    assert (runs, file.read_text()) == ([], "mine")
    with record(translator, str(file), force=True):
        translator(torch.randn(3, 4, 5))
    assert list(calls_in(read_file(str(file)))) == ["encoder.rnn", "decoder"]


def test_a_model_without_recurrent_modules(tmp_path: Path) -> None:
    with (
        pytest.raises(RnnscopeError, match="Linear has no recurrent module of torch's to record"),
        record(nn.Linear(2, 2), str(tmp_path / "run.pt")),
    ):
        raise AssertionError("the block was entered")


def test_modules_that_nobody_called_are_named(translator: Translator, tmp_path: Path) -> None:
    sentence = "Translator: none of its recurrent modules was called: 'encoder.rnn', 'decoder', 'spare'"
    with pytest.raises(RnnscopeError, match=sentence), record(translator, str(tmp_path / "run.pt")):
        pass
    assert list(tmp_path.iterdir()) == []


class LastAlone(nn.GRU):
    """It gives no y."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input, hx)[1]


def test_a_call_that_is_not_as_torchs_is_left_out_and_told(tmp_path: Path) -> None:
    model = nn.ModuleDict({"own": LastAlone(3, 4), "rnn": nn.GRU(3, 4)})

    def run() -> None:
        for each in model.values():
            each(torch.randn(5, 2, 3))

    _, content = recorded(model, tmp_path / "run.pt", run)
    assert list(calls_in(content)) == ["rnn"]
    assert about(content)["left_out"] == {"own": "it does not give (y, h) or (y, (h, c))"}


def test_random_masks_are_refused_when_a_run_is_judged(tmp_path: Path, cli: Cli) -> None:
    model = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    recorded(model, tmp_path / "run.pt", lambda: model(torch.randn(5, 2, 3)))
    answer = cli("compare", "--right", f"recorded:{tmp_path / 'run.pt'}")
    assert (answer.code, answer.err) == (
        2,
        f"rnnscope: {tmp_path / 'run.pt'} was recorded in training mode, with random masks of dropout 0.5; "
        "record it in evaluation mode: model.eval()\n",
    )


def test_autocast_is_told(tmp_path: Path) -> None:
    gru = nn.GRU(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        (y, _), content = recorded(gru, tmp_path / "run.pt", lambda: gru(torch.randn(5, 2, 3)))
    assert about(content)["autocast"] == "bfloat16"
    assert content["y"].dtype == y.dtype


def test_a_run_without_a_path_is_taken_under_any_prefix() -> None:
    content = {"x": torch.zeros(3, 1, 2)}
    assert call_in("run.pt", content, "encoder", "--prefix") is content
