"""Somebody's own class as a subject: built, given weights, called and judged; and all that can be wrong with it."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import OWN, Answer, Cli, rounded_cells

from rnnscope import Comparison, Spec, compare, load
from rnnscope.spec.options import Sources
from rnnscope.subjects.builtin import SUBJECTS

LSTM = Spec(kind="lstm")


def judged(name: str, spec: Spec = LSTM, **question: Any) -> Comparison:
    return compare(spec, "module", f"{OWN}:{name}", **question)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("Lstm", LSTM),
        ("Lstm", Spec(kind="lstm", bias=False, num_layers=1, dtype="float64")),
        ("Lstm", Spec(kind="lstm", h0="zeros")),
        ("Lstm", Spec(kind="lstm", batch_size=1, dtype="bfloat16", onednn=False)),
        ("LoadsByItself", LSTM),
        ("make_two_layers", LSTM),
        ("Gru", Spec(kind="gru", bidirectional=True, batch_first=True)),
        ("Gru", Spec(kind="gru", lengths=(3, 1, 2))),
        ("Gru", Spec(kind="gru", unbatched=True)),
        ("BatchFirst", Spec(batch_first=True)),
        ("NoState", Spec(h0="zeros")),
        ("WrongWithoutState", Spec()),
        ("instance", Spec()),
    ],
)
@pytest.mark.parametrize("question", [{}, {"grad": True}, {"resync": True}], ids=["plain", "grad", "resync"])
def test_a_right_class_is_the_same(name: str, spec: Spec, question: dict[str, Any]) -> None:
    if question.get("resync") and name in ("NoState", "make_two_layers"):
        pytest.skip("every step by itself needs a state")
    found = judged(name, spec, **question)
    assert (found.verdict, found.cause) in (("equivalent", "rounding"), ("identical", None))


def test_a_class_by_its_module_and_the_left_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(OWN.parent)
    assert compare(LSTM, "own_networks:Lstm", "cells").verdict in ("equivalent", "identical")
    assert compare(LSTM, "torch.nn:LSTM", "module").verdict == "identical"


def test_a_wrong_class_is_told_by_its_convention_and_place() -> None:
    found = judged("Iofg")
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    assert [each.convention for each in found.explanations] == ["gates i f o g"]
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.layer) == (0, 0)


def test_power_counts_deviations_of_a_class_of_ones_own() -> None:
    power = judged("Lstm", power=True).reasons.power
    assert power is not None
    assert "gates i f o g" in power.caught
    assert power.missed == ()


def test_only_gradients_may_be_wrong() -> None:
    found = judged("DetachesState", grad=True)
    assert (found.cause, found.side) == ("function", "right")
    assert judged("DetachesState").exit_code == 0


def test_weights_that_are_ignored_are_named(cli: Cli) -> None:
    found = judged("IgnoresRecurrent")
    assert [(each.side, each.ignores) for each in found.reasons.dependences] == [
        ("right", ("weight_hh_l0", "weight_hh_l1"))
    ]
    out = cli("compare", "--kind", "lstm", "--right", f"{OWN}:IgnoresRecurrent").out
    assert "its output does not depend on weight_hh_l0, weight_hh_l1." in " ".join(out.split())


def test_what_a_step_from_zeros_never_uses_is_not_said_to_be_ignored() -> None:
    found = judged("Iofg", Spec(kind="lstm", seq_len=1, h0="zeros", num_layers=1))
    assert found.cause == "function"
    assert found.reasons.dependences == ()


def test_gradients_that_cannot_be_told_are_a_blind_spot(cli: Cli) -> None:
    found = judged("Frozen", grad=True)
    assert found.exit_code == 0
    assert [(role, len(names)) for role, names in found.figures.missing_gradients] == [("right", 4)]
    out = " ".join(cli("compare", "--kind", "lstm", "--grad", "--right", f"{OWN}:Frozen").out.split())
    assert "gives no gradient of bias_ih_l0, bias_hh_l0, bias_ih_l1" in out


def test_gradients_are_told_where_a_class_loads_by_itself() -> None:
    found = judged("OwnGradients", grad=True)
    assert found.exit_code == 0
    assert found.figures.missing_gradients == ()
    assert "weight_hh_l1" in [each.name for each in found.gradients or ()]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("SecondIsLengths", Spec(h0="zeros")),
        ("KeywordState", Spec()),
        ("StateInThirdPlace", Spec()),
        ("shared", Spec()),
    ],
)
def test_how_a_state_is_taken_is_told_from_the_names(name: str, spec: Spec) -> None:
    assert judged(name, spec).exit_code == 0


def test_what_a_function_returns_again_and_again_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.py"
    own.write_text("import torch\nkept = torch.nn.RNN(10, 20, 2)\ndef make():\n    return kept\n")
    assert compare(Spec(), right=f"{own}:make").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert compare(Spec(), right="own:make").exit_code == 0
    kept = sys.modules.pop("own").kept
    assert kept.weight_ih_l0.dtype == torch.float32


def test_a_class_that_remembers_its_last_call_is_another_function() -> None:
    assert judged("Remembers", Spec(kind="lstm", h0="zeros")).cause == "function"


def test_a_buffer_that_both_sides_write_into_hides_nothing() -> None:
    found = compare(LSTM, f"{OWN}:SharesItsOutput", f"{OWN}:SharesWrongOutput")
    assert (found.cause, found.side) == ("function", "right")


@pytest.mark.parametrize("more", [(), ("--no-reference",)])
def test_what_cannot_run_in_float64_is_judged_in_its_own_dtype(cli: Cli, more: tuple[str, ...]) -> None:
    assert cli("compare", "--kind", "lstm", "--right", f"{OWN}:OnlyFloat32", *more).code == 0


def test_two_versions_of_a_project_are_two(tmp_path: Path) -> None:
    for version in ("1", "2"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "scale.py").write_text(f"scale = {version}\n")
        (folder / "net.py").write_text(
            "import torch\n"
            "class Net(torch.nn.RNN):\n"
            "    def forward(self, x, hx=None):\n"
            "        from scale import scale\n"
            "        y, h = super().forward(x, hx)\n"
            "        return y * scale, h\n"
        )
    names = [f"{tmp_path / version / 'net.py'}:Net" for version in ("1", "2")]
    found = compare(Spec(), *names)
    assert (found.cause, found.side) == ("function", "right")
    assert {"scale", "net"} & set(sys.modules) == set()


def test_a_class_that_rolls_dice_is_told() -> None:
    (found,) = judged("Random").reasons.dependences
    assert not found.repeats


def test_precision_inside_is_told_from_another_function() -> None:
    found = judged("Float32Inside", replace(LSTM, dtype="float64"))
    assert (found.verdict, found.cause, found.side) == ("different", "precision", "right")


def test_another_dtype_that_comes_back_is_told(cli: Cli) -> None:
    found = judged("ReturnsFloat32", Spec(kind="lstm", dtype="bfloat16", onednn=False))
    assert found.figures.wrong_dtypes == (("right", "float32"),)
    assert found.verdict != "identical"
    out = cli("compare", "--kind", "lstm", "--dtype", "bfloat16", "--right", f"{OWN}:ReturnsFloat32").out
    assert "returned float32 where bfloat16 was asked for." in " ".join(out.split())


def test_other_shapes_are_a_finding() -> None:
    assert judged("Transposed").cause == "shape"


def test_without_a_state_it_is_called_without_one() -> None:
    assert judged("WrongWithoutState", Spec(h0="zeros")).cause == "function"
    assert judged("WrongWithoutState", Spec()).exit_code == 0


def test_no_gradient_is_made_up_for_a_state_that_is_not_taken() -> None:
    found = judged("NoState", Spec(h0="zeros"), grad=True)
    assert found.gradients is not None
    assert "h0" not in [each.name for each in found.gradients]
    assert "x" in [each.name for each in found.gradients]


WRONG: dict[str, tuple[str, str]] = {
    "Lstm": (
        "--bidirectional",
        "takes no bidirectional, and --bidirectional needs it; leave it out, or name",
    ),
    "Lstm  ": ("--proj-size 3", "takes no proj_size, and --proj-size 3 needs it"),
    "OtherNames": ("", "takes no num_layers, and --layers 2 needs it; use --layers 1"),
    "OtherNames  ": ("--layers 1", "it has no biases; use --no-bias"),
    "make_two_layers": ("--hidden-size 7", "those of hidden_size=20, not --hidden-size 7; use --hidden-size 20"),
    "make_two_layers ": ("--layers 3", "its parameters are those of num_layers=2, not --layers 3; use --layers 2"),
    "NeedsMore": ("", "needs vocabulary, which rnnscope does not know; add --right-arg vocabulary=VALUE"),
    "NeedsTwoMore": (
        "",
        "needs words, pages, which rnnscope does not know; add --right-arg words=VALUE --right-arg pages=VALUE",
    ),
    "NeedsMask": (
        "--layers 1",
        "its forward needs mask besides; it is called as forward(x, hx), where hx is (h0, c0): give all else a default",
    ),
    "Raises": ("", f"raised ValueError: the flux ({OWN}, line "),
    "RaisesLate": ("--grad", "one of the variables needed for gradient computation has been modified"),
    "Exits": ("", "raised SystemExit: 0"),
    "OnlyNumbers": ("", "returned (int, int), but nn.LSTM returns (output, (h_n, c_n))"),
    "number": ("", "is of type int, but it must be a class or a function"),
    "Lstn": ("", f"has no Lstn; did you mean {OWN}:Lstm?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_class_is_trouble_in_one_line(name: str, cli: Cli) -> None:
    flags, sentence = WRONG[name]
    answer = cli("compare", "--kind", "lstm", "--right", f"{OWN}:{name.strip()}", *flags.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert sentence in answer.err


def test_a_class_that_takes_no_state_is_compared_from_zeros(cli: Cli) -> None:
    found = judged("NoState", Spec())
    assert (found.exit_code, found.spec.h0) == (0, "zeros")
    assert "zero h0" in [each.name for each in found.blind_spots]
    assert " --h0 zeros " in found.rerun
    assert cli("compare", "--resync", "--right", f"{OWN}:NoState").err.endswith(
        "its forward takes no hx; name an argument hx, or leave hx out (--h0 zeros, and no --resync)\n"
    )


def test_a_class_without_a_state_in_chaos_is_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = str(tmp_path / "wild.pt")
    torch.manual_seed(0)
    module = torch.nn.RNN(8, 64, 2)
    for each in module.parameters():
        each.data *= 30
    torch.save(module.state_dict(), weights)
    loaded = load(Sources(weights=weights), {"seq_len": 300, "h0": "zeros"})
    assert compare(loaded.spec, right=f"{OWN}:NoState", loaded=loaded).verdict == "undecided"
    monkeypatch.setitem(SUBJECTS, "cells", rounded_cells)
    assert compare(loaded.spec, right="cells", loaded=loaded).verdict == "equivalent"


def test_a_class_gets_its_input_in_the_layout_that_it_says_it_has() -> None:
    found = judged("BatchFirst", Spec(num_layers=1))
    assert (found.exit_code, found.outputs[0].shape) == (0, (3, 5, 20))
    assert found.adaptations == (("right", ("x and y are (N, L, …) in it, as its batch_first says",)),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import nothing_of_that_name\n", "raised ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("class Broken(:\n", "raised SyntaxError: invalid syntax (/"),
        (
            "from .base import Cls\n",
            "in <module>); a file alone is in no package: name it as package.module:Class",
        ),
        ("raise RuntimeError('at import')\n", "raised RuntimeError: at import"),
        ("", "has no Cls; it has nothing"),
    ],
)
def test_a_file_that_cannot_be_imported(text: str, sentence: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    answer = cli("compare", "--right", f"{path}:Cls")
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert str(path) in answer.err


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        ("nowhere.py:Cls", "nowhere.py:Cls: there is no file nowhere.py"),
        ("no.such:Cls", "no.such:Cls: there is no module no.such"),
        (
            "mine.py",
            "--right is 'mine.py', but it must be one of module, cells, equations, compiled, compiled-module, items, ",
        ),
    ],
)
def test_a_class_that_is_not_there(side: str, sentence: str, cli: Cli) -> None:
    assert cli("compare", "--right", side).err.startswith(f"rnnscope: {sentence}")


def test_prints_never_reach_stdout(bash: Cli) -> None:
    answer = bash(f"rnnscope compare --kind lstm --right {OWN}:Prints --json")
    assert json.loads(answer.out)["verdict"] in ("identical", "equivalent")
    assert "from print\n" in answer.err
    assert "from the file descriptor\n" in answer.err


def test_prints_are_nowhere_where_nothing_is_to_be_printed(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", f"{OWN}:Prints", "-q")
    assert answer == Answer(0, "", "")


def test_global_state_is_as_it_was_after_an_error(cli: Cli) -> None:
    before = torch.get_default_dtype(), torch.get_rng_state(), torch.is_grad_enabled()
    assert cli("compare", "--kind", "lstm", "--right", f"{OWN}:Raises", "--dtype", "float64").code == 2
    after = torch.get_default_dtype(), torch.get_rng_state(), torch.is_grad_enabled()
    assert (before[0], before[2]) == (after[0], after[2])
    assert torch.equal(before[1], after[1])


def test_the_traceback_is_there_when_asked_for(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", f"{OWN}:Raises", "--debug")
    assert re.search(r"Traceback .*own_networks\.py.*ValueError", answer.err, re.DOTALL)


def test_device_and_dtype_of_a_class() -> None:
    found = compare(LSTM, "module", f"{OWN}:Lstm@cpu/float64")
    assert found.sides.dtypes == ("float32", "float64")
    assert found.exit_code == 0


def test_a_verdict_is_not_lost_where_the_reason_takes_other_sizes() -> None:
    spec = Spec(kind="gru", num_layers=1, seq_len=6)
    found = judged("SixSteps", spec)
    assert (found.verdict, found.cause, found.side) == ("different", "function", "right")
    reset = judged("SixStepsResetBefore", spec)
    assert [each.convention for each in reset.explanations] == ["reset before the matmul"]
    assert judged("SixSteps", spec, map=True).heat_map is not None


def test_what_a_class_refuses_is_a_note(cli: Cli) -> None:
    words = ("--kind", "gru", "--layers", "1", "--seq-len", "6", "--stress", "--right", f"{OWN}:SixStepsRight")
    answer = cli("compare", *words)
    assert answer.code == 0
    assert "Note: The verdict under stress is not told, since that takes another input" in " ".join(answer.out.split())


def test_the_layout_in_which_alone_a_class_fits_is_taken_and_told() -> None:
    found = judged("AlongTheBatch", Spec(kind="gru", num_layers=1))
    assert found.exit_code == 0
    assert dict(found.adaptations)["right"] == ("x and y are (N, L, …) in it, since its shapes fit in no other layout",)


@pytest.mark.parametrize(
    ("name", "layers", "sentence"),
    [
        ("TurnsItsOutput", 1, "h has L = 3 where torch has N = 5, as if it walked along the batch on the right side"),
        ("TurnsItsState", 2, "h is (N, D·K, H_out) where torch has (D·K, N, H_out) on the right side"),
    ],
)
def test_the_axis_that_is_off_is_told(name: str, layers: int, sentence: str, cli: Cli) -> None:
    flags = ("--kind", "gru", "--layers", str(layers), "--h0", "zeros" if layers == 1 else "random")
    answer = cli("compare", *flags, "--right", f"{OWN}:{name}")
    assert answer.code == 1
    assert sentence in " ".join(answer.out.split())


def test_parameters_that_torch_has_not_are_never_hidden_by_zeros() -> None:
    found = judged("WithPeepholes", Spec(kind="lstm", num_layers=1))
    assert found.verdict == "different"
    said = "peephole: torch has nothing like it, so random numbers are taken"
    assert dict(found.adaptations)["right"] == (said,)


def test_an_output_that_does_not_come_out_is_a_blind_spot() -> None:
    found = judged("OnlyOutput")
    assert (found.exit_code, [each.name for each in found.outputs]) == (0, ["y"])
    spots = {each.name: each.sentence for each in found.blind_spots}
    assert spots["output not given"] == "h and c are not compared, since a side does not give them"
    assert judged("OnlyOutput", map=True, grad=True).exit_code == 0


def test_a_sequence_is_not_taken_for_a_step(cli: Cli) -> None:
    answer = cli("compare", "--kind", "lstm", "--right", f"cell:{OWN}:Lstm")
    assert answer.code == 2
    assert "its forward does not take one step" in answer.err
