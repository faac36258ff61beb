"""--autocast: the right side runs under torch.autocast, and is judged in that dtype."""

import json
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from support import Cli
from torch import nn

import rnnscope
from rnnscope import RnnscopeError, Spec, compare
from rnnscope.subjects.builtin import SUBJECTS, Run

pytestmark = pytest.mark.usefixtures("single_deviations")

DTYPES = ("bfloat16", "float16")


def document(cli: Cli, *words: str) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads(cli("compare", *words, "--json").out)  # type: ignore[type-arg]
    return found


@cache
def lstm_runs_in_float16() -> bool:
    """Whether oneDNN has a kernel of float16 on this CPU."""
    try:
        with torch.autocast("cpu", torch.float16), torch.no_grad():
            torch.nn.LSTM(3, 4)(torch.randn(5, 2, 3))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("right", ["module", "cells", "equations", "items"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_right_network_is_as_exact_as_its_dtype_allows(kind: str, right: str, dtype: str) -> None:
    if (kind, dtype) == ("lstm", "float16") and right in ("module", "items") and not lstm_runs_in_float16():
        pytest.skip("torch's own LSTM does not run in float16 on this CPU")
    found = compare(Spec(kind=kind, seq_len=6), "equations", right, autocast=dtype)
    assert found.reference
    assert (found.verdict, found.reference.right.arithmetic) == ("equivalent", dtype)


def test_it_runs_under_autocast_in_its_own_dtype() -> None:
    seen = []

    def watched(*args: object) -> Run:
        seen.append((args[0].dtype, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))  # type: ignore[attr-defined]
        return SUBJECTS["equations"](*args)  # type: ignore[arg-type]

    with patch.dict(SUBJECTS, cells=watched):
        compare(Spec(), "module", "cells", autocast="float16")
    assert ("float32", True, torch.float16) in seen
    assert {on for dtype, on, _ in seen if dtype == "float64"} == {False}


def test_it_gives_what_torch_gives_under_autocast(cli: Cli, tmp_path: Path) -> None:
    # An independent run of the same module: every bit of what the recorded one gave.
    file = str(tmp_path / "run.pt")
    spec = Spec(kind="gru")
    cli("compare", "--kind", "gru", "--record", file, "-q")
    run = torch.load(file)
    module = nn.GRU(spec.input_size, spec.hidden_size, spec.num_layers)
    module.load_state_dict({name.removeprefix("weights."): each for name, each in run.items() if "weights." in name})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, _ = module(run["x"], run["h0"])
    expected = (y.double() - run["y"].double()).abs().max().item()
    assert (
        document(cli, "--kind", "gru", "--right", "module", "--autocast", "bfloat16")["outputs"][0]["max_abs"]
        == expected
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "name"), [("gru", "reset before the matmul"), ("lstm", "gates i f o g"), ("rnn", "W_hh transposed")]
)
def test_a_wrong_network_is_different_under_autocast_too(cli: Cli, kind: str, name: str, dtype: str) -> None:
    found = document(cli, "--kind", kind, "--right", f"deviation:{name.replace(' ', '-')}", "--autocast", dtype)
    assert (found["verdict"], found["cause"], found["explanations"][0]["convention"]) == ("different", "function", name)


def test_what_is_worse_than_autocast_is_found() -> None:
    def coarse(spec: Spec, *rest: object) -> Run:
        run = SUBJECTS["equations"](spec, *rest)  # type: ignore[arg-type]
        return run if spec.dtype == "float64" else Run((run.y * 8).round() / 8, run.state)

    with patch.dict(SUBJECTS, cells=coarse):
        found = compare(Spec(), "module", "cells", autocast="float16")
    assert (found.verdict, found.cause, found.side) == ("different", "precision", "right")


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_gradients_are_judged_too(cli: Cli, kind: str) -> None:
    found = document(
        cli, "--kind", kind, "--right", "module", "--left", "equations", "--grad", "--autocast", "bfloat16"
    )
    assert found["verdict"] == "equivalent"


def test_the_page_says_so(cli: Cli) -> None:
    page = cli("compare", "--kind", "lstm", "--right", "module", "--left", "cells", "--autocast", "bfloat16").out
    assert "Adapted: The right side (module): runs under torch.autocast in bfloat16." in page
    assert "is as exact as float32 and bfloat16 allow." in page
    assert "--right module --autocast bfloat16" in page.splitlines()[-1]


def test_the_note_on_the_dtype_says_why(cli: Cli) -> None:
    page = " ".join(cli("compare", "--right", "module", "--left", "cells", "--autocast", "bfloat16").out.split())
    assert "returned bfloat16 where float32 was asked for, as autocast does." in page


@pytest.mark.parametrize(("words", "expected"), [((), None), (("--autocast", "float16"), "float16")])
def test_json_has_it(cli: Cli, words: tuple[str, ...], expected: str | None) -> None:
    assert document(cli, *words)["autocast"] == expected


def test_the_tolerance_is_that_of_the_coarser_dtype(cli: Cli) -> None:
    found = document(cli, "--no-reference", "--autocast", "bfloat16")
    assert found["tolerance"]["rtol"] == 1.6e-2


def test_the_same_bits_in_pieces_of_figures_alone(cli: Cli) -> None:
    words = ("--kind", "gru", "--autocast", "bfloat16", "--hidden-size", "64", "--seq-len", "2000")
    figures = document(cli, *words, "--no-reference", "--atol", "1", "--rtol", "0")["outputs"]
    whole = document(cli, *words, "--no-reference", "--atol", "1", "--rtol", "0", "--map")["outputs"]
    assert figures == whole


@pytest.mark.parametrize("words", [("--dtype", "float64"), ("--right", "cells@cpu/float64")])
def test_in_float64_it_says_nothing(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli("compare", "--autocast", "bfloat16", *words)
    expected = (
        "rnnscope: --autocast bfloat16 does nothing in float64, in which the right side runs; use --dtype float32\n"
    )
    assert (answer.code, answer.err) == (2, expected)


def test_what_a_file_brings_in_float64_is_refused_too(cli: Cli, tmp_path: Path) -> None:
    torch.save(nn.GRU(3, 4).double().state_dict(), tmp_path / "model.pt")
    answer = cli("compare", "--weights", str(tmp_path / "model.pt"), "--autocast", "bfloat16")
    assert (answer.code, "does nothing in float64" in answer.err) == (2, True)


def test_it_needs_a_side_that_runs_here(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "run.pt")
    cli("compare", "--record", file, "-q")
    answer = cli("compare", "--right", f"recorded:{file}", "--autocast", "bfloat16")
    assert (answer.code, "is said of a right side that runs in torch here" in answer.err) == (2, True)


def test_what_onednn_cannot_compute_is_a_sentence(cli: Cli) -> None:
    def fails(spec: Spec, *rest: object) -> Run:
        if spec.dtype != "float64":
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive.")
        return SUBJECTS["equations"](spec, *rest)  # type: ignore[arg-type]

    with patch.dict(SUBJECTS, module=fails):
        answer = cli("compare", "--kind", "lstm", "--left", "cells", "--right", "module", "--autocast", "float16")
    expected = "--autocast float16: oneDNN cannot compute nn.LSTM in float16 on this CPU; add --no-onednn\n"
    assert (answer.code, answer.err) == (2, f"rnnscope: {expected}")


def test_an_older_cpu_is_told_what_mends_it(bash: Cli) -> None:
    line = "rnnscope compare --kind lstm --left cells --right module --autocast float16"
    answer = bash(f"{line} || {line} --no-onednn -q", ONEDNN_MAX_CPU_ISA="AVX2")
    assert answer.code == 0


@pytest.mark.parametrize("fails", [False, True])
def test_global_state_is_restored(fails: bool) -> None:
    def run(*args: object) -> Run:
        if fails:
            raise RnnscopeError("no")
        return SUBJECTS["equations"](*args)  # type: ignore[arg-type]

    before = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled())
    with patch.dict(SUBJECTS, cells=run):
        try:
            compare(Spec(), "module", "cells", autocast="float16")
        except RnnscopeError:
            assert fails
    after = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled())
    assert after == before


def test_a_run_that_was_recorded_under_autocast_is_judged_in_its_dtype(cli: Cli, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file, model = str(tmp_path / "run.pt"), nn.Sequential(nn.GRU(8, 16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), rnnscope.record(model, file):
        model(torch.randn(7, 5, 8))
    found = document(cli, "--left", "equations", "--right", f"recorded:{file}")
    assert (found["verdict"], found["reference"]["checks"]["right"]["arithmetic"]) == ("equivalent", "bfloat16")
