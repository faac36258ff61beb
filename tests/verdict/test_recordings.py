"""Two files of recorded runs, module by module: which module is the first that differs, and why."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Cli
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnnscope import RnnscopeError, Spec, assert_equivalent, compare, record
from rnnscope.files.tensors import read_file
from rnnscope.pages.render import render
from rnnscope.verdict.modules import ComparedRuns

pytestmark = pytest.mark.usefixtures("single_deviations")


class Translator(nn.Module):
    """An encoder, what is not recurrent, and a loop over a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(5, 6, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(12, 4)
        self.decoder = nn.GRUCell(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder(x)
        h = x.new_zeros(len(x), 7)
        for step in self.bridge(y).unbind(1):
            h = self.decoder(step, h)
        return h


@pytest.fixture
def model() -> Translator:
    torch.manual_seed(0)
    return Translator().eval()


X = torch.linspace(-1, 1, 60).sin().view(3, 4, 5)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Translator) -> Callable[[Callable[[], Any]], None]:
    """Record the model as it is in a.pt, and once more in b.pt after a change."""
    monkeypatch.chdir(tmp_path)

    def written(change: Callable[[], Any]) -> None:
        with torch.no_grad():
            for file in ("a.pt", "b.pt"):
                with record(model, file):
                    model(X)
                if file == "a.pt":
                    change()

    return written


def edited(file: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a file holds."""
    content = read_file(file)
    change(content)
    torch.save(content, file)


def verdicts(found: ComparedRuns) -> list[tuple[str, str, str | None]]:
    return [(each.path, each.verdict, each.cause) for each in found.modules]


def words(found: ComparedRuns) -> str:
    return " ".join(render(found, "table", io.StringIO()).split())


def test_two_runs_that_are_the_same(files: Any) -> None:
    files(lambda: None)
    found = compare("a.pt", "b.pt")
    assert (found.verdict, found.exit_code, found.first) == ("identical", 0, None)
    assert verdicts(found) == [("encoder", "identical", None), ("decoder", "identical", None)]
    assert [each.input_max_abs for each in found.modules] == [0.0, 0.0]


def rounded(content: dict[str, Any]) -> None:
    """What another order of sums would give: the encoder a rounding away, and the decoder run again on that."""
    eps = torch.finfo(torch.float32).eps
    for name in ("y", "h", "c"):
        content[f"encoder.{name}"] = content[f"encoder.{name}"] * (1 + eps)
    content["decoder.x"] = content["decoder.x"] * (1 + 4 * eps)


def test_rounding_is_told_and_where_it_begins(files: Any) -> None:
    files(lambda: None)
    edited("b.pt", rounded)
    found = compare("a.pt", "b.pt")
    assert (found.verdict, found.exit_code) == ("equivalent", 0)
    assert verdicts(found) == [("encoder", "equivalent", "rounding"), ("decoder", "equivalent", "rounding")]
    encoder, decoder = found.modules
    assert found.first is encoder
    assert encoder.function is not None
    assert 0 < (encoder.output_max_abs or 0) <= encoder.function.worst.bound < 1e-5
    assert decoder.function is None
    assert 0 < decoder.input_share <= decoder.input_allowed
    assert "They part in: encoder: the same weights and input" in words(found)
    assert "by rounding, which explains" in words(found)


def test_a_weight_that_was_changed_is_named(files: Any, model: Translator) -> None:
    files(lambda: model.decoder.weight_hh[3, 2].add_(1e-3))
    found = compare("a.pt", "b.pt")
    assert (found.verdict, found.exit_code) == ("different", 1)
    assert verdicts(found) == [("encoder", "identical", None), ("decoder", "different", "weights")]
    decoder = found.modules[1]
    assert [(each.name, each.worst_index) for each in decoder.weights] == [("weight_hh_l0", (3, 2))]
    assert decoder.weights[0].max_abs == pytest.approx(1e-3, rel=1e-3)
    assert [each.verdict for each in decoder.runs] == ["equivalent"] * 2 or "identical" in decoder.left.verdict
    assert found.first is decoder
    assert "its weights differ (weight_hh_l0 by 0.001)" in words(found)


def test_what_is_not_recorded_is_where_inputs_part(files: Any, model: Translator) -> None:
    files(lambda: model.bridge.weight.mul_(1.5))
    found = compare("a.pt", "b.pt")
    assert verdicts(found) == [("encoder", "identical", None), ("decoder", "different", "input")]
    assert found.first is None
    assert found.first_different is found.modules[1]
    assert "Look at what comes between it and the modules before, which is not recorded" in words(found)


@pytest.mark.parametrize(("x", "how"), [(X + 1, "is 1 apart"), (X[:2], "has other shapes")])
def test_another_batch_is_another_input(files: Any, model: Translator, x: Tensor, how: str) -> None:
    files(lambda: None)
    with record(model, "c.pt"):
        model(x)
    found = compare("a.pt", "c.pt")
    assert {each.cause for each in found.modules} == {"input"}
    assert f"encoder is the first module that differs: its input {how}" in words(found)


def test_a_run_that_is_wrong_by_itself_is_named_with_its_file(files: Any) -> None:
    files(lambda: None)

    def wrong(content: dict[str, Any]) -> None:
        content["decoder.y"][2, 1, 3] += 0.1

    edited("b.pt", wrong)
    found = compare("a.pt", "b.pt")
    assert verdicts(found) == [("encoder", "identical", None), ("decoder", "different", "function")]
    (off,) = found.modules[1].off
    assert off.file == "b.pt"
    assert off.comparison is not None
    assert off.comparison.first_divergence is not None
    assert off.comparison.first_divergence.step == 2
    assert "in b.pt it is not what torch's equations give of its own weights and input: y is 0.1 apart" in words(found)


class Iofg(nn.LSTM):
    """Takes the gates in another order than its weights have them."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        for each in self.parameters():
            i, f, g, o = each.data.chunk(4)
            each.data = torch.cat((i, f, o, g))
        found = super().forward(input, hx)
        for each in self.parameters():
            i, f, o, g = each.data.chunk(4)
            each.data = torch.cat((i, f, g, o))
        return found


def test_a_deviation_of_one_run_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    right, wrong = nn.LSTM(3, 4), Iofg(3, 4)
    wrong.load_state_dict(right.state_dict())
    left_file, right_file = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
    for module, file in ((right, left_file), (wrong, right_file)):
        with record(module, file):
            module(torch.linspace(-2, 2, 30).view(5, 2, 3))
    found = compare(left_file, right_file)
    (pair,) = found.modules
    assert (found.verdict, pair.cause) == ("different", "function")
    assert pair.off == (pair.right,)
    assert [each["convention"] for each in pair.right.facts()["explanations"]] == ["gates i f o g"]
    assert "gates-i-f-o-g" in words(found)
    same = compare(right_file, right_file)  # a class of somebody's own is no fault where both do the same
    assert (same.verdict, same.exit_code) == ("identical", 0)


def test_nan_is_found_where_it_comes_out(files: Any) -> None:
    files(lambda: None)

    def broken(content: dict[str, Any]) -> None:
        content["encoder.y"][1, 2, 3] = torch.nan
        content["decoder.x"][2] = torch.nan
        content["decoder.y"][2:] = torch.nan
        content["decoder.h"][:] = torch.nan

    edited("b.pt", broken)
    found = compare("a.pt", "b.pt")
    assert verdicts(found) == [("encoder", "different", "nonfinite"), ("decoder", "different", "input")]
    assert "NaN or infinity comes out in b.pt, of an input that is finite" in words(found)


def test_random_masks_leave_it_undecided(tmp_path: Path) -> None:
    model, files = nn.GRU(3, 4, num_layers=2, dropout=0.5), [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    for file in files:
        with record(model, file):
            model(torch.ones(5, 2, 3))
    found = compare(*files)
    assert (found.verdict, found.exit_code, found.modules[0].cause) == ("undecided", 2, "dropout")
    assert "random masks of dropout are in its output" in words(found)
    assert compare(files[0], files[0]).verdict == "identical"


def test_other_sizes(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    for file, model in zip(files, (nn.GRU(3, 4), nn.GRU(3, 5)), strict=True):
        with record(model, file):
            model(torch.ones(5, 2, 3))
    found = compare(*files)
    assert (found.verdict, found.modules[0].cause, found.modules[0].input_max_abs) == ("different", "network", None)
    assert "it is GRU 3→4 in" in words(found) or "it is GRU 3>4 in" in words(found)


def test_a_module_beside_a_loop_over_its_cell_in_another_layout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    gru, cell, x = nn.GRU(3, 4, batch_first=True), nn.GRUCell(3, 4), torch.randn(2, 5, 3)
    cell.load_state_dict({name.removesuffix("_l0"): each for name, each in gru.state_dict().items()})
    files = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    with record(gru, files[0]):
        gru(x)
    with record(cell, files[1]):
        h = None
        for step in x.unbind(1):
            h = cell(step, h)
    found = compare(*files)
    assert found.verdict in ("identical", "equivalent")
    assert found.modules[0].same_input


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_same_network_in_another_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gru, x, files = nn.GRU(3, 4), torch.randn(5, 2, 3), [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    for file, each in zip(files, (torch.float32, dtype), strict=True):
        with record(gru.to(each), file):
            gru(x.to(each))
    found = compare(*files)
    assert (found.verdict, found.modules[0].weights) == ("equivalent", ())


def test_packed_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    gru, x, files = nn.GRU(3, 4, bidirectional=True), torch.randn(5, 2, 3), [str(tmp_path / f"{n}.pt") for n in "abc"]
    for file, lengths in zip(files, ([5, 3], [5, 3], [5, 4]), strict=True):
        with record(gru, file):
            gru(pack_padded_sequence(x, lengths))
    assert compare(*files[:2]).verdict == "identical"
    other = compare(files[0], files[2]).modules[0]
    assert (other.verdict, other.cause, other.same_input) == ("different", "input", False)


def test_a_run_that_one_file_has_alone(files: Any, model: Translator) -> None:
    files(lambda: None)
    with record(model, "c.pt"):
        model(X)
        model(X)
    found = compare("a.pt", "c.pt")
    assert (found.verdict, found.only_left, found.only_right) == ("different", (), ("encoder#2", "decoder#2"))
    assert "c.pt alone, and not a.pt, has encoder#2, decoder#2." in words(found)
    named = compare("a.pt", "c.pt", prefix="encoder", right_prefix="encoder#2")
    assert [each.path for each in named.modules] == ["encoder"]
    assert named.verdict == "identical"


def test_files_of_single_networks(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.pt", "b.safetensors")]
    for file, subject in zip(files, ("module", "equations"), strict=True):
        compare(Spec(kind="lstm"), subject, "cells", record=file)
    found = compare(*files)
    assert (found.verdict, [each.path for each in found.modules]) == ("equivalent", [""])


def test_chaos_is_undecided(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lstm, x, files = nn.LSTM(8, 64), torch.randn(300, 1, 8), [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    for each in lstm.parameters():
        each.data *= 10
    for file in files:
        with record(lstm, file):
            lstm(x)
    edited(files[1], lambda content: content["y"].mul_(1 + 2.0**-23))
    found = compare(*files)
    assert (found.verdict, found.exit_code) == ("undecided", 2)
    assert "rounding alone may move its output too far" in words(found)


def test_the_command_line_gives_the_same(files: Any, cli: Cli) -> None:
    files(lambda: None)
    edited("b.pt", rounded)
    line = ("compare", "--left", "recorded:a.pt", "--right", "recorded:b.pt")
    answer = cli(*line, "--json")
    document = json.loads(answer.out)
    assert answer.code == 0
    assert (document["schema"], document["command"]) == (1, "compare")
    assert (document["left"], document["right"]) == ("recorded:a.pt", "recorded:b.pt")
    assert (document["verdict"], document["first"], document["first_different"]) == ("equivalent", "encoder", None)
    encoder = document["modules"][0]
    assert (encoder["path"], encoder["verdict"], encoder["cause"]) == ("encoder", "equivalent", "rounding")
    assert (encoder["input_max_abs"], encoder["weights_differ"]) == (0.0, False)
    assert encoder["left"]["verdict"] in ("identical", "equivalent")
    assert encoder["right"]["max_abs"] <= encoder["right"]["bound"]
    assert cli(*document["rerun"].split()[1:], "--json").out == answer.out
    rows = cli(*line, "--format", "tsv").out.splitlines()
    assert rows[0].split("\t")[:3] == ["path", "verdict", "cause"]
    assert [row.split("\t")[0] for row in rows[1:]] == ["encoder", "decoder"]
    alone = json.loads(cli(*line, "--prefix", "decoder", "--json").out)
    assert [each["path"] for each in alone["modules"]] == ["decoder"]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_80_columns_hold(tmp_path: Path, cli: Cli) -> None:
    layer: nn.Module = nn.LSTM(123, 456, num_layers=3, bidirectional=True, proj_size=12, bias=False)
    for name in ("transformer", "a_rather_long_name_of_a_block", "layers", "recurrent"):
        layer = nn.ModuleDict({name: layer})
    rnn = next(each for each in layer.modules() if isinstance(each, nn.LSTM))
    files = [str(tmp_path / f"{'a_long_name_of_a_file_' * 3}{each}.pt") for each in "ab"]
    for file, x in zip(files, (torch.ones(2, 1, 123), torch.zeros(2, 1, 123)), strict=True):
        with record(layer, file):
            rnn(x)
    answer = cli("compare", "--left", f"recorded:{files[0]}", "--right", f"recorded:{files[1]}")
    assert answer.code == 1
    lines = [line for line in answer.out.splitlines() if not line.startswith(("Rerun: ", "More: "))]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--kind lstm", "--kind says nothing of two recorded runs, which are compared as they are; leave it out"),
        ("--weights a.pt", "--weights says nothing of two recorded runs, which are compared as they are; leave it out"),
        ("--record c.pt", "--record says nothing of two recorded runs, which are compared as they are; leave it out"),
        ("--grad", "--grad says nothing of two recorded runs, which are compared as they are; leave it out"),
        ("--prefix decode", "a.pt has no run of 'decode', but of 'encoder', 'decoder'; did you mean 'decoder'?"),
    ],
)
def test_what_two_recorded_runs_leave_no_room_for(files: Any, cli: Cli, flags: str, sentence: str) -> None:
    files(lambda: None)
    answer = cli("compare", "--left", "recorded:a.pt", "--right", "recorded:b.pt", *flags.split())
    assert (answer.code, answer.out, answer.err) == (2, "", f"rnnscope: {sentence}\n")


def test_a_question_that_cannot_be_asked_of_files(files: Any, tmp_path: Path) -> None:
    files(lambda: None)
    with pytest.raises(RnnscopeError, match="--rtol says nothing of two recorded runs"):
        compare("a.pt", "b.pt", rtol=0, atol=0)  # type: ignore[call-overload]
    assert compare(tmp_path / "a.pt", tmp_path / "b.pt").verdict == "identical"


def test_two_files_are_asserted_to_be_equivalent(files: Any, model: Translator) -> None:
    files(lambda: model.decoder.weight_hh.mul_(1.1))
    assert assert_equivalent("a.pt", "a.pt").exit_code == 0
    with pytest.raises(AssertionError, match="decoder is the first module that differs: its weights differ"):
        assert_equivalent("a.pt", "b.pt")


def test_files_that_have_no_run_in_common(files: Any) -> None:
    files(lambda: None)
    other = nn.ModuleDict({"x": nn.GRU(3, 4), "y": nn.GRU(3, 4)})
    with record(other, "c.pt"):
        for each in other.values():
            each(torch.ones(2, 1, 3))
    with pytest.raises(RnnscopeError, match=r"a\.pt and c\.pt have no run of one name in common"):
        compare("a.pt", "c.pt")


def test_a_run_without_its_input(tmp_path: Path, files: Any) -> None:
    files(lambda: None)
    torch.save({"y": torch.ones(2, 1, 4), "h": torch.ones(1, 1, 4), **nn.GRU(3, 4).state_dict()}, "c.pt")
    with pytest.raises(RnnscopeError, match=r"c\.pt has no x; each run needs x and its weights"):
        compare("c.pt", "c.pt")


def test_calls_that_a_file_has_not_are_told(tmp_path: Path) -> None:
    model, file = nn.ModuleDict({"rnn": nn.GRU(1, 1)}), str(tmp_path / "a.pt")
    with record(model, file):
        for x in torch.ones(34, 1, 1, 1):
            model["rnn"](x)
    found = compare(file, file, prefix="rnn")
    assert found.notes == (f"{file} keeps the first 32 calls of rnn, and not 2 more",)
