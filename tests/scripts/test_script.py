"""Scripts of bare torch: each runs as it is, says what rnnscope says of the same numbers, and can tell a wrong loop."""

import ast
import contextlib
import io
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from support import Cli
from torch import Tensor, nn

from rnnscope import RnnscopeError, Spec, StackedCells, load, shapes_of
from rnnscope.files.tensors import writing
from rnnscope.network.weights import Input
from rnnscope.scripts.script import Script, code
from rnnscope.spec.options import Sources
from rnnscope.verdict.bounds import Bounds
from rnnscope.verdict.problem import draw_problem

SAME, OTHER = "the same network", "not the same network"

Change = Callable[[Any], Any]


def drawn(number: int) -> Spec:
    """A small Spec of any kind, layout and dtype, as a number says."""
    r = random.Random(number)
    kind, steps, form = r.choice(("rnn", "lstm", "gru")), r.choice((1, 2, 3, 7)), r.choice(("batch", "one", "lengths"))
    given: dict[str, Any] = {"seq_len": steps, "batch_size": r.choice((1, 2, 4))}
    if form == "one":
        given = {"seq_len": steps, "unbatched": True}
    if form == "lengths":
        given = {"lengths": tuple(r.randint(1, steps) for _ in range(r.choice((1, 3, 5))))}
    hidden = r.choice((1, 2, 5, 8))
    return Spec(
        kind=kind,
        input_size=r.choice((1, 3, 8)),
        hidden_size=hidden,
        num_layers=r.choice((1, 1, 2, 2, 3, 5)),
        nonlinearity=r.choice(("tanh", "relu")) if kind == "rnn" else "tanh",
        bias=r.random() < 0.75,
        batch_first=r.random() < 0.5,
        bidirectional=r.random() < 0.5,
        proj_size=r.randrange(hidden) if kind == "lstm" and r.random() < 0.5 else 0,
        h0=r.choice(("random", "random", "zeros")),
        seed=r.randrange(1000),
        device=r.choice(("cpu", "cpu", "cpu", "cpu" if torch.cuda.is_available() else "auto")),
        dtype=r.choice(("float32", "float32", "float64", "bfloat16", "float16")),
        threads=r.choice((None, None, 1, 2)),
        onednn=r.choice((None, None, True, False)),
        **(r.choice(({}, {"dropout": 0.3}, {"train": True}, {"train": True, "dropout": 1.0}))),
        **given,
    )


SPECS = {str(number): drawn(number) for number in range(220)}
LAID_OUT = {
    "default": Spec(),
    "lengths": Spec(kind="gru", lengths=(3, 1, 2), bidirectional=True),
    "projection": Spec(kind="lstm", proj_size=8, unbatched=True, batch_first=True),
    "long": Spec(
        kind="lstm",
        lengths=(17, 1, 12) * 40,
        batch_first=True,
        bidirectional=True,
        proj_size=2,
        bias=False,
        dropout=1.0,
        train=True,
        device="auto",
        dtype="bfloat16",
        tf32=False,
        cudnn=True,
        onednn=True,
        threads=1,
    ),
    "exact": Spec(dtype="float64", nonlinearity="relu", dropout=0.5, num_layers=1, device="cuda:1", h0="zeros"),
    "large": Spec(kind="gru", num_layers=2**63 - 1, seq_len=2**63 - 1, batch_size=2**63 - 1, bidirectional=True),
}


@dataclass(frozen=True)
class Ran:
    """What a script printed, the sentence with which it ended where it failed, and what it left."""

    lines: tuple[str, ...]
    failure: str | None
    left: dict[str, Any]

    def number(self, pattern: str) -> float:
        """The number that a line says."""
        (found,) = re.findall(pattern, "\n".join(self.lines))
        return float(found)


def ran(text: str) -> Ran:
    """Run a script in this process; torch's settings are afterwards as they were."""
    out, failure, left = io.StringIO(), None, {"__name__": "__main__"}
    with settings_kept(), contextlib.redirect_stdout(out):
        try:
            exec(compile(text, "script", "exec"), left)
        except SystemExit as error:
            failure = str(error)
    return Ran(tuple(out.getvalue().splitlines()), failure, left)


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    threads, dtype, onednn = torch.get_num_threads(), torch.get_default_dtype(), torch.backends.mkldnn.enabled
    device = torch.tensor([]).device  # torch 2.6 cannot be asked again once the default was put back
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        # None, or the mode that takes the device stays and slows down every later call.
        torch.set_default_device(None if device.type == "cpu" else device)
        torch.backends.mkldnn.enabled = onednn


@cache
def ran_spec(name: str) -> Ran:
    return ran(code(SPECS[name]).text)


def alone(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as `python -` does, where rnnscope cannot be imported."""
    command = [sys.executable, "-I", "-W", "error", "-"]
    return subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", SPECS)
def test_a_script_finds_the_same_network(name: str) -> None:
    result = ran_spec(name)
    assert (result.failure, result.lines[-1]) == (None, SAME)


@pytest.mark.parametrize("name", SPECS)
def test_the_shapes_that_come_out_are_those_of_the_formulas(name: str) -> None:
    outputs = [each for each in shapes_of(SPECS[name]).tensors if each.role == "output"]
    assert ran_spec(name).lines[0] == "  ".join(f"{each.name} {each.shape}" for each in outputs)


@pytest.mark.parametrize("name", SPECS)
def test_the_last_states_of_the_top_layer_are_where_a_script_says(name: str) -> None:
    told = [line for line in ran_spec(name).lines if line.startswith("h[")]
    rows = ["h[-2]", "h[-1]"] if SPECS[name].bidirectional else ["h[-1]"]
    assert [line.partition(" is y")[0] for line in told] == rows
    assert all(line.endswith(": True") for line in told)


@pytest.mark.parametrize("name", SPECS)
def test_the_differences_are_within_what_rounding_may_do_to_the_same_numbers(name: str) -> None:
    spec, result = SPECS[name], ran_spec(name)
    weights, given = drawn_by(spec)
    bounds = Bounds(draw_problem(spec, (spec.dtype,), weights=weights, given=given))
    assert result.number(r"float64: they differ by (\S+) at most") <= greatest(bounds, "float64")
    if spec.dtype != "float64":
        # A script subtracts in the Spec's dtype, which rounds the difference once more, and prints three digits.
        found = result.number(rf"{spec.dtype}: they differ by (\S+) at most")
        assert found <= 1.01 * 2 * greatest(bounds, spec.dtype)


def greatest(bounds: Bounds, arithmetic: str) -> float:
    """The measured bound of the loudest item: a script looks at all of them at once."""
    measured = next(bound for bound in bounds.precision(arithmetic) if bound.measured)
    return max(each.max().item() for each in measured.limits.values())


def drawn_by(spec: Spec) -> tuple[dict[str, Tensor], Input]:
    """The weights and the input that a script draws, from what it does before its check."""
    left = ran(code(spec).text.partition("\n# The check\n")[0]).left
    names = ("h0", "c0") if spec.kind == "lstm" else ("h0",)
    return left["module"].state_dict(), Input(left["x"], tuple(left[name] for name in names))


@pytest.mark.parametrize(
    "spec",
    [
        Spec(),
        Spec(kind="lstm", bidirectional=True, batch_first=True, tf32=False, cudnn=False, onednn=False, threads=1),
        Spec(kind="gru", lengths=(3, 1, 2), bidirectional=True, device="auto"),
        Spec(kind="lstm", proj_size=8, unbatched=True, dtype="float64"),
        Spec(kind="rnn", nonlinearity="relu", num_layers=3, dropout=1.0, train=True, tf32=True),
    ],
    ids=["default", "lstm", "packed", "projection", "dropout"],
)
def test_it_runs_alone_and_says_nothing_else(spec: Spec, tmp_path: Path) -> None:
    done = alone(code(spec).text, tmp_path)
    assert (done.returncode, done.stderr, done.stdout.splitlines()[-1]) == (0, "", SAME)


def test_a_wrong_loop_ends_with_exit_code_1(tmp_path: Path) -> None:
    done = alone(code(Spec()).text.replace("walk(cells[k], steps,", "walk(cells[0], x,"), tmp_path)
    assert done.returncode == 1


SHARED = 'weights[f"{name}_l{k}"]'
LSTM, GRU = Spec(kind="lstm", input_size=20), Spec(kind="gru", input_size=20, bidirectional=True, lengths=(3, 1, 2))
PROJECTED, DROPPED = Spec(kind="lstm", proj_size=3), Spec(num_layers=3, dropout=1.0, train=True)


@pytest.mark.parametrize(
    ("spec", "right", "wrong"),
    [
        (LSTM, SHARED, f"{SHARED}.roll(H, 0)"),
        (LSTM, SHARED, f'{SHARED} * (name != "bias_hh")'),
        (LSTM, SHARED, 'weights[f"{name}_l0"]'),
        (LSTM, "h0[k]", "0 * h0[k]"),
        (LSTM, "c0[k]", "h0[k]"),
        (LSTM, "torch.stack(steps)", "torch.stack(steps[::-1])"),
        (LSTM, "h, c = cell(steps[t], (h, c))", "h, c = (each * (1 + 1e-11) for each in cell(steps[t], (h, c)))"),
        (LSTM, "states.append(h)", 'states.append(h * float("nan"))'),
        (GRU, "range(L)[::-1]", "range(L)"),
        (GRU, "real = ", "real = torch.ones(L, N, 1) > 0  # "),
        (GRU, "zip(forward, backward", "zip(backward, forward"),
        (GRU, '(reverse_cells[k], "_reverse")', '(reverse_cells[k], "")'),
        (GRU, "torch.where(real[t], steps[t], 0)", "steps[t]"),
        (GRU, "ahead, back = 2 * k, 2 * k + 1", "ahead, back = k, K + k"),
        (Spec(batch_first=True, batch_size=3), "x.unbind(1)", "x.unbind(0)"),
        (Spec(nonlinearity="relu"), 'nn.RNNCell(width, H, nonlinearity="relu")', "nn.RNNCell(width, H)"),
        (PROJECTED, "i, f, g, o =", "i, f, o, g ="),
        (PROJECTED, "h @ self.weight_hr.T, c", "h[..., :P], c"),
        (DROPPED, "dropout(step, 1.0)", "dropout(step, 0.0)"),
    ],
)
def test_a_script_tells_a_wrong_loop(spec: Spec, right: str, wrong: str) -> None:
    text = code(spec).text
    damaged = text.replace(right, wrong)
    assert damaged != text
    assert ran(damaged).failure == OTHER


def test_a_fault_that_float32_hides_shows_in_float64() -> None:
    text = code(Spec()).text.replace("h = cell(steps[t], h)", "h = cell(steps[t], h) * (1 + 1e-10)")
    result = ran(text)
    assert result.number(r"float32: they differ by (\S+)") < 1e-6
    assert result.failure == OTHER


@pytest.mark.parametrize("scale", [3, 10, 100])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("seed", range(4))
def test_saturated_and_chaotic_weights_are_not_called_different(kind: str, scale: int, seed: int) -> None:
    text = code(Spec(kind=kind, seq_len=60, bidirectional=seed % 2 > 0, seed=seed)).text
    line = "weights = module.state_dict()"
    assert line in text
    scaled = f"for each in module.parameters():\n    each.data.mul_({scale})\n{line}"
    failure = ran(text.replace(line, scaled)).failure
    assert failure in (None, "undecided: rounding alone moves the outputs that far")


def test_states_that_overflow_are_told_as_such() -> None:
    text = code(Spec(nonlinearity="relu", seq_len=400)).text
    line = "weights = module.state_dict()"
    result = ran(text.replace(line, f"for each in module.parameters():\n    each.data.mul_(100)\n{line}"))
    assert result.failure == "relu lets the states grow without end: nothing can be compared"


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_script_is_plain_text_that_depends_on_torch_alone(name: str) -> None:
    text = code(LAID_OUT[name]).text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    assert imported(text) <= {"torch", "torch.nn.utils.rnn", "warnings"}


def imported(text: str) -> set[str]:
    """The modules that a script imports."""
    found = set()
    for each in ast.walk(ast.parse(text)):
        if isinstance(each, ast.Import):
            found |= {alias.name for alias in each.names}
        if isinstance(each, ast.ImportFrom):
            found.add(str(each.module))
    return found


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with many scripts, one a file."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, spec in (LAID_OUT | SPECS).items():
        (folder / f"script_{name}.py").write_text(code(spec).text)
    return folder


@pytest.mark.parametrize(
    "words", [("check", "--select", "E,F,W,I,B,UP,SIM", "--no-cache"), ("format", "--check", "--no-cache")]
)
def test_scripts_are_as_ruff_wants_them(words: tuple[str, ...], laid_out: Path) -> None:
    assert ruff(*words, folder=laid_out) == (0, "")


def ruff(command: str, *words: str, folder: Path) -> tuple[int, str]:
    line = [str(Path(sys.executable).parent / "ruff"), command, "--isolated", "--line-length", "100", *words, "."]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout if done.returncode else ""


@pytest.mark.parametrize(
    ("spec", "without"),
    [
        (Spec(), "revers|backward|direction|c0|lengths|pack|bias|float16|device|cuda|dropout|proj|thread|warnings|P ="),
        (Spec(kind="gru", unbatched=True), r"\bN\b|c0|lengths|pack|batch_first"),
        (Spec(kind="lstm", dtype="float64"), r"float32|\.double"),
    ],
)
def test_a_script_says_only_what_its_spec_needs(spec: Spec, without: str) -> None:
    assert re.findall(without, code(spec).text.partition('"""\n\nimport')[2]) == []


def test_the_rerun_line_stands_in_the_script() -> None:
    spec = Spec(kind="gru", bidirectional=True)
    script = code(spec)
    assert script.rerun == "rnnscope code --kind gru --bidirectional"
    assert f"\n    {script.rerun}\n" in script.text


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (Spec(batch_size=0), "--batch is 0, so y and h have no elements and there is nothing to see"),
        (
            Spec(train=True, dropout=0.5),
            "--train with --dropout 0.5 draws random masks, so that no two runs are alike",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(spec: Spec, sentence: str) -> None:
    with pytest.raises(RnnscopeError, match=f"^{re.escape(sentence)}"):
        code(spec)


def module_of(**options: Any) -> nn.LSTM:
    torch.manual_seed(7)
    return nn.LSTM(3, 4, num_layers=2, **options)


def under(prefix: str, state: Any) -> dict[str, Any]:
    return {f"{prefix}{name}": each for name, each in state.items()}


def loading(file: str, content: dict[str, Any] | None = None, prefix: str | None = None, **fields: Any) -> Script:
    """The script of the network in a file, which is written first where it has a content."""
    if content is not None:
        torch.save(content, "new.pt")  # torch itself takes a backslash for the end of a folder
        Path("new.pt").replace(file)
    loaded = load(Sources(weights=file, prefix=prefix), {})
    return code(replace(loaded.spec, **fields), loaded=loaded)


def check_weights(result: Ran, module: nn.Module) -> None:
    """Both the module and the cells of a script had the weights of a module."""
    assert (result.failure, result.lines[-1]) == (None, SAME)
    cells = {
        f"{name}_l{k}{end}": each
        for stack, end in (("cells", ""), ("reverse_cells", "_reverse"))
        for k, cell in enumerate(result.left.get(stack, ()))
        for name, each in cell.state_dict().items()
    }
    expected = {name: each.double() for name, each in module.state_dict().items()}
    torch.testing.assert_close(cells, expected, rtol=0, atol=0)
    # The check has nudged these.
    torch.testing.assert_close(dict(result.left["module"].state_dict()), expected, rtol=1e-14, atol=0)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRAPS: dict[str, Change] = {
    "plain": lambda state: state,
    "nested": lambda state: {"epoch": 3, "state_dict": under("module.encoder.rnn.", state)},
    "in lists": lambda state: {"models": [[], {7: ({"a.b": under('it\'s "x".', state)},)}]},
    "twice the path": lambda state: {"a": {"b": {}}, "a.b": {"no": {}}, "a.b.c": under("d.", state)},
    "beside an optimizer": lambda state: {"optimizer": {0: {"exp_avg": torch.zeros(2)}}, "model": state},
}


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "bias": False}, {"proj_size": 2}])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.usefixtures("in_folder")
def test_a_checkpoint_is_loaded_wherever_it_is(wrap: str, options: dict[str, Any]) -> None:
    module = module_of(**options)
    script = loading("model.pt", WRAPS[wrap](dict(module.state_dict())))
    check_weights(ran(script.text), module)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("prefix", ["", "encoder.stack."])
@pytest.mark.usefixtures("in_folder")
def test_the_names_of_cells_are_loaded_into_the_cells(prefix: str, bidirectional: bool) -> None:
    module = module_of(bidirectional=bidirectional)
    cells = under(prefix, StackedCells.from_module(module).state_dict())
    check_weights(ran(loading("cells.pt", {"state_dict": cells}).text), module)


@pytest.mark.parametrize("prefix", ["0.", "net.layers.0.", "cell."])
@pytest.mark.usefixtures("in_folder")
def test_a_cell_or_a_list_of_one_is_loaded(prefix: str) -> None:
    module = nn.GRU(3, 4)
    state = {name.removesuffix("_l0"): each for name, each in module.state_dict().items()}
    check_weights(ran(loading("cell.pt", under(prefix, state)).text), module)


@pytest.mark.parametrize(
    ("file", "imports"), [("model.safetensors", "safetensors.torch"), ("model.npz", "numpy"), ("MODEL.PTH", "torch")]
)
@pytest.mark.usefixtures("in_folder")
def test_every_format_is_loaded(file: str, imports: str) -> None:
    module = module_of()
    with writing(file.lower(), under("rnn.", module.state_dict()), about="{}") as part:
        Path("kept").write_bytes(Path(part).read_bytes())
    Path("kept").replace(file)
    text = loading(file).text
    assert imports in imported(text)
    check_weights(ran(text), module)


NAMES = [
    "it's.pt",
    'say "x".pt',
    "mod\u00e8le \U0001f600.pt",
    "back\\slash\\n.pt",
    'a""".pt',
    "new\nline.pt",
    "$HOME;.pt",
]
NAMES += ["long " * 40 + ".pt", "\u00e9" * 100 + ".pt", "'\"'\"\\.pt"]


@pytest.mark.parametrize("file", NAMES)
def test_a_file_may_have_any_name(file: str, in_folder: Path) -> None:
    module = module_of()
    text = loading(file, {file: module.state_dict()}).text
    check_weights(ran(text), module)
    assert text.isascii()
    (in_folder / "script.py").write_text(text)
    assert ruff("check", "--select", "E,F,W,I,B,UP,SIM", "--no-cache", folder=in_folder) == (0, "")
    assert ruff("format", "--check", "--no-cache", folder=in_folder) == (0, "")


@pytest.mark.parametrize("file", NAMES)
def test_the_command_in_a_script_is_the_one_that_wrote_it(file: str, in_folder: Path) -> None:
    script = loading(file, module_of().state_dict())
    docstring = str(ast.get_docstring(ast.parse(script.text), clean=False))
    command = docstring.partition("Written by:\n\n")[2]
    (in_folder / "rnnscope").write_text('#!/bin/bash\nprintf "%s\\0" "$@" >words\n')
    (in_folder / "rnnscope").chmod(0o755)
    subprocess.run(["bash", "-c", f"PATH=.:$PATH\n{command}"], cwd=in_folder, check=True)
    words = (in_folder / "words").read_bytes().decode().split("\0")
    assert words[words.index("--weights") + 1] == file


@pytest.mark.usefixtures("in_folder")
def test_the_file_is_in_the_rerun_line_with_its_dtype() -> None:
    both = under("a.", module_of().state_dict()) | under("b.", module_of().state_dict())
    script = loading("two.pt", both, "b", seq_len=2)
    assert script.rerun == (
        "rnnscope code --kind lstm --input-size 3 --hidden-size 4 --seq-len 2 --dtype float32 "
        "--weights two.pt --prefix b"
    )
    assert 'prefix = "b."' in script.text


@pytest.mark.usefixtures("in_folder")
def test_the_way_to_the_weights_is_the_files_own() -> None:
    script = loading("model.pt", {"model": module_of().state_dict()})
    assert 'weights = weights["model"]' in script.text


@pytest.mark.usefixtures("in_folder")
def test_a_file_of_another_network_is_refused() -> None:
    torch.save(module_of().state_dict(), "model.pt")
    loaded = load(Sources(weights="model.pt"), {})
    with pytest.raises(RnnscopeError, match=r"^model\.pt holds another network than the Spec; take"):
        code(Spec(kind="gru"), loaded=loaded)


@pytest.mark.usefixtures("in_folder")
def test_a_file_is_read_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(module_of().state_dict(), "model.pt")
    counted = Mock(side_effect=torch.load)
    monkeypatch.setattr(torch, "load", counted)
    assert cli("code", "--with-weights", "model.pt").code == 0
    assert counted.call_count == 1


@pytest.mark.parametrize(
    ("change", "prefix", "hint"),
    [
        (
            lambda module: nn.utils.parametrizations.weight_norm(module, "weight_hh_l0").state_dict(),
            None,
            "rnnscope convert 'my model.pt' --to module --out plain.pt",
        ),
        (
            lambda module: {(1, 2): under("rnn.", module.state_dict())},
            "rnn",
            "rnnscope convert 'my model.pt' --prefix rnn --to module --out plain.pt",
        ),
    ],
    ids=["weight norm", "odd key"],
)
@pytest.mark.usefixtures("in_folder")
def test_what_a_plain_script_cannot_load_is_refused(change: Change, prefix: str | None, hint: str) -> None:
    with pytest.raises(RnnscopeError, match=r"^my model\.pt: a plain script cannot load ") as caught:
        loading("my model.pt", change(module_of()), prefix)
    assert caught.value.hint == f"write them anew: {hint}, then --with-weights plain.pt"
