"""Random lists of flags: no traceback, no exit code but 0, 1 or 2, one line of complaint, and JSON that parses."""

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import OWN

from rnnscope import Spec, compare, convert
from rnnscope.cli.shell import run

GRU, RUN = "gru.pt", "run.safetensors"


@pytest.fixture(autouse=True, scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder with a checkpoint and a recorded run, in which files may be written."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    compare(Spec(kind="gru", hidden_size=4), record=RUN)
    convert(RUN, GRU, "module")
    yield
    os.chdir(before)


VALUES = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "-1", "2.5", "", "many", "1e3", "nan", "-inf", "999999999999", "--", "٣"]),
    st.sampled_from(
        [
            "rnn",
            "lstm",
            "gru",
            "equations",
            "cells@cpu/float64",
            "module@",
            "3,2,2",
            "0.5",
            "1",
            "tanh",
            "relu",
            "zeros",
            "float64",
            "bfloat16",
            "cpu",
            "cuda",
            "cuda:9",
            "mps",
            "xpu:1",
            "auto",
        ]
    ),
    st.sampled_from(["json", "tsv", "markdown", "module", "cells", "both"]),
    st.sampled_from(
        [GRU, RUN, f"recorded:{RUN}", f"recorded:{GRU}", f"{OWN}:Lstm", f"{OWN}:Raises", f"{OWN}:Nobody", f"{OWN}"]
    ),
    st.text(max_size=5),
)
TAKES_VALUE = [
    *("--kind", "--input-size", "--hidden-size", "--layers", "--num-layers", "--nonlinearity"),
    *("--seq-len", "--seq-length", "--batch", "--batch-size", "--h0", "--seed"),
    *("--device", "--dtype", "--threads", "--format", "--left", "--right", "--rtol", "--atol", "--path", "--layres"),
    *("--lengths", "--dropout", "--proj-size", "--item", "--step", "--export", "--chunk"),
    *("--weights", "--prefix", "--right-weights", "--right-prefix", "--inputs", "--record", "--to", "--out"),
    *("--random", "--configs", "--report"),
]
SWITCHES = [
    *("--bias", "--no-bias", "--batch-first", "--json", "-q", "--quiet", "--dry-run", "--help", "-h", "--version"),
    *("--debug=1", "--no-json", "-z", "--memory-check", "--help-all", "-V", "--verbose", "--gpu", "-o", "--tol=1"),
    *("--show-completion", "--hidden_size", "--lstm", "-v", "-q=1", "--json=1", "diff", "model.pt"),
    *("--bidirectional", "--unbatched", "--train", "--grad", "--power", "--resync", "--no-reference"),
    *("--values", "--map", "--force", "--resume", "--no-tf32", "--tf32", "--no-cudnn", "--no-onednn"),
]
WORDS = st.one_of(
    st.tuples(st.sampled_from(TAKES_VALUE), VALUES),
    st.tuples(st.sampled_from(TAKES_VALUE), VALUES).map(lambda pair: ("=".join(pair),)),
    st.sampled_from(SWITCHES).map(lambda word: (word,)),
    VALUES.map(lambda word: (word,)),
)
COMMANDS = st.sampled_from(
    [
        ("shapes",),
        ("compare",),
        ("trace",),
        ("code",),
        ("code", "--with-weights", GRU),
        ("trace", "--weights", GRU),
        ("weights", GRU),
        ("convert", GRU),
        ("weights",),
        ("sweep",),
        ("sweep", "--random", "2"),
        ("compare", "--weights", GRU),
        (),
    ]
)
LINES = st.tuples(COMMANDS, st.lists(WORDS, max_size=6)).map(lambda parts: [*parts[0], *chain(*parts[1])])


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
def test_any_list_of_flags_is_answered(words: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    assert code in (0, 1, 2)
    assert "Traceback" not in err.getvalue()
    assert re.search(r"unexpected (?!argument)", err.getvalue()) is None
    if code == 2:
        assert err.getvalue().count("\n") <= 1
    if "--json" in words and out.getvalue() and not {"--help", "-h", "--help-all", "--version", "-V"} & set(words):
        assert json.loads(out.getvalue())["schema"] == 1
