"""Sweeps: each row is the comparison that its command line makes, whatever else was run, stopped or resumed."""

import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Answer, Cli

import rnnscope
from rnnscope import Spec
from rnnscope.subjects import builtin as subjects
from rnnscope.subjects.builtin import run_cells
from rnnscope.sweeps.plan import Configuration
from rnnscope.sweeps.result import OUTCOMES, finding
from rnnscope.sweeps.rows import line_of, read_finding
from rnnscope.sweeps.sweep import TOO_LARGE, row_of
from rnnscope.verdict.deviations import DEVIATIONS

SWEEP = [
    "sweep",
    "--kind",
    "rnn,lstm,gru",
    "--layers",
    "1,2",
    "--bidirectional",
    "both",
    "--proj-size",
    "0,4",
    "--right",
    "cells,equations",
]
"""48 configurations, of which 28 make no sense."""


def lines_in(path: Path) -> set[bytes]:
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(set(lines))
    return set(lines)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> set[bytes]:
    """The rows of the sweep, run once from end to end."""
    from rnnscope.cli.shell import run

    path = tmp_path_factory.mktemp("unbroken") / "f"
    assert run([*SWEEP, "--out", str(path), "-q"]) == 0
    return lines_in(path)


def test_every_combination_has_a_row(unbroken: set[bytes]) -> None:
    rows = [json.loads(line) for line in unbroken]
    counts = [sum(row["status"] == status for row in rows) for status in ("compared", "not_comparable", "failed")]
    assert counts == [28, 20, 0]


def test_a_row_is_the_document_of_its_command(unbroken: set[bytes], cli: Cli) -> None:
    row = json.loads(next(line for line in sorted(unbroken) if b"--kind lstm" in line and b'"compared"' in line))
    facts = json.loads(cli(*row["rerun"].split()[1:], "--json").out)
    del facts["environment"]
    assert row == facts | {"status": "compared", "message": None, "rerun": row["rerun"]}


def test_a_row_that_is_not_comparable_says_why(unbroken: set[bytes], cli: Cli) -> None:
    row = json.loads(next(line for line in sorted(unbroken) if b'"not_comparable"' in line))
    answer = cli(*row["rerun"].split()[1:])
    assert (answer.code, answer.err) == (2, f"rnnscope: {row['message']}\n")


def test_the_order_of_lists_changes_no_row(unbroken: set[bytes], cli: Cli, tmp_path: Path) -> None:
    other = [
        "--right",
        "equations,cells",
        "--proj-size",
        "4,0",
        "--bidirectional",
        "on,off",
        "--layers",
        "2,1",
        "--kind",
        "gru,lstm,rnn",
    ]
    assert cli("sweep", *other, "--out", str(tmp_path / "f"), "-q").code == 0
    assert lines_in(tmp_path / "f") == unbroken


KILLED = """
import os, random, signal, sys, time
import torch, rnnscope.sweeps.sweep
from rnnscope.cli.shell import run

out, ended, generator, killed = sys.argv[1], sys.argv[1] + ".ended", random.Random(3), 0
row_of = rnnscope.sweeps.sweep.row_of

def noted(configuration):
    row = row_of(configuration)
    with open(ended, "ab", buffering=0) as stream:
        stream.write(b".")
    return row

def rows():
    return open(out, "rb").read().count(b"\\n") if os.path.exists(out) else 0

rnnscope.sweeps.sweep.row_of = noted
while killed < 20:
    before = rows()
    open(ended, "wb").close()
    child = os.fork()  # nothing has been computed in this process, so that a copy of it may compute
    if child == 0:
        os._exit(run([*sys.argv[2:], "--out", out, "--resume", "-q"]))
    time.sleep(generator.uniform(0.001, 0.09))
    os.kill(child, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        killed += 1
        print(before + os.path.getsize(ended) - rows())
    elif not generator.randrange(2):  # it came to its end: begin anew, sometimes with a part of what it wrote
        os.unlink(out)
    else:
        os.truncate(out, generator.randrange(os.path.getsize(out)))
sys.exit(run([*sys.argv[2:], "--out", out, "--resume", "-q"]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills")
def test_a_sweep_that_is_killed_20_times_and_resumed_has_the_same_rows(unbroken: set[bytes], tmp_path: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "f"), *SWEEP]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    lost = [int(line) for line in done.stdout.split()]  # configurations that ended and have no row, at each kill
    assert len(lost) == 20
    assert set(lost) <= {0, 1}
    assert lines_in(tmp_path / "f") == unbroken


def test_what_is_there_is_not_compared_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = str(tmp_path / "f")
    rnnscope.sweep({"num_layers": (1, 3)}, out=out)
    compared: list[str] = []

    def noted(configuration: Configuration) -> dict[str, Any]:
        compared.append(configuration.rerun)
        return row_of(configuration)

    monkeypatch.setattr("rnnscope.sweeps.sweep.row_of", noted)
    found = rnnscope.sweep({"num_layers": (4, 3, 2, 1)}, out=out, resume=True)
    assert found is not None
    assert compared == ["rnnscope compare --layers 4 --threads 1", "rnnscope compare --threads 1"]
    assert [each.configuration.value("num_layers") for each in found.findings] == [4, 3, 2, 1]


def test_a_list_may_be_given_in_parts(cli: Cli) -> None:
    facts = json.loads(cli("sweep", "--hidden-size", "3,5", "--hidden-size", "4,5", "--json").out)
    assert [each["value"] for each in facts["axes"]] == ["3", "4", "5"]


def test_a_switch_of_compare_is_told_how_it_is_said_here(cli: Cli) -> None:
    assert cli("sweep", "--no-reference").err == "rnnscope: no such flag: --no-reference; use --reference off\n"


def test_what_is_asked_for_twice_is_compared_once(cli: Cli, tmp_path: Path) -> None:
    cli("sweep", "--lengths", "3,2/3,2,2", "--seq-len", "3", "--layers", "1,1", "--out", str(tmp_path / "f"))
    assert len(lines_in(tmp_path / "f")) == 2


def test_rows_of_other_sweeps_stay_and_are_not_counted(cli: Cli, tmp_path: Path) -> None:
    out = str(tmp_path / "f")
    cli("sweep", "--kind", "gru", "--left", "cells", "--out", out)
    answer = cli("sweep", "--kind", "rnn", "--left", "cells", "--out", out, "--resume", "--json")
    assert json.loads(answer.out)["counts"]["identical"] == 1
    assert json.loads(cli("sweep", "--report", out, "--json").out)["counts"]["identical"] == 2


@pytest.mark.parametrize("line", ["--configs /dev/zero", "--configs - < /dev/zero"])
def test_a_line_without_end_is_no_configuration(bash: Cli, line: str) -> None:
    message = 'line 1 of --configs has more than 1,048,576 signs; write one object a line: {"kind": "lstm"}'
    assert bash(f"rnnscope sweep {line}") == Answer(2, "", f"rnnscope: {message}\n")


def test_lines_without_end_are_no_configurations(bash: Cli) -> None:
    message = "--configs has more than 1,000,000 lines or 1,073,741,824 signs; split it"
    assert bash("yes '{}' | rnnscope sweep --configs -") == Answer(2, "", f"rnnscope: {message}\n")


def test_lines_come_from_stdin(bash: Cli) -> None:
    lines = r'{"kind": "lstm"}\n\n{"kind": "gru", "lengths": [3, 1]}\n'
    answer = bash(f"printf '{lines}' | rnnscope sweep --configs - --bias both --format tsv | cut -f 4")
    assert answer.out.splitlines() == [
        "rerun",
        "rnnscope compare --kind lstm --no-bias --threads 1",
        "rnnscope compare --kind lstm --threads 1",
        "rnnscope compare --kind gru --no-bias --batch 2 --lengths 3,1 --threads 1",
        "rnnscope compare --kind gru --batch 2 --lengths 3,1 --threads 1",
    ]


def test_the_rows_of_a_sweep_can_be_swept_again(unbroken: set[bytes], cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"".join(sorted(unbroken)))
    cli("sweep", "--configs", str(tmp_path / "rows"), "--out", str(tmp_path / "f"), "-q")
    assert lines_in(tmp_path / "f") == unbroken


def test_a_whole_number_may_stand_for_a_fraction(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"dropout": 1}\n{"dropout": 1.0}\n')
    assert cli("sweep", "--configs", str(tmp_path / "lines"), "--out", str(tmp_path / "f")).code == 0
    (row,) = (json.loads(line) for line in lines_in(tmp_path / "f"))
    assert row["rerun"] == "rnnscope compare --dropout 1.0 --threads 1"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["not there", "no text"])
def test_lines_that_cannot_be_read_are_trouble(cli: Cli, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    answer = cli("sweep", "--configs", str(tmp_path / "f"))
    assert answer.code == 2
    assert answer.err.startswith(f"rnnscope: cannot read {tmp_path / 'f'} (")


def deviation(name: str) -> subjects.Subject:
    return next(each for each in DEVIATIONS if each.name == name).run


ONE = "reset-before-the-matmul"


def exit_codes() -> dict[str, tuple[list[str], int]]:
    return {
        "the same": (["--kind", "rnn,gru"], 0),
        "not comparable beside the same": (["--kind", "lstm", "--proj-size", "0,3"], 0),
        "one differs": (["--right", "cells,equations"], 1),
        "one differs and one fails": (["--right", "equations,nowhere.py:Own"], 1),
        "one fails": (["--right", "cells,nowhere.py:Own"], 2),
        "no such device": (["--device", "cpu,cuda:99"], 2),
        "nothing can be compared": (["--kind", "gru", "--proj-size", "3"], 2),
        "too large": (["--hidden-size", "5,100000000"], 2),
        "a deviation that the other kinds cannot have": (["--kind", "rnn,gru", "--right", f"deviation:{ONE}"], 1),
        "a deviation that no kind has": (["--kind", "rnn,lstm", "--right", f"deviation:{ONE}"], 2),
    }


@pytest.mark.parametrize(("words", "code"), exit_codes().values(), ids=exit_codes())
def test_the_exit_code_is_that_of_compare(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, words: list[str], code: int
) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "equations", deviation("W_hh transposed"))
    assert cli("sweep", *words).code == code


def test_the_report_says_what_the_sweep_said(monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path) -> None:
    """But for the smallest Spec, for which something would have to be run, and where it ran."""
    monkeypatch.setitem(subjects.SUBJECTS, "equations", deviation("W_hh transposed"))
    out = str(tmp_path / "f")
    told = cli("sweep", "--kind", "rnn,lstm", "--proj-size", "0,3", "--right", "cells,equations", "--out", out)
    report = cli("sweep", "--report", out)
    own = re.compile("^(Smallest that differs|Run|Rerun): .*\n", re.MULTILINE)
    assert report.code == told.code == 1
    assert own.sub("", report.out) == own.sub("", told.out)
    assert "Smallest that differs: rnnscope compare --kind lstm --input-size 1 --hidden-size 2 " in told.out


def test_a_sweep_ends_with_what_explains_what_differs(cli: Cli, tmp_path: Path) -> None:
    out = str(tmp_path / "f")
    told = cli("sweep", "--kind", "rnn,gru", "--h0", "zeros,random", "--right", f"deviation:{ONE},cells", "--out", out)
    line = f"\nMore: rnnscope explain {ONE} zero-h0\nRun:"
    assert line in told.out
    assert line.removesuffix("Run:") in cli("sweep", "--report", out).out
    assert json.loads(cli("sweep", "--report", out, "--json").out)["more"] == [ONE.replace("-", " "), "zero h0"]


def test_a_sweep_in_which_nothing_is_wrong_names_what_it_cannot_see(cli: Cli) -> None:
    assert "More:" not in cli("sweep", "--kind", "rnn,gru").out
    assert "\nMore: rnnscope explain zero-h0\nRun:" in cli("sweep", "--h0", "zeros,random").out


@pytest.mark.parametrize("named", [[], ["no name"], [{}], None], ids=str)
def test_a_row_may_name_what_is_not_known(cli: Cli, tmp_path: Path, named: object) -> None:
    row = row_of(Configuration({})) | {"more": named}
    (tmp_path / "f").write_bytes(
        line_of({name: each for name, each in row.items() if each is not None or name != "more"})
    )
    answer = cli("sweep", "--report", str(tmp_path / "f"))
    assert answer.code == 0
    assert "More:" not in answer.out


def test_a_report_passes_over_a_torn_line(cli: Cli, tmp_path: Path) -> None:
    row = line_of(row_of(Configuration({})))
    (tmp_path / "f").write_bytes(row + row[:50])
    answer = cli("sweep", "--report", str(tmp_path / "f"), "--json")
    assert answer.code == 0
    assert len(json.loads(answer.out)["configurations"]) == 1


NO_ROWS: dict[str, dict[str, Any]] = {
    "no verdict": {"verdict": None},
    "another verdict": {"verdict": "sure"},
    "another status": {"status": "great"},
    "a verdict of what failed": {"status": "identical"},
    "a message that is none": {"message": {}},
    "no spec": {"spec": None},
    "no sizes": {"spec": {}},
    "a size that is none": {"spec": {"num_layers": "x"}},
    "no outputs": {"outputs": None},
    "a figure that is none": {"outputs": [{"max_abs": "huge"}]},
    "a command line that is none": {"rerun": 5},
    "another command line": {"rerun": "rm -rf /"},
}


@pytest.mark.parametrize("change", NO_ROWS.values(), ids=NO_ROWS)
@pytest.mark.parametrize("words", ["--report", "--resume --out"], ids=["to report", "to go on"])
def test_a_row_that_was_changed_is_refused_with_its_line(
    cli: Cli, tmp_path: Path, words: str, change: dict[str, Any]
) -> None:
    row = row_of(Configuration({"threads": 1}))
    content = line_of(row) + line_of(row | change)
    (tmp_path / "f").write_bytes(content)
    answer = cli("sweep", *words.split(), str(tmp_path / "f"))
    assert answer.code == 2
    assert answer.err.startswith(f"rnnscope: {tmp_path / 'f'}, line 2: ")
    assert (tmp_path / "f").read_bytes() == content


def test_a_report_of_nothing_is_trouble(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    answer = cli("sweep", "--report", str(tmp_path / "f"))
    assert (answer.code, answer.err) == (
        2,
        f"rnnscope: {tmp_path / 'f'} has no rows in it; name a file that rnnscope sweep --out wrote\n",
    )


def test_what_goes_wrong_with_one_is_told_in_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*given: object) -> subjects.Run:
        raise ZeroDivisionError("by 0")

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    found = rnnscope.sweep({"left": ("equations",), "right": ("cells", "equations")})
    assert found is not None
    outcomes = [(each.outcome, each.message) for each in found.findings]
    assert outcomes == [("failed", "unexpected ZeroDivisionError: by 0"), ("identical", None)]


def test_memory_that_runs_out_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: object) -> subjects.Run:
        raise MemoryError

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    row = row_of(Configuration({}))
    assert (row["status"], row["message"]) == ("failed", TOO_LARGE)


def test_how_much_memory_is_free_is_not_in_a_row() -> None:
    row = row_of(Configuration({"hidden_size": 10**8}))
    assert (row["status"], row["message"]) == ("failed", TOO_LARGE)


def test_what_ran_out_of_memory_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []

    def run(*given: object) -> subjects.Run:
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    gc.disable()
    try:
        assert row_of(Configuration({}))["message"] == TOO_LARGE
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


def test_a_gpu_that_is_broken_ends_the_sweep(monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path) -> None:
    """After an illegal access every call fails: rows of that would say nothing of their configurations."""

    def run(spec: Spec, *given: Any) -> subjects.Run:
        if spec.num_layers == 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return run_cells(spec, *given)

    monkeypatch.setitem(subjects.SUBJECTS, "cells", run)
    answer = cli("sweep", "--layers", "1,2,3", "--out", str(tmp_path / "f"))
    assert (answer.code, len(lines_in(tmp_path / "f"))) == (2, 1)
    assert answer.err.startswith("rnnscope: unexpected RuntimeError: CUDA error: an illegal memory access")


SETS = """
import torch
class Sets(torch.nn.RNN):
    def forward(self, x, hx):
        torch.backends.mkldnn.enabled = False
        return super().forward(x, hx)
"""


def test_what_a_class_sets_does_not_reach_the_next_row(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(SETS)
    cli("sweep", "--right", f"{tmp_path / 'sets.py'}:Sets,cells", "--out", str(tmp_path / "f"))
    rows = [json.loads(line) for line in (tmp_path / "f").read_text().splitlines()]
    assert json.loads(line_of(row_of(Configuration({"threads": 1})))) == rows[1]


def test_a_row_names_sides_and_device_as_they_were_asked_for() -> None:
    row = row_of(Configuration({"right": "module@cpu/float64", "device": "auto"}))
    assert (row["left"], row["right"], row["spec"]["device"]) == ("module", "module@cpu/float64", "auto")
    assert row["rerun"] == "rnnscope compare --device auto --right module@cpu/float64"


def test_counts_add_up(unbroken: set[bytes], cli: Cli) -> None:
    facts = json.loads(cli(*SWEEP, "--json").out)
    assert sum(facts["counts"].values()) == len(unbroken) == len(facts["configurations"])
    for flag in ("--kind", "--layers", "--bidirectional", "--proj-size", "--right"):
        tallies = [each["counts"] for each in facts["axes"] if each["flag"] == flag]
        assert {name: sum(each[name] for each in tallies) for name in OUTCOMES} == facts["counts"]


def test_many_numbers_are_told_in_ranges_and_seeds_of_their_own_not_at_all(cli: Cli) -> None:
    facts = json.loads(cli("sweep", "--hidden-size", "1..40", "--random", "60", "--json").out)
    assert {each["flag"] for each in facts["axes"]} == {"--hidden-size"}
    ranges = [tuple(map(int, each["value"].split(" to "))) for each in facts["axes"]]
    assert len(ranges) == 8
    assert all(first <= last < following for (first, last), (following, _) in pairwise(ranges))
    assert sum(sum(each["counts"].values()) for each in facts["axes"]) == 60


def test_sizes_that_follow_are_no_axis(cli: Cli) -> None:
    facts = json.loads(cli("sweep", "--lengths", "3,2/4,1,1", "--json").out)
    assert [(each["flag"], each["value"]) for each in facts["axes"]] == [("--lengths", "3,2"), ("--lengths", "4,1,1")]


def test_seeds_that_were_asked_for_are_an_axis(cli: Cli) -> None:
    facts = json.loads(cli("sweep", "--seed", "0..2", "--json").out)
    assert [(each["flag"], each["value"]) for each in facts["axes"]] == [("--seed", str(seed)) for seed in range(3)]


def test_the_worst_difference_may_be_that_of_a_gradient() -> None:
    asked = Configuration({"grad": True, "kind": "lstm"})
    row = row_of(asked)
    greatest = max(each["max_abs"] for each in (*row["outputs"], *row["gradients"]))
    assert finding(asked, row).max_abs == greatest > max(each["max_abs"] for each in row["outputs"])


def test_a_bar_tells_rate_and_time_left_on_a_terminal_and_is_gone_at_the_end(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="has no terminals to open")
    leader, follower = pty.openpty()
    at_once = "import sys; from rnnscope.pages import progress; progress.PATIENCE = 0.0; "
    at_once += "from rnnscope.__main__ import main; sys.exit(main())"
    words = [sys.executable, "-c", at_once, "sweep", "--layers", "1..120", "--hidden-size", "1"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    seen = b""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=follower, env=environment, text=True) as process:
        os.close(follower)
        with contextlib.suppress(OSError):  # a terminal that was hung up
            while part := os.read(leader, 65536):
                seen += part
        out, _ = process.communicate(timeout=120)
    os.close(leader)
    assert re.search(rb"\d+/120\S* .*configurations/s .*?\d:\d\d:\d\d", seen)
    assert out.startswith("120 configurations\n")
    assert "━" not in out


def test_a_long_configuration_in_a_sweep_has_no_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    found = rnnscope.sweep({"left": ("cells",), "chunk": (2,), "reference": (False,), "seq_len": (7,)})
    assert found is not None
    assert [each.outcome for each in found.findings] == ["identical"]


def test_nothing_but_the_result_is_printed_off_a_terminal(cli: Cli) -> None:
    assert cli("sweep", "--layers", "1,2").err == ""


def test_the_state_of_torch_is_as_before(cli: Cli) -> None:
    before = torch.get_num_threads(), torch.get_rng_state(), torch.is_grad_enabled()
    cli("sweep", "--threads", "1,2", "--grad", "both", "--onednn", "both")
    after = torch.get_num_threads(), torch.get_rng_state(), torch.is_grad_enabled()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]


def test_files_can_be_swept(cli: Cli, tmp_path: Path) -> None:
    for kind in ("RNN", "GRU"):
        torch.save(getattr(torch.nn, kind)(4, 6).state_dict(), tmp_path / f"{kind}.pt")
    files = [str(tmp_path / f"{kind}.pt") for kind in ("RNN", "GRU")]
    out = tmp_path / "f"
    answer = cli("sweep", "--weights", ",".join(files), "--right", "cells,equations", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert answer.code == 0
    assert [(row["spec"]["kind"], row["status"]) for row in rows] == [
        *[("rnn", "compared")] * 2,
        *[("gru", "compared")] * 2,
    ]


def test_a_row_in_a_file_says_what_the_row_says() -> None:
    asked = Configuration({"kind": "lstm"})
    row = row_of(asked)
    assert read_finding(json.loads(line_of(row))) == finding(asked, row)


def test_the_file_of_a_model_brings_its_weights_into_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from onnx_files import module_of, written

    file = written(tmp_path / "model.onnx", module_of("GRU"))
    found = rnnscope.sweep({"right": (file,), "seq_len": (2, 9)})
    assert found is not None
    assert [each.outcome for each in found.findings] == ["equivalent", "equivalent"]
