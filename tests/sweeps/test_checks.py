"""Sweeps that check one module: rows, what they say together, and the smallest sizes at which a relation breaks."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Answer, Cli, lines_in, ranks

import rnnscope
from rnnscope import RnnscopeError
from rnnscope.sweeps.boundaries import boundaries_of
from rnnscope.sweeps.checked import CheckSweep, check_finding
from rnnscope.sweeps.plan import Configuration, plan_of, read_rerun
from rnnscope.sweeps.rows import line_of, read_finding
from rnnscope.sweeps.sweep import row_of

OWN = """
import torch
from torch import nn

class Sound(nn.GRU):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)

class Long(Sound):
    def forward(self, x, hx=None):  # looks ahead where there are more than 20 steps
        y, h = super().forward(x, hx)
        return (y + x.mean((0, 2), keepdim=True) if len(x) > 20 else y), h

class Mixes(Sound):
    def forward(self, x, hx=None):  # items meet where there are more than 3
        y, h = super().forward(x, hx)
        return (y + y.mean(1, keepdim=True) if x.dim() == 3 and x.shape[1] > 3 else y), h

class TwoLayers(nn.GRU):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, 2)

    def forward(self, x, hx=None):
        y, h = super().forward(x, hx)
        return y + x.mean((0, 2), keepdim=True), h

class Chaotic(Sound):
    def forward(self, x, hx=None):  # one rounding error makes anything of it
        y, h = super().forward(x, hx)
        for _ in range(100):
            y = 4 * y.abs().clamp(max=1) * (1 - y.abs().clamp(max=1))
        return y, h

class Refuses(Sound):
    def forward(self, x, hx=None):
        if len(x) > 2:
            raise ValueError("too long")
        return super().forward(x, hx)

class Scaled(Sound):
    def __init__(self, input_size, hidden_size, scale):
        super().__init__(input_size, hidden_size)
        if scale != 3:
            raise ValueError(f"scale is {scale}")
"""

ONLY = ("--only", "item_isolation,causality")

SMALL = ("--input-size", "1", "--hidden-size", "1")
"""So that nothing is left to be made smaller but L and N."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the classes of a user, which is the working directory."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def swept(cli: Cli, name: str, *words: str) -> Answer:
    return cli("sweep", "--check", f"own.py:{name}", *words)


def test_every_configuration_has_a_row(own: Path, cli: Cli) -> None:
    swept(cli, "Long", *SMALL, "--seq-len", "2,25", "--batch", "1,3", *ONLY, "--out", "f")
    found = [(row["spec"]["seq_len"], row["spec"]["batch_size"], row["verdict"]) for row in rows_in(own / "f")]
    assert found == [(2, 1, "holds"), (2, 3, "holds"), (25, 1, "broken"), (25, 3, "broken")]


def test_a_row_is_the_document_of_its_command(own: Path, cli: Cli) -> None:
    swept(cli, "Long", *SMALL, "--seq-len", "21", *ONLY, "--out", "f")
    (row,) = rows_in(own / "f")
    facts = json.loads(cli(*shlex.split(row["rerun"])[1:], "--json").out)
    del facts["environment"]
    assert row == facts | {"status": "checked", "message": None, "rerun": row["rerun"]}


def test_a_row_looks_for_no_smallest(own: Path, cli: Cli) -> None:
    swept(cli, "Long", *SMALL, "--seq-len", "21", *ONLY, "--out", "f")
    (row,) = rows_in(own / "f")
    assert row["rerun"].endswith("own.py:Long --only item_isolation,causality --no-shrink")
    assert row["smallest"] == []


ROWS: dict[str, tuple[list[str], str, str | None]] = {
    "not comparable": (["Sound", "--unbatched", "on"], "not_comparable", "--unbatched leaves nothing to ask of items"),
    "a contradiction": (
        ["Sound", "--kind", "gru", "--proj-size", "3"],
        "not_comparable",
        "--proj-size is 3, but nn.GRU",
    ),
    "no such class": (["Nothing"], "failed", "own.py:Nothing: own.py has no Nothing"),
    "what is refused": (["Refuses"], "failed", "own.py:Refuses raised ValueError: too long"),
    "no such network": (["Sound", "--layers", "3"], "failed", "own.py:Sound has num_layers=1 and takes no other"),
    "a default that is asked for": (["Sound", "--layers", "2"], "failed", "own.py:Sound has num_layers=1 and takes no"),
    "too large": (["Sound", "--hidden-size", "100000000"], "failed", "there is too little memory for it"),
    "checked": (["Sound"], "checked", None),
}


@pytest.mark.parametrize(("words", "status", "message"), ROWS.values(), ids=ROWS)
def test_a_row_says_how_far_it_came(own: Path, cli: Cli, words: list[str], status: str, message: str | None) -> None:
    swept(cli, *words, *ONLY, "--out", "f")
    (row,) = rows_in(own / "f")
    assert row["status"] == status
    assert (row["message"] or "").startswith(message or "")
    assert (row["message"] is None) == (message is None)


def test_a_row_that_failed_is_told_by_its_command(own: Path, cli: Cli) -> None:
    swept(cli, "Sound", "--layers", "2", *ONLY, "--out", "f")
    (row,) = rows_in(own / "f")
    answer = cli(*shlex.split(row["rerun"])[1:])
    assert (answer.code, answer.err) == (2, f"rnnscope: {row['message']}\n")


EXIT_CODES = {
    "all hold": (["Sound", "--seq-len", "2,3"], 0),
    "one is broken": (["Long", "--seq-len", "2,21"], 1),
    "one is undecided": (["Chaotic", "--seq-len", "2"], 2),
    "one fails": (["Refuses", "--seq-len", "2,3"], 2),
    "one makes no sense": (["Sound", "--unbatched", "both"], 0),
    "nothing can be checked": (["Sound", "--unbatched", "on"], 2),
    "one is broken and one fails": (["Long,own.py:Nothing", "--seq-len", "21"], 1),
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("words", "code"), EXIT_CODES.values(), ids=EXIT_CODES)
def test_the_exit_code_is_that_of_check(cli: Cli, words: list[str], code: int) -> None:
    assert swept(cli, *words, *ONLY).code == code


@pytest.mark.usefixtures("own")
def test_the_smallest_is_found_exactly(cli: Cli) -> None:
    """The class breaks at more than 20 steps, whatever else there is."""
    found = json.loads(swept(cli, "Long", "--seq-len", "3,90", "--batch", "2,6", *ONLY, "--json").out)
    spec = "--input-size 1 --hidden-size 1 --layers 1 --seq-len 21 --batch 1 --threads 1"
    assert found["smallest_broken"] == f"rnnscope check {spec} own.py:Long --only causality --no-shrink"


@pytest.mark.usefixtures("own")
def test_the_smallest_breaks_by_its_own_line(cli: Cli) -> None:
    """Of a class whose layers nobody can choose no layers are said."""
    found = json.loads(swept(cli, "TwoLayers", *SMALL, "--seq-len", "4", *ONLY, "--json").out)
    assert "--layers" not in found["smallest_broken"]
    assert cli(*shlex.split(found["smallest_broken"])[1:], "-q").code == 1


@pytest.mark.usefixtures("own")
def test_the_page_says_what_breaks_and_from_where_on(cli: Cli) -> None:
    lines = swept(cli, "Mixes", *SMALL, "--seq-len", "4,2", "--batch", "2,5,9", *ONLY).out.splitlines()
    (relation,) = (line.split(maxsplit=2) for line in lines if line.startswith("item_isolation"))
    assert relation == ["item_isolation", "4", "L = 2, N = 5"]
    assert "Verdict: of 6 checks 4 found a broken relation." in lines
    assert sum(line.startswith("Broken: rnnscope check ") for line in lines) == 3
    assert "Left out: 1 line like these: --format tsv lists all." in lines
    assert any(line.startswith("Smallest that breaks item_isolation: rnnscope check ") for line in lines)


@pytest.mark.usefixtures("own")
def test_the_page_says_why_nothing_can_be_said(cli: Cli) -> None:
    out = swept(cli, "Chaotic", "--seq-len", "2", *ONLY).out
    assert "Verdict: of 1 check none found a broken relation; 1 undecided." in out
    assert "Undecided: 1, since item_isolation: rounding alone moves the first step too far" in out


@pytest.mark.usefixtures("own")
def test_the_document_counts_configurations(cli: Cli) -> None:
    found = json.loads(swept(cli, "Long", "--seq-len", "2,21", "--batch", "1,3", *ONLY, "--json").out)
    assert found["counts"] == {"holds": 2, "broken": 2, "undecided": 0, "not_comparable": 0, "failed": 0}
    rerun = "rnnscope check --seq-len 21 --batch 1 --threads 1 own.py:Long --only item_isolation,causality --no-shrink"
    first = {"relation": "causality", "count": 2, "seq_len": 21, "batch_size": 1, "rerun": rerun}
    assert (found["broken"], found["first_broken"]) == ([first], rerun)
    assert [each["broken"] for each in found["configurations"]] == [[], [], ["causality"], ["causality"]]
    assert [(each["flag"], each["value"], each["counts"]["broken"]) for each in found["axes"]] == [
        ("--seq-len", "2", 0),
        ("--seq-len", "21", 2),
        ("--batch", "1", 1),
        ("--batch", "3", 1),
    ]


@pytest.mark.usefixtures("own")
def test_tsv_has_a_row_for_each(cli: Cli) -> None:
    out = swept(cli, "Long", "--seq-len", "2,21", "--only", "causality,chunked", "--format", "tsv").out
    head, sound, broken = (line.split("\t") for line in out.splitlines())
    assert head == ["verdict", "broken", "times_bound", "rerun", "message"]
    assert (sound[0], sound[1], float(sound[2]) < 1) == ("holds", "", True)
    assert (broken[0], broken[1], float(broken[2]) > 1e6) == ("broken", "causality", True)


FIGURES: dict[str, tuple[list[tuple[str, str, object, object]], float | None, tuple[str, ...]]] = {
    "the greatest share": ([("causality", "holds", 1e-9, 1e-8), ("layout", "holds", 1e-12, 2e-12)], 0.5, ()),
    "nothing of nothing": ([("inputs_kept", "holds", 0.0, 0.0)], 0.0, ()),
    "something of nothing": ([("inputs_kept", "broken", 0.5, 0.0)], float("inf"), ("inputs_kept",)),
    "no figure": ([("last_state", "holds", None, None)], None, ()),
    "what rests on another": ([("layout", "holds", 1.0, 2.0), ("chunked", "undecided", 9.0, 1.0)], 0.5, ()),
    "two that are broken": (
        [("layout", "broken", "inf", 2.0), ("causality", "broken", 1.0, 0.5)],
        float("inf"),
        ("layout", "causality"),
    ),
}


@pytest.mark.parametrize(("told", "share", "broken"), FIGURES.values(), ids=FIGURES)
def test_a_finding_has_the_worst_figure(
    told: list[tuple[str, str, object, object]], share: float | None, broken: tuple[str, ...]
) -> None:
    asked = Configuration({"check": "own.py:Net"})
    names = ("relation", "outcome", "max_abs", "bound")
    relations = [dict(zip(names, each, strict=True)) | {"message": "why"} for each in told]
    row = row_of(asked) | {"status": "checked", "verdict": "holds", "relations": relations}
    found = check_finding(asked, row)
    assert (found.share, found.broken) == (share, broken)


@pytest.mark.usefixtures("own")
def test_arguments_and_names_hold_for_every_configuration(cli: Cli) -> None:
    words = (
        "--seq-len",
        "2,3",
        "--arg",
        "scale=3",
        "--name",
        "input=x",
        *ONLY,
        "--format",
        "tsv",
    )
    (_, *rows) = (line.split("\t") for line in swept(cli, "Scaled", *words).out.splitlines())
    assert [row[0] for row in rows] == ["holds", "holds"]
    said = "own.py:Scaled --only item_isolation,causality --no-shrink --arg scale=3 --name input=x"
    assert all(row[3].endswith(said) for row in rows)


@pytest.mark.usefixtures("own")
def test_the_line_of_a_sweep_gives_it_again(cli: Cli) -> None:
    out = swept(cli, "Scaled", "--seq-len", "2,3", "--arg", "scale=3", *ONLY).out
    line = out.rpartition("Rerun: ")[2].strip()
    assert cli(*shlex.split(line)[1:]).out == out


@pytest.mark.usefixtures("own")
def test_modules_are_an_axis(cli: Cli) -> None:
    found = json.loads(swept(cli, "Sound,own.py:Long", "--seq-len", "21", *ONLY, "--json").out)
    assert [(each["flag"], each["value"], each["counts"]["broken"]) for each in found["axes"]] == [
        ("--check", "own.py:Long", 1),
        ("--check", "own.py:Sound", 0),
    ]


def test_python_takes_it_as_other_axes(own: Path) -> None:
    axes = {"check": ("own.py:Long",), "seq_len": (2, 21), "only": (("causality",),)}
    found = rnnscope.sweep(axes, out=str(own / "f"))
    assert isinstance(found, CheckSweep)
    assert [(each.outcome, each.cause) for each in found.findings] == [("holds", None), ("broken", "causality")]
    assert found.exit_code == 1


def test_what_is_there_is_not_checked_again(own: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    swept(cli, "Sound", "--seq-len", "2,5", *ONLY, "--out", "f")
    asked: list[str] = []

    def noted(configuration: Configuration) -> dict[str, Any]:
        asked.append(configuration.rerun)
        return row_of(configuration)

    monkeypatch.setattr("rnnscope.sweeps.sweep.row_of", noted)
    answer = swept(cli, "Sound", "--seq-len", "4,5", *ONLY, "--out", "f", "--resume", "--json")
    line = "rnnscope check --seq-len 4 --threads 1 own.py:Sound --only item_isolation,causality --no-shrink"
    assert asked == [line]
    assert json.loads(answer.out)["counts"]["holds"] == 2
    assert len(rows_in(own / "f")) == 3


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("other", [("Long",), ("Sound", "--arg", "a=1"), ("Sound", "--skip", "layout")], ids=str)
def test_another_module_or_argument_is_another_configuration(cli: Cli, other: tuple[str, ...]) -> None:
    swept(cli, "Sound", "--seq-len", "2", *ONLY, "--out", "f")
    swept(cli, other[0], "--seq-len", "2", *ONLY, *other[1:], "--out", "f", "--resume")
    assert len(rows_in(Path("f"))) == 2


def test_a_torn_row_is_mended(own: Path, cli: Cli) -> None:
    swept(cli, "Sound", "--seq-len", "2,3", *ONLY, "--out", "f")
    whole = (own / "f").read_bytes()
    (own / "f").write_bytes(whole[:-200])
    assert swept(cli, "Sound", "--seq-len", "2,3", *ONLY, "--out", "f", "--resume").code == 0
    assert (own / "f").read_bytes() == whole


@pytest.mark.usefixtures("own")
def test_a_file_of_comparisons_is_not_gone_on_with_by_checks(cli: Cli) -> None:
    cli("sweep", "--seq-len", "2", "--out", "f")
    answer = swept(cli, "Sound", "--seq-len", "2", *ONLY, "--out", "f", "--resume")
    message = "f, line 1: a comparison, which --check does not go on with; name another file"
    assert (answer.code, answer.err) == (2, f"rnnscope: {message}\n")


@pytest.mark.usefixtures("own")
def test_a_file_of_checks_is_not_gone_on_with_by_comparisons(cli: Cli) -> None:
    swept(cli, "Sound", "--seq-len", "2", *ONLY, "--out", "f")
    answer = cli("sweep", "--seq-len", "2", "--out", "f", "--resume")
    message = "f, line 1: a check, with which a sweep goes on that has --check; name another file"
    assert (answer.code, answer.err) == (2, f"rnnscope: {message}\n")


@pytest.mark.usefixtures("own")
def test_the_report_says_what_the_sweep_said(cli: Cli) -> None:
    """But for the smallest, for which something would have to be run, and where it ran."""
    told = swept(cli, "Long,own.py:Nothing", "--seq-len", "2,21", *ONLY, "--out", "f")
    report = cli("sweep", "--report", "f")
    kept = [line for line in told.out.splitlines() if not line.startswith(("Smallest", "Run:", "Rerun:"))]
    assert report.out.splitlines() == [*kept, "Rerun: rnnscope sweep --report f"]
    assert report.code == told.code == 1


@pytest.mark.usefixtures("own")
def test_a_report_of_both_kinds_is_refused(cli: Cli) -> None:
    rows = (row_of(Configuration(values)) for values in ({"check": "own.py:Nothing"}, {"seq_len": 2}))
    Path("f").write_bytes(b"".join(map(line_of, rows)))
    answer = cli("sweep", "--report", "f")
    assert (answer.code, answer.err.startswith("rnnscope: f, line 2: a comparison")) == (2, True)


NO_ROWS: dict[str, dict[str, Any]] = {
    "no verdict": {"verdict": None},
    "a verdict of comparisons": {"verdict": "identical"},
    "the status of comparisons": {"status": "compared"},
    "a message that is none": {"message": {}},
    "no relations": {"relations": None},
    "a relation that is none": {"relations": ["causality"]},
    "a figure that is none": {"relations": [{"relation": "layout", "outcome": "holds", "max_abs": "huge", "bound": 1}]},
    "no sizes": {"spec": {}},
    "another command line": {"rerun": "rnnscope compare"},
    "another command": {"command": "compare", "left": "module", "right": "cells"},
    "nothing that is undecided": {"verdict": "undecided"},
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("change", NO_ROWS.values(), ids=NO_ROWS)
def test_a_row_that_was_changed_is_refused(cli: Cli, change: dict[str, Any]) -> None:
    row = row_of(Configuration({"check": "own.py:Sound", "only": ("causality",), "shrink": False}))
    Path("f").write_bytes(line_of(row | change))
    answer = cli("sweep", "--report", "f")
    assert (answer.code, answer.err.startswith("rnnscope: f, line 1: no row of a sweep")) == (2, True)


def test_a_row_in_a_file_says_what_the_row_says(own: Path) -> None:
    asked = Configuration({"check": "own.py:Long", "seq_len": 21, "only": ("causality",), "shrink": False})
    row = row_of(asked)
    assert read_finding(json.loads(line_of(row))) == check_finding(asked, row)


REFUSED = {
    "--left cells": "--check asks one module, and --left is a flag of comparisons; leave one of the two out",
    "--right cells": "--check asks one module, and --right is a flag of comparisons; leave one of the two out",
    "--grad on": "--check asks one module, and --grad is a flag of comparisons; leave one of the two out",
    "--weights a.pt": "--check asks one module, and --weights is a flag of comparisons; leave one of the two out",
    "--right-arg a=1": "--check asks one module, and --right-arg is a flag of comparisons; leave one of the two out",
    "--timeout 3": "--check asks one module, and --timeout is a flag of comparisons; leave one of the two out",
    "--only layout --skip layout": "--skip leaves nothing of --only to ask for; leave one of the two out",
    "--no-shrink": "no such flag: --no-shrink; it is a flag of check",
    "--random 3 --left cells": "--check asks one module, and --left is a flag of comparisons; leave one of the two out",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=REFUSED)
def test_flags_that_do_not_go_with_a_check_are_refused(cli: Cli, words: str, message: str) -> None:
    assert cli("sweep", "--check", "own.py:Net", *words.split()) == Answer(2, "", f"rnnscope: {message}\n")


@pytest.mark.parametrize("words", ["--only layout", "--skip layout", "--arg a=1", "--name n=x", "--supports on"])
def test_flags_of_a_check_need_one(cli: Cli, words: str) -> None:
    message = f"{words.split()[0]} is given without --check; add --check FILE.py:Class"
    assert cli("sweep", *words.split()) == Answer(2, "", f"rnnscope: {message}\n")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("value", "hint"), [("own.py", "name the class in it, such as own.py:MyLSTM"), ("x", "try ")])
def test_what_names_no_class_is_refused(cli: Cli, value: str, hint: str) -> None:
    message = f"--check is '{value}', but it must be FILE.py:Class or package.module:Class; {hint}"
    answer = cli("sweep", "--check", value)
    assert (answer.code, answer.err.startswith(f"rnnscope: {message}")) == (2, True)


@pytest.mark.parametrize("line", [{"left": "cells"}, {"grad": True}], ids=str)
def test_lines_that_compare_do_not_go_with_a_check(line: dict[str, Any]) -> None:
    with pytest.raises(RnnscopeError, match=r"--check asks one module, and --(left|grad) is a flag of comparisons"):
        plan_of({"check": ("own.py:Net",)}, lines=[line])


def test_lines_that_check_and_lines_that_compare_do_not_go_together() -> None:
    with pytest.raises(RnnscopeError, match="some lines of --configs check a module, and others compare two sides"):
        plan_of({}, lines=[{"check": "own.py:Net"}, {"kind": "lstm"}])


def test_lines_may_name_the_module(own: Path, cli: Cli) -> None:
    (own / "lines").write_text('{"check": "own.py:Sound", "seq_len": 2}\n{"check": "own.py:Long", "seq_len": 21}\n')
    out = cli("sweep", "--configs", "lines", "--only", "causality", "--format", "tsv").out
    assert [line.split("\t")[0] for line in out.splitlines()] == ["verdict", "holds", "broken"]


def test_the_rows_of_a_sweep_can_be_swept_again(own: Path, cli: Cli) -> None:
    swept(cli, "Long", "--seq-len", "2,21", "--layers", "1", *ONLY, "--out", "f")
    assert cli("sweep", "--configs", "f", "--out", "g", "-q").code == 1
    assert (own / "g").read_bytes() == (own / "f").read_bytes()


def test_so_many_are_drawn(own: Path, cli: Cli) -> None:
    words = ("--seq-len", "1..9", "--random", "3", "--only", "causality", "--out", "f")
    assert swept(cli, "Sound", *words).code == 0
    assert [row["spec"]["seed"] for row in rows_in(own / "f")] == [0, 1, 2]


def test_boundaries_are_checked_too() -> None:
    added, left_out = boundaries_of(plan_of({"check": ("own.py:Net",), "only": (("causality",),)}))
    reruns = [each.configuration.rerun for each in added]
    assert "rnnscope check --seq-len 257 --threads 1 own.py:Net --only causality --no-shrink" in reruns
    assert ("--seq-len", (65_535, 65_536, 65_537)) in [(each.flag, each.sizes) for each in left_out]


def test_boundaries_of_what_makes_no_sense_are_none() -> None:
    assert boundaries_of(plan_of({"check": ("own.py:Net",), "unbatched": (True,)})) == ([], ())


def values() -> st.SearchStrategy[dict[str, Any]]:
    """Values of flags, also those that contradict each other."""
    size = st.integers(1, 40)
    relations = st.lists(st.sampled_from(["causality", "layout", "packed"]), min_size=1, unique=True).map(tuple)
    fields = {
        "kind": st.sampled_from(["rnn", "lstm", "gru"]),
        **dict.fromkeys(("input_size", "num_layers", "seq_len", "batch_size"), size),
        "lengths": st.lists(size, min_size=1, max_size=4).map(tuple),
        **dict.fromkeys(("bias", "bidirectional", "supports", "shrink", "train"), st.booleans()),
        "only": relations,
        "skip": relations,
        "args": st.sampled_from([("scale=3",), ("scale=3", "text=a b")]),
        "names": st.just(("n=lengths",)),
    }
    modules = st.sampled_from(["own.py:Net", "my file.py:Net", "torch.nn:GRU"])
    return st.fixed_dictionaries({"check": modules}, optional=fields)


@given(values())
def test_a_command_line_says_it_all(said: dict[str, Any]) -> None:
    asked = Configuration(said)
    assert Configuration(read_rerun(asked.rerun)) == asked


def test_what_is_said_of_a_network_is_said_though_it_is_the_default() -> None:
    line = Configuration({"check": "own.py:Net", "num_layers": 2, "seq_len": 3, "bidirectional": False}).rerun
    assert line == "rnnscope check --layers 2 own.py:Net"


@pytest.mark.parametrize(
    "line",
    [
        "rnnscope check",
        "rnnscope check own.py",
        "rnnscope check own.py:Net --left cells",
        "rnnscope compare --only layout",
        "rnnscope compare own.py:Net",
    ],
)
def test_what_is_no_check_is_refused(line: str) -> None:
    with pytest.raises(RnnscopeError):
        read_rerun(line)


def test_two_ranks_give_the_rows_of_one_process(own: Path, cli: Cli) -> None:
    words = ["sweep", "--check", "own.py:Long", "--seq-len", "1,9,20,21,30", "--batch", "1,4", *ONLY]
    alone = cli(*words, "--out", "alone")
    together = ranks(*words, "--out", "together")
    assert lines_in(own / "together") == lines_in(own / "alone")
    assert together.out == alone.out.replace(".\nRerun", ", shared by 2 ranks of torchrun.\nRerun")
    assert (alone.code, together.code) == (1, 0)
    assert cli("sweep", "--report", "together").code == 1
