"""Weights, input and outputs from files: recorded runs, two sets of weights, and flags that contradict a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support import OWN, Cli
from torch import nn

from rnnscope import Comparison, Spec, StackedCells, compare, load
from rnnscope.files.loading import recording
from rnnscope.files.tensors import read_file
from rnnscope.spec.options import Sources
from rnnscope.verdict.page import verdict_in_words


def compared(
    sources: Sources, flags: dict[str, Any], left: str = "module", right: str = "cells", **question: Any
) -> Comparison:
    loaded = load(sources, flags, left, right)
    return compare(loaded.spec, left, right, loaded=loaded, **question)


@pytest.fixture
def gru(tmp_path: Path) -> tuple[nn.GRU, str]:
    torch.manual_seed(0)
    module = nn.GRU(3, 4, num_layers=2)
    file = str(tmp_path / "gru.pt")
    torch.save({"epoch": 1, "state_dict": module.state_dict()}, file)
    return module, file


def test_the_network_comes_from_the_file(gru: tuple[nn.GRU, str], cli: Cli) -> None:
    document = json.loads(cli("compare", "--weights", gru[1], "--json").out)
    spec = document["spec"]
    assert (spec["kind"], spec["input_size"], spec["hidden_size"], spec["num_layers"]) == ("gru", 3, 4, 2)
    assert document["verdict"] in ("identical", "equivalent")
    assert document["sources"]["weights"] == gru[1]
    assert cli(*document["rerun"].split()[1:], "--json").out == json.dumps(document, indent=2) + "\n"


def test_the_comparison_runs_on_the_trained_weights(gru: tuple[nn.GRU, str], tmp_path: Path) -> None:
    module, file = gru
    out = str(tmp_path / "run.pt")
    loaded = load(Sources(weights=file), {})
    compare(loaded.spec, loaded=loaded, record=out)
    run = read_file(out)
    y, h = module(run["x"], run["h0"])
    assert torch.equal(run["y"], y)
    assert torch.equal(run["h"], h)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--kind lstm", "--kind lstm contradicts {file}, which has --kind gru; leave --kind out"),
        ("--hidden-size 5", "--hidden-size 5 contradicts {file}, which has --hidden-size 4; leave --hidden-size out"),
        ("--layers 1", "--layers 1 contradicts {file}, which has --layers 2; leave --layers out"),
        ("--no-bias", "--no-bias contradicts {file}, which has bias; leave --bias out"),
        (
            "--bidirectional",
            "--bidirectional contradicts {file}, which has no bidirectional; leave --bidirectional out",
        ),
    ],
)
@pytest.mark.parametrize("command", ["shapes", "compare"])
def test_a_flag_that_contradicts_the_file_is_refused(
    gru: tuple[nn.GRU, str], cli: Cli, command: str, flags: str, sentence: str
) -> None:
    answer = cli(command, "--weights", gru[1], *flags.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {sentence.format(file=gru[1])}")


@pytest.mark.parametrize("flags", ["--kind gru", "--hidden-size 4", "--bias", "--dtype float64", "--batch-first"])
def test_a_flag_that_agrees_or_says_what_is_not_recorded_is_taken(
    gru: tuple[nn.GRU, str], cli: Cli, flags: str
) -> None:
    assert cli("compare", "--weights", gru[1], "-q", *flags.split()).code == 0


def test_a_prefix_without_its_file(cli: Cli) -> None:
    assert cli("compare", "--prefix", "a").err == (
        "rnnscope: --prefix is given without --weights; add --weights FILE\n"
    )


def test_half_precision_weights_run_in_their_dtype(tmp_path: Path) -> None:
    file = str(tmp_path / "a.pt")
    torch.save(nn.LSTM(3, 4).bfloat16().state_dict(), file)
    assert compared(Sources(weights=file), {}).spec.dtype == "bfloat16"
    assert compared(Sources(weights=file), {"dtype": "float32"}).spec.dtype == "float32"


def test_two_sets_of_weights_that_differ_are_said(gru: tuple[nn.GRU, str], tmp_path: Path, cli: Cli) -> None:
    module, file = gru
    module.state_dict()["weight_hh_l1"][5, 2] += 1e-3
    other = str(tmp_path / "other.pt")
    torch.save({"net": nn.ModuleDict({"rnn": module}).state_dict()}, other)
    found = compared(Sources(weights=file, right_weights=other), {})
    assert (found.verdict, found.cause, found.side) == ("different", "function", None)
    (row,) = found.weights
    assert (row.name, row.worst_index) == ("weight_hh_l1", (5, 2))
    assert row.max_abs == pytest.approx(1e-3, rel=1e-3)
    out = " ".join(cli("compare", "--weights", file, "--right-weights", other, "--right-prefix", "rnn").out.split())
    assert "It is the weights: both sides compute what torch's equations say of their own." in out
    assert "Why:" not in out


def test_the_same_weights_in_another_form_are_the_same(gru: tuple[nn.GRU, str], tmp_path: Path) -> None:
    module, file = gru
    other = str(tmp_path / "cells.safetensors")
    from safetensors.torch import save_file

    save_file(StackedCells.from_module(module).state_dict(), other)
    found = compared(Sources(weights=file, right_weights=other), {})
    assert found.weights == ()
    assert found.exit_code == 0


def test_weights_that_differ_without_consequence_are_still_said(tmp_path: Path) -> None:
    """Ports from frameworks with one bias put it all into b_ih."""
    module = nn.LSTM(3, 4)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    state = module.double().state_dict()
    state["bias_ih_l0"] += state["bias_hh_l0"]
    state["bias_hh_l0"] *= 0
    torch.save(state, tmp_path / "b.pt")
    sources = Sources(weights=str(tmp_path / "a.pt"), right_weights=str(tmp_path / "b.pt"))
    found = compared(sources, {"dtype": "float64"})
    assert {row.name for row in found.weights} == {"bias_ih_l0", "bias_hh_l0"}
    assert (found.verdict, found.cause) == ("equivalent", "rounding")
    assert "though their weights differ" in verdict_in_words(found)


def test_a_convention_is_found_with_weights_of_ones_own(gru: tuple[nn.GRU, str], tmp_path: Path) -> None:
    other = str(tmp_path / "other.pt")
    torch.save(nn.GRU(3, 4, num_layers=2).state_dict(), other)
    own = f"{OWN}:ResetBefore"
    found = compared(Sources(weights=gru[1], right_weights=other), {}, right=own)
    assert found.side == "right"
    assert [each.convention for each in found.explanations] == ["reset before the matmul"]


def test_other_sizes_on_the_right_are_refused(gru: tuple[nn.GRU, str], tmp_path: Path, cli: Cli) -> None:
    other = str(tmp_path / "other.pt")
    torch.save(nn.GRU(3, 5, num_layers=2).state_dict(), other)
    assert cli("compare", "--weights", gru[1], "--right-weights", other).err == (
        f"rnnscope: --right-weights {other} has --hidden-size 5, and the left side has 4; "
        "compare networks of one kind and size\n"
    )


SPECS = {
    "lstm": Spec(kind="lstm"),
    "batch-first": Spec(kind="gru", batch_first=True, bidirectional=True),
    "lengths": Spec(kind="lstm", lengths=(4, 1, 3), batch_first=True),
    "unbatched": Spec(unbatched=True, nonlinearity="relu"),
    "projection": Spec(kind="lstm", proj_size=3, h0="zeros"),
    "bfloat16": Spec(kind="gru", dtype="bfloat16"),
}


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("name", SPECS)
def test_a_recorded_run_says_all_that_is_needed_to_compare_with_it(name: str, ending: str, tmp_path: Path) -> None:
    if (name, ending) == ("bfloat16", ".npz"):
        pytest.skip("NumPy knows no bfloat16")
    file = str(tmp_path / f"run{ending}")
    right = "equations" if SPECS[name].proj_size else "cells"
    compare(SPECS[name], "module", right, record=file)
    found = compared(Sources(), {}, right=f"recorded:{file}")
    assert found.verdict == "identical"
    assert found.sides.recorded == "right"
    for each in ("kind", "num_layers", "batch_first", "bidirectional", "lengths", "nonlinearity", "dtype", "unbatched"):
        assert (each, getattr(found.spec, each)) == (each, getattr(SPECS[name], each))


def foreign(tmp_path: Path, change: Callable[[dict[str, Any]], None], dtype: Any = numpy.float32) -> str:
    """A run of torch's module, written as another framework would write it."""
    torch.manual_seed(1)
    module = nn.LSTM(3, 4, num_layers=2).double()
    x, state = torch.randn(5, 2, 3).double(), (torch.randn(2, 2, 4).double(), torch.randn(2, 2, 4).double())
    with torch.no_grad():
        y, (h, c) = module(x, state)
    arrays = {"x": x, "h0": state[0], "c0": state[1], "y": y, "h": h, "c": c, **module.state_dict()}
    run = {name: each.numpy().astype(dtype) for name, each in arrays.items()}
    change(run)
    file = tmp_path / "run.npz"
    numpy.savez(file, **run)
    return str(file)


def test_a_run_of_another_framework(tmp_path: Path) -> None:
    found = compared(Sources(), {}, right=f"recorded:{foreign(tmp_path, lambda run: None)}")
    assert (found.verdict, found.spec.kind) == ("equivalent", "lstm")
    assert found.reference is not None
    assert found.reference.function.arithmetic == "float32"


def test_a_wrong_recording_is_another_function_and_its_precision_is_left_open(tmp_path: Path, cli: Cli) -> None:
    def wrong(run: dict[str, Any]) -> None:
        run["y"][2, 1, 3] += 0.1

    file = foreign(tmp_path, wrong)
    found = compared(Sources(), {}, right=f"recorded:{file}")
    assert (found.cause, found.side) == ("function", "right")
    place = found.first_divergence
    assert place is not None
    assert (place.step, place.batch, place.unit) == (2, 1, 3)
    out = " ".join(cli("compare", "--right", f"recorded:{file}").out.split())
    assert "A recorded run has no float64, so that it may be worse precision too." in out


def test_a_convention_of_a_recording_is_found(tmp_path: Path) -> None:
    def all_rows(run: dict[str, Any]) -> None:
        for name in [name for name in run if "_l" in name]:
            i, f, g, o = numpy.split(run[name], 4)
            run[name] = numpy.concatenate([i, f, o, g])

    found = compared(Sources(), {}, left="equations", right=f"recorded:{foreign(tmp_path, all_rows)}", power=True)
    assert [each.convention for each in found.explanations] == ["gates i f o g"]
    assert found.reasons.power is not None
    assert "h0 ignored" in found.reasons.power.caught


def test_a_recording_as_near_as_tf32_is_said_to_be(tmp_path: Path) -> None:
    def rounded(run: dict[str, Any]) -> None:
        for name in ("y", "h", "c"):
            run[name] = (run[name].astype(numpy.float64) * (1 + 2.0**-12)).astype(numpy.float32)

    found = compared(Sources(), {}, right=f"recorded:{foreign(tmp_path, rounded)}")
    assert found.cause == "function"
    assert found.reference is not None
    assert found.reference.about_coarser == "tf32"


def test_a_recorded_left_side(tmp_path: Path) -> None:
    found = compared(Sources(), {}, left=f"recorded:{foreign(tmp_path, lambda run: None)}", right="cells", power=True)
    assert found.verdict == "equivalent"
    assert found.reasons.power is not None
    assert "forget bias of 1" in found.reasons.power.caught


def test_a_recording_in_chaos_is_undecided(tmp_path: Path) -> None:
    file, weights = str(tmp_path / "run.npz"), str(tmp_path / "w.pt")
    torch.manual_seed(0)
    module = nn.LSTM(8, 64)
    for each in module.parameters():
        each.data *= 10
    torch.save(module.state_dict(), weights)
    loaded = load(Sources(weights=weights), {"seq_len": 300})
    compare(loaded.spec, loaded=loaded, record=file)
    found = compared(Sources(), {}, left="cells", right=f"recorded:{file}")
    assert (found.verdict, found.exit_code) == ("undecided", 2)


def test_outputs_alone_with_weights_and_input_from_elsewhere(tmp_path: Path) -> None:
    run, outputs = str(tmp_path / "run.pt"), str(tmp_path / "outputs.npz")
    compare(Spec(kind="gru", batch_first=True), record=run)
    content = read_file(run)
    numpy.savez(outputs, y=content["y"].numpy(), h=content["h"].numpy())
    found = compared(Sources(weights=run, inputs=run), {}, right=f"recorded:{outputs}")
    assert found.verdict == "identical"


def test_inputs_are_fed_to_both_sides(tmp_path: Path, cli: Cli) -> None:
    x = torch.randn(2, 7, 10)
    torch.save({"x": x, "h0": torch.randn(2, 2, 20)}, tmp_path / "in.pt")
    out = str(tmp_path / "out.pt")
    answer = cli("compare", "--inputs", str(tmp_path / "in.pt"), "--batch-first", "--record", out, "--json")
    spec = json.loads(answer.out)["spec"]
    assert (spec["seq_len"], spec["batch_size"], spec["h0"]) == (7, 2, "random")
    assert torch.equal(read_file(out)["x"], x)


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        ({"x": torch.zeros(3, 5, 10)}, "--seq-len 4", "--seq-len 4 contradicts {file}, which has --seq-len 3"),
        (
            {"x": torch.zeros(3, 5, 10)},
            "--input-size 9",
            "--input-size 9 contradicts {file}, which has --input-size 10",
        ),
        (
            {"x": torch.zeros(3, 5, 10), "h0": torch.zeros(1, 5, 20)},
            "",
            "{file}: h0 has shape (1, 5, 20), but it must be",
        ),
        ({"h0": torch.zeros(2, 5, 20)}, "", "{file} has no x; give the input by --inputs FILE"),
        ({"x": torch.zeros(3)}, "", "{file}: x has shape (3,), but it must have 3 dims, or 2 without N"),
        ({"x": torch.full((3, 5, 10), torch.nan)}, "", "{file}: x holds NaN or infinity, first at [0, 0, 0]"),
        ({"x": torch.zeros(3, 5, 10, dtype=torch.int64)}, "", "{file}: x is int64, but it must be one of float32"),
        (
            {"x": torch.zeros(3, 2, 10), "lengths": torch.tensor([2, 2])},
            "",
            "{file}: lengths must be 2 numbers from 1 to the 3 steps of x, the longest 3",
        ),
        (
            {"x": torch.zeros(3, 2, 10), "lengths": torch.zeros(2)},
            "",
            "{file}: lengths must be whole numbers in one dim, and is float32 of shape (2,)",
        ),
        (
            {"x": torch.zeros(3, 2, 10), "lengths": torch.tensor(3)},
            "",
            "{file}: lengths must be whole numbers in one dim, and is int64 of shape ()",
        ),
        (
            {"x": torch.zeros(3, 2, 10), "lengths": [3, 2]},
            "",
            "{file}: lengths is of type list, but it must be a tensor; save torch.tensor(lengths)",
        ),
        ({"x": [[[0.0] * 10]]}, "", "{file}: x is of type list, but it must be a tensor; save torch.tensor(x)"),
    ],
)
def test_an_input_that_does_not_fit(
    content: dict[str, Any], flags: str, sentence: str, cli: Cli, tmp_path: Path
) -> None:
    file = str(tmp_path / "in.pt")
    torch.save(content, file)
    answer = cli("compare", "--inputs", file, *flags.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {sentence.format(file=file)}")


def test_an_input_of_none_is_left_out(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "in.pt")
    torch.save({"x": torch.zeros(3, 5, 10), "h0": None}, file)
    assert "--h0 zeros" in cli("compare", "--inputs", file).out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--right recorded:{run} --grad", "recorded:{run} cannot be run again, as --grad would need; leave it out"),
        ("--right recorded:{run} --resync", "recorded:{run} cannot be run again, as --resync would need; leave it out"),
        ("--right recorded:{run} --kind gru", "--kind gru contradicts {run}, which has --kind lstm; leave --kind out"),
        ("--right recorded:nowhere.pt", "nowhere.pt: No such file or directory"),
        ("--right recorded:", "--right is 'recorded:', but it must be recorded:FILE; try --right recorded:run.pt"),
        ("--right recorded:{only_y}", "{only_y} has no RNN inside"),
        ("--weights {run} --right recorded:{only_y}", "{only_y} has no x; give the input by --inputs FILE"),
        ("--weights {run} --inputs {run} --right recorded:{only_y}", "{only_y} has no h and no c"),
        ("--record {run}", "{run} is there already; name another file, or add --force"),
        ("--record run.xyz", "run.xyz: the ending names no format; use one of .pt, .pth, .safetensors, .npz"),
    ],
)
def test_what_a_recording_cannot_do(words: str, sentence: str, cli: Cli, tmp_path: Path) -> None:
    names = {"run": str(tmp_path / "run.pt"), "only_y": str(tmp_path / "y.npz")}
    compare(Spec(kind="lstm"), record=names["run"])
    numpy.savez(names["only_y"], y=numpy.zeros((3, 5, 20), numpy.float32))
    answer = cli("compare", *words.format(**names).split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"rnnscope: {sentence.format(**names)}")


def test_what_else_a_file_claims_of_itself_is_left_out() -> None:
    about = json.dumps({"arithmetic": "magic", "spec": {"nonlinearity": ["relu"], "batch_first": "yes"}})
    assert recording("a.pt", {"rnnscope": about, "y": torch.zeros(1)}).facts == {}
    assert recording("a.pt", {"rnnscope": "no json"}).facts == {}
    assert recording("a.pt", {"rnnscope": 3}).facts == {}
    assert recording("a.pt", [1]).tensors == {}


def test_weights_of_another_precision_are_other_weights(tmp_path: Path) -> None:
    module = nn.LSTM(3, 4)
    torch.save(module.state_dict(), tmp_path / "single.pt")
    torch.save(module.half().state_dict(), tmp_path / "half.pt")
    for left, right in (("single", "half"), ("half", "single")):
        sources = Sources(weights=str(tmp_path / f"{left}.pt"), right_weights=str(tmp_path / f"{right}.pt"))
        found = compared(sources, {})
        assert (found.cause, found.side, len(found.weights)) == ("function", None, 4)


def test_a_half_precision_run_stored_in_float32_is_said_to_be_as_near(tmp_path: Path) -> None:
    def rounded(run: dict[str, Any]) -> None:
        for name in ("y", "h", "c"):
            run[name] = run[name] * numpy.float32(1 + 2.0**-6)

    found = compared(Sources(), {}, right=f"recorded:{foreign(tmp_path, rounded)}")
    assert found.reference is not None
    assert found.reference.about_coarser == "bfloat16"


def test_a_state_that_was_not_recorded_is_said_not_to_be(tmp_path: Path, cli: Cli) -> None:
    def without(run: dict[str, Any]) -> None:
        del run["h0"], run["c0"]

    out = " ".join(cli("compare", "--right", f"recorded:{foreign(tmp_path, without)}").out.split())
    assert "no h0 was recorded, so zeros were taken" in out
    assert "use --h0 random" not in out


def test_what_is_read_is_not_written_over(cli: Cli, tmp_path: Path) -> None:
    run = str(tmp_path / "run.pt")
    cli("compare", "--record", run, "-q")
    before = Path(run).read_bytes()
    answer = cli("compare", "--weights", run, "--record", run, "--force")
    assert (answer.code, answer.err) == (2, f"rnnscope: --record {run} is what --weights reads; name another file\n")
    assert Path(run).read_bytes() == before
