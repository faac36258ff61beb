"""Programs as sides: a runtime written in NumPy is found right, and what is planted in it is found and named.

And one in C; and what becomes of programs that fail, hang, fork, or write something else.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Answer, Cli

from rnnscope import RnnscopeError, Spec, compare, sweep
from rnnscope.help.topics import FOLDER
from rnnscope.subjects import programs
from rnnscope.subjects.processes import run_once
from rnnscope.sweeps.plan import AXES
from rnnscope.verdict.result import Comparison

pytestmark = pytest.mark.usefixtures("single_deviations")

RUNTIME = ROOT / "tests" / "numpy_runtime.py"


def runtime(fault: str = "") -> str:
    """The runtime as a side, with a fault planted in it."""
    words = shlex.join([sys.executable, str(RUNTIME)])
    return f"command:{words} {{in}} {{out}} {{spec}} {shlex.quote(fault)}"


def asked(fault: str = "", right: str | None = None, **spec: Any) -> Comparison:
    question = {name: spec.pop(name) for name in ("stress", "reference") if name in spec}
    sizes = {"input_size": 6, "hidden_size": 12, "num_layers": 1, "seq_len": 4, "batch_size": 5, "threads": 1}
    if "lengths" in spec:
        del sizes["seq_len"], sizes["batch_size"]
    if spec.get("unbatched"):
        del sizes["batch_size"]
    found: Comparison = compare(Spec(**sizes | spec), "module", right or runtime(fault), **question)
    return found


RIGHT: list[dict[str, Any]] = [
    {"kind": "rnn", "num_layers": 2},
    {"kind": "rnn", "nonlinearity": "relu"},
    {"kind": "rnn", "num_layers": 2, "bidirectional": True, "lengths": (2, 4, 1)},
    {"kind": "rnn", "unbatched": True, "bias": False},
    {"kind": "lstm"},
    {"kind": "lstm", "num_layers": 2, "proj_size": 2, "bidirectional": True},
    {"kind": "lstm", "batch_first": True, "bidirectional": True, "lengths": (4, 2, 3)},
    {"kind": "lstm", "dtype": "float64", "num_layers": 3},
    {"kind": "gru"},
    {"kind": "gru", "num_layers": 2, "bidirectional": True, "bias": False},
    {"kind": "gru", "batch_first": True, "lengths": (3, 4)},
    {"kind": "gru", "h0": "zeros", "seq_len": 1},
    {"kind": "gru", "dtype": "float16"},
]


@pytest.mark.parametrize("spec", RIGHT, ids=str)
def test_a_right_runtime_is_called_right(spec: dict[str, Any]) -> None:
    found = asked(**spec)
    assert found.verdict in ("identical", "equivalent")
    assert found.reference is not None
    assert found.reference.without_float64 == ()


LSTM, GRU, RNN = ({"kind": kind} for kind in ("lstm", "gru", "rnn"))
BOTH, PACKED = {"bidirectional": True}, {"lengths": (2, 4, 3)}

NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("gates i o f g", LSTM, "gates i o f g"),
    ("gates i f o g", LSTM, "gates i f o g"),
    ("gates z r n", GRU, "gates z r n"),
    ("reset before the matmul", GRU, "reset before the matmul"),
    ("update gate inverted", GRU, "update gate inverted"),
    ("bias_hh dropped", LSTM, "b_hh dropped"),
    ("forget bias", LSTM, "forget bias of 1"),
    ("h0 ignored", GRU, "h0 ignored"),
    ("c0 ignored", LSTM, "c0 ignored"),
    ("projection ignored", LSTM | {"proj_size": 2}, "projection left out"),
    ("relu for tanh", RNN, "tanh and relu swapped"),
    ("tanh for relu", RNN | {"nonlinearity": "relu"}, "tanh and relu swapped"),
    ("hard sigmoid", GRU, "hard sigmoid"),
    ("tanh of c left out", LSTM, "tanh missing on the cell state"),
    ("c clipped at 1", LSTM | {"seed": 1}, "cell state clipped at 1"),
    ("W_hh transposed", GRU, "W_hh transposed"),
    ("h and c swapped", LSTM, "h and c swapped"),
    ("backward direction not reversed", RNN | BOTH, "backward direction fed forward"),
    ("backward outputs not flipped back", LSTM | BOTH, "backward outputs not flipped back"),
    ("directions swapped in h", GRU | BOTH, "directions swapped in h"),
    ("lengths ignored", RNN | PACKED, "lengths ignored"),
    ("batch_first ignored", RNN | {"batch_first": True, "seq_len": 5}, "batch and time swapped"),
]


QUICK = (
    *("gates i o f g", "gates z r n", "bias_hh dropped", "h0 ignored", "relu for tanh"),
    *("backward direction not reversed", "lengths ignored", "padding not zeroed"),
)
"""Faults that are tried each time; all are with -m slow."""


@pytest.mark.parametrize(
    ("fault", "spec", "name"),
    [pytest.param(*each, id=each[0], marks=[] if each[0] in QUICK else pytest.mark.slow) for each in NAMED],
)
def test_a_planted_fault_is_named(fault: str, spec: dict[str, Any], name: str) -> None:
    found = asked(fault, **spec)
    assert (found.verdict, found.side) == ("different", "right")
    assert name in [each.convention for each in found.explanations]


NAMELESS: list[tuple[str, dict[str, Any]]] = [
    ("states of the layers swapped", RNN | {"num_layers": 2}),
    ("backward state at the wrong end", GRU | BOTH),
    ("last step dropped", LSTM),
    ("y of the step before", GRU),
    ("padding not zeroed", RNN | PACKED),
    ("state of the first item for all", RNN),
    ("c clipped at 0.7", LSTM),
    ("bias_hh of the top layer dropped", GRU | {"num_layers": 2}),
]


@pytest.mark.parametrize(
    ("fault", "spec"),
    [pytest.param(*each, id=each[0], marks=[] if each[0] in QUICK else pytest.mark.slow) for each in NAMELESS],
)
def test_a_planted_fault_without_a_name_is_found(fault: str, spec: dict[str, Any]) -> None:
    found = asked(fault, **spec)
    assert (found.verdict, found.cause, found.side, found.explanations) == ("different", "function", "right", ())


@pytest.mark.slow
def test_that_a_weight_is_not_used_is_told() -> None:
    found = asked("bias_hh of the top layer dropped", kind="rnn", num_layers=2, input_size=2, hidden_size=5)
    assert found.reasons.dependences[0].ignores == ("bias_hh_l1",)


@pytest.mark.parametrize(
    ("fault", "dtype", "verdict", "cause", "inside"),
    [
        ("sums in float16", "float32", "different", "precision", "tf32"),  # which rounds as much as float16 does
        ("sums in float32", "float32", "equivalent", "rounding", "float32"),
        pytest.param("sums in float32", "float64", "different", "precision", "float32", marks=pytest.mark.slow),
    ],
)
def test_rounding_inside_is_told_from_another_function(
    fault: str, dtype: str, verdict: str, cause: str, inside: str
) -> None:
    found = asked(fault, kind="gru", dtype=dtype)
    assert (found.verdict, found.cause) == (verdict, cause)
    assert found.reference is not None
    assert [each.arithmetic for each in found.reference.inside] == [inside]


@pytest.mark.parametrize(("fault", "verdict"), [("", "equivalent"), ("gates i o f g", "different")])
def test_a_program_carries_its_state_from_chunk_to_chunk(fault: str, verdict: str) -> None:
    found: Comparison = compare(Spec(kind="lstm", seq_len=4), "module", runtime(fault), chunk=2, reference=False)
    assert found.verdict == verdict


@pytest.mark.slow
def test_a_clip_that_is_not_reached_shows_under_stress() -> None:
    found = asked("c clipped at 3", kind="lstm", stress=True)
    assert found.as_asked.verdict == "equivalent"
    assert (found.verdict, found.cause) == ("different", "function")


def test_how_far_the_numbers_reach_is_told() -> None:
    assert [each.name for each in asked(kind="lstm").blind_spots] == ["reached range"]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of each process that is started."""
    started: list[list[str]] = []

    def counted(words: list[str], timeout: float) -> Any:
        started.append(words)
        return run_once(words, timeout)

    monkeypatch.setattr(programs, "run_once", counted)
    return started


@pytest.mark.parametrize(
    ("fault", "count"), [("", 2), ("gates i o f g", 7)], ids=["right", "wrong"]
)  # the topic has these numbers, too
def test_a_program_is_run_as_often_as_the_topic_says(runs: list[list[str]], fault: str, count: int) -> None:
    compare(Spec(kind="lstm", threads=1), "module", runtime(fault))
    assert len(runs) == count


def test_power_runs_a_left_program_once_for_each_input(runs: list[list[str]]) -> None:
    found: Comparison = compare(Spec(threads=1), runtime(), "module", power=True)
    assert found.reasons.power is not None
    assert len(found.reasons.power.caught) > 10
    assert len(runs) <= 4


# What a program is given, and what it may write.

ZEROS = """
import json, os, sys
import numpy as np
a = np.load(sys.argv[1])
dtype, (L, N, _), (K, _, H) = a["x"].dtype, a["x"].shape, a["h0"].shape
y, h = np.zeros((L, N, H), dtype), np.zeros((K, N, H), dtype)
"""
"""The beginning of a program that writes zeros."""


def program(folder: Path, script: str, words: str = "{in} {out}") -> str:
    """A Python script as a side."""
    (folder / "program.py").write_text(script, encoding="utf-8")
    return f"command:{shlex.join([sys.executable, str(folder / 'program.py')])} {words}"


def zeros(folder: Path, end: str, words: str = "{in} {out}", **spec: Any) -> Comparison:
    """What is found of a program that writes something about zeros."""
    return asked(right=program(folder, ZEROS + end, words), **spec)


def test_a_program_gets_the_network_by_torchs_names(tmp_path: Path) -> None:
    script = """
facts = {name: [str(a[name].dtype), list(a[name].shape)] for name in a.files}
with open("told.jsonl", "a") as told:
    told.write(json.dumps([facts, json.load(open(sys.argv[3]))]) + chr(10))
np.savez(sys.argv[2], y=y, h=h)
"""
    path = os.getcwd()
    os.chdir(tmp_path)
    try:
        zeros(tmp_path, script, "{in} {out} {spec}", kind="gru", lengths=(2, 1), num_layers=1)
    finally:
        os.chdir(path)
    first, second, *_ = map(json.loads, (tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines())
    shapes = {"x": [2, 2, 6], "h0": [1, 2, 12], "weight_ih_l0": [36, 6], "weight_hh_l0": [36, 12]}
    shapes |= {"bias_ih_l0": [36], "bias_hh_l0": [36]}
    assert first[0] == {name: ["float32", shape] for name, shape in shapes.items()} | {"lengths": ["int64", [2]]}
    assert second[0]["weight_hh_l0"][0] == "float64"
    assert first[1] == {
        **{"kind": "gru", "input_size": 6, "hidden_size": 12, "num_layers": 1, "nonlinearity": "tanh", "bias": True},
        **{"batch_first": False, "bidirectional": False, "proj_size": 0, "dropout": 0.0, "seq_len": 2},
        **{"batch_size": 2, "lengths": [2, 1], "h0": "random", "seed": 0, "device": "cpu", "dtype": "float32"},
    }
    assert second[1]["dtype"] == "float64"


def test_words_reach_the_program_as_they_are(tmp_path: Path) -> None:
    script = "import sys\nsys.exit(' '.join(sys.argv[1:]))"
    with pytest.raises(RnnscopeError, match=r"exit code 1: --from=in.npz a  b \{\} \{x\} \$HOME \* out.npz$"):
        asked(right=program(tmp_path, script, "--from={in} 'a  b' {} {x} $HOME * {out}"))


WRITES = {
    "by name": "np.savez(sys.argv[2], h=h, y=y)",
    "by place": "np.savez(sys.argv[2], y, h)",
    "in a list, for torch": "import torch; torch.save([torch.tensor(y), torch.tensor(h)], sys.argv[2])",
}


@pytest.mark.parametrize("how", WRITES)
def test_outputs_come_by_name_or_in_order(tmp_path: Path, how: str) -> None:
    words = "{in} {out.pt}" if "torch" in how else "{in} {out}"
    found = zeros(tmp_path, WRITES[how], words, reference=False)
    assert [(each.name, each.shape == each.right_shape) for each in found.outputs] == [("y", True), ("h", True)]


def test_y_alone_is_compared_alone(tmp_path: Path) -> None:
    found = zeros(tmp_path, "np.savez(sys.argv[2], y)", reference=False)
    assert [each.name for each in found.outputs] == ["y"]
    assert "h is not compared, since a side does not give it" in [each.sentence for each in found.blind_spots]


def test_what_a_program_writes_besides_is_told(tmp_path: Path) -> None:
    found = zeros(tmp_path, "np.savez(sys.argv[2], y=y, h=h, time=y, more=h)", reference=False)
    assert found.adaptations == (("right", ("it wrote more, which was left aside: more, time",)),)


def test_nan_is_a_finding(tmp_path: Path) -> None:
    found = zeros(tmp_path, "y[1, 2, 3] = np.nan; np.savez(sys.argv[2], y=y, h=h)")
    assert (found.verdict, found.cause, found.side) == ("different", "nonfinite", "right")


def test_another_shape_is_a_finding(tmp_path: Path) -> None:
    found = zeros(tmp_path, "np.savez(sys.argv[2], y=y.swapaxes(0, 1), h=h)")
    assert (found.verdict, found.cause) == ("different", "shape")


def test_a_finer_dtype_is_told(tmp_path: Path) -> None:
    found = zeros(tmp_path, "np.savez(sys.argv[2], y=y.astype('f8'), h=h)", reference=False)
    assert found.figures.wrong_dtypes == (("right", "float64"),)


IN_ONE_DTYPE = {
    "that fails": ("assert a['x'].dtype == np.float32, 'float32 alone'", "ended with exit code 1: .*float32 alone"),
    "that returns": ("y, h = y.astype('f4'), h.astype('f4')", "gives y in float32"),
    "that hangs": ("import time; time.sleep(99 * (dtype != np.float32))", "took more than 2 s and was ended"),
}


@pytest.mark.parametrize("sort", IN_ONE_DTYPE)
def test_without_float64_a_program_is_judged_in_its_own_dtype(tmp_path: Path, sort: str) -> None:
    line, why = IN_ONE_DTYPE[sort]
    right = program(tmp_path, f"{ZEROS}{line}\nnp.savez(sys.argv[2], y=y, h=h)")
    found: Comparison = compare(Spec(num_layers=1, threads=1), "module", right, timeout=2.0)
    assert found.reference is not None
    assert found.reference.without_float64 == ("right",)
    assert "no float64" in [each.name for each in found.blind_spots]
    assert re.fullmatch(f"in float64 it {why}", dict(found.adaptations)["right"][0])


# What goes wrong.

FAILS = {
    "fails": ("import sys; print('before', file=sys.stderr); sys.exit('no GRU here')", "exit code 1: no GRU here"),
    "says what a terminal obeys": (
        r"import sys; sys.stderr.write('\x1b[31mred\x1b[0m\x07 alert\n\n'); sys.exit(3)",
        "exit code 3: red  alert",
    ),
    "says it on stdout": ("print('usage: rnn FILE'); raise SystemExit(2)", "exit code 2: usage: rnn FILE"),
    "says too much": ("import sys; sys.exit('x' * 10_000)", f"exit code 1: {'x' * 200}…"),
    "is killed": ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
    "writes nothing": ("", r"wrote no out.npz where \{out\} stands"),
    "names its input": (
        "import sys; sys.exit('cannot read ' + sys.argv[1])",
        "ended with exit code 1: cannot read in.npz",
    ),
    "writes garbage": (
        "import sys; open(sys.argv[2], 'w').write('garbage')",
        "wrote what cannot be read: out.npz is damaged, cut short or no .npz file of numbers",
    ),
    "writes an empty file": ("import sys; open(sys.argv[2], 'w')", "cannot be read: out.npz is empty"),
    "writes a pipe": ("import os, sys; os.mkfifo(sys.argv[2])", "cannot be read: out.npz is no regular file"),
    "writes without end": (
        "import sys; open(sys.argv[2], 'wb').truncate(10**10)",
        "wrote 10,000,000,000 bytes, and y, h take no more than",
    ),
    "writes whole numbers": (
        ZEROS + "np.savez(sys.argv[2], y=y.astype(int), h=h)",
        "gives y in int64, and not in float32",
    ),
    "has other names": (
        ZEROS + "np.savez(sys.argv[2], output=y, h_n=h, more=h)",
        "wrote output, h_n, more, and not y, h; write them under these names",
    ),
}


@pytest.mark.parametrize("what", FAILS)
def test_a_program_that_fails_is_told_in_one_sentence(tmp_path: Path, what: str) -> None:
    script, said = FAILS[what]
    with pytest.raises(RnnscopeError, match=rf"^command:.*{said}[^\n]*$"):
        asked(right=program(tmp_path, script))


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RnnscopeError, match=r"took more than 0\.5 s and was ended; give it more by --timeout"):
        compare(Spec(), "module", program(tmp_path, "import time; time.sleep(600)"), timeout=0.5)


def test_what_a_program_prints_neither_blocks_it_nor_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = """
import sys
for _ in range(300):
    print("x" * 10_000)
    print("y" * 10_000, file=sys.stderr)
assert sys.stdin.read() == ""
np.savez(sys.argv[2], y=y, h=h)
"""
    assert zeros(tmp_path, script, reference=False).verdict == "different"
    assert capfd.readouterr() == ("", "")


def is_alive(number: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


FORKS = """
import os, signal, subprocess, sys, time
WAIT = [sys.executable, "-c", "import signal, sys, time; IGNORE; print(1, flush=True); time.sleep(600)"]
child = subprocess.Popen(WAIT, stdout=subprocess.PIPE, start_new_session=DAEMON)
child.stdout.readline()
open("children", "a").write(f"{child.pid} {os.getpid()} ")
"""
"""Starts a child that stays, and says which one."""

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@NEEDS_PROC
@pytest.mark.parametrize("is_daemon", [False, True], ids=["child", "daemon"])
@pytest.mark.parametrize("end", ["sys.exit(1)", "time.sleep(600)"], ids=["fails", "hangs"])
@pytest.mark.parametrize("ignores", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["", "stubborn"])
def test_what_a_program_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_daemon: bool, end: str, ignores: str
) -> None:
    monkeypatch.chdir(tmp_path)
    script = FORKS.replace("IGNORE", ignores).replace("DAEMON", str(is_daemon)) + end
    with pytest.raises(RnnscopeError):
        compare(Spec(), "module", program(tmp_path, script), timeout=3.0)
    children = list(map(int, (tmp_path / "children").read_text(encoding="utf-8").split()))
    assert len(children) == 2
    assert not any(map(is_alive, children))


def interrupted(folder: Path, number: int, script: str) -> Answer:
    """A compare of a program that stays, which gets a signal once the program runs."""
    temporary = folder / "temporary"
    temporary.mkdir()
    words = ["compare", "--right", program(folder, script)]
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    keep = signal.signal(signal.SIGINT, signal.SIG_DFL)  # or the child would ignore what a background job ignores
    with subprocess.Popen(
        [sys.executable, "-m", "rnnscope", *words],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, keep)
        while not (folder / "children").exists() and process.poll() is None:
            time.sleep(0.05)
        assert list(temporary.iterdir()) != []
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


@NEEDS_PROC
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_program_and_takes_its_files_away(tmp_path: Path, number: int) -> None:
    script = FORKS.replace("IGNORE", "signal.signal(signal.SIGTERM, signal.SIG_IGN)").replace("DAEMON", "True")
    answer = interrupted(tmp_path, number, f"{script}time.sleep(600)")
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert answer == Answer(128 + number, "", f"rnnscope: interrupted by {name}\n")
    assert list((tmp_path / "temporary").iterdir()) == []
    children = list(map(int, (tmp_path / "children").read_text(encoding="utf-8").split()))
    assert not any(map(is_alive, children))


def test_files_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders: list[Path] = []

    def looking(words: list[str], timeout: float) -> Any:
        folders.extend(tmp_path.glob("rnnscope-*"))
        return run_once(words, timeout)

    monkeypatch.setattr(programs, "run_once", looking)
    asked(kind="gru")
    assert len(folders) == 2
    assert list(tmp_path.iterdir()) == []


START = {
    "nowhere": ("no_such_program", None, "there is no program no_such_program; build it"),
    "without its folder": ("mine", 0o755, "there is no program mine on the PATH; name its folder, too: ./mine"),
    "not executable": ("./mine", 0o644, "./mine may not be run; chmod .x ./mine"),
    "no script": ("./mine", 0o755, "./mine is no program of this machine, and no script with #! in its first line"),
    "a folder": ("./folder", None, "./folder is a folder; name the program in it"),
}


@pytest.mark.parametrize("what", START)
def test_a_program_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    name, mode, said = START[what]
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    if mode is not None:
        Path("mine").write_text("nothing\n", encoding="utf-8")
        Path("mine").chmod(mode)
    with pytest.raises(RnnscopeError, match=said):
        asked(right=f"command:{name} {{in}} {{out}}")


def test_a_script_whose_interpreter_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/no/such/python\n", encoding="utf-8")
    (tmp_path / "mine").chmod(0o755)
    with pytest.raises(RnnscopeError, match="names in its first line an interpreter that is not there"):
        asked(right=f"command:{tmp_path}/mine {{in}} {{out}}")


def test_a_program_is_found_from_the_folder_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text(f'#!/bin/sh\nexec {sys.executable} {RUNTIME} "$@"\n', encoding="utf-8")
    Path("mine").chmod(0o755)
    assert asked(right="command:./mine {in} {out} {spec}").exit_code == 0


@pytest.mark.parametrize(
    ("words", "must"),
    [
        ("mine {in}", "words with {in} and {out}, or {in.safetensors} and {in.pt} likewise"),
        ("mine in.npz {out}", "words with {in} and {out}"),
        ("mine {in.csv} {out}", "words with {in} and {out}"),
        ("mine {in} {out} {out.pt}", "words with {in} and {out}"),
        ("mine {in} {out} {spec.json}", "words with {in} and {out}"),
        ("mine '{in} {out}", "words as in a shell, with every quote closed"),
        ("", "command:WORDS"),
    ],
)
def test_words_that_cannot_be_run_are_refused(cli: Cli, words: str, must: str) -> None:
    answer = cli("compare", "--right", f"command:{words}")
    assert answer.code == 2
    assert f"but it must be {must}" in answer.err
    assert answer.err.endswith("; try --right 'command:./my_lstm {in} {out}'\n")


def test_without_numpy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    said = r"needs? the package numpy; install the extra: pip install 'rnnscope\[numpy\]', or use \{in.safetensors\}"
    with pytest.raises(RnnscopeError, match=said):
        asked(right="command:mine {in} {out}")


def test_without_safetensors_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(RnnscopeError, match=r"needs? the package safetensors; .* or use \{in.npz\} and \{out.npz\}"):
        asked(right="command:mine {in.safetensors} {out.safetensors}")


def test_bfloat16_needs_another_format() -> None:
    with pytest.raises(RnnscopeError, match=r".npz has no bfloat16.*; use \{in.safetensors\} and \{out.safetensors\}"):
        asked(right="command:mine {in} {out}", dtype="bfloat16")


def test_gradients_are_refused(cli: Cli) -> None:
    answer = cli("compare", "--grad", "--right", "command:mine {in} {out}")
    assert answer.code == 2
    assert "gives no gradients" in answer.err


def test_a_chunk_needs_every_output(tmp_path: Path) -> None:
    right = program(tmp_path, f"{ZEROS}np.savez(sys.argv[2], y)")
    with pytest.raises(RnnscopeError, match="gives y alone, and --chunk 2 carries the state on"):
        compare(Spec(), "module", right, chunk=2)


# On command lines, and in sweeps.


def test_the_line_after_rerun_asks_the_same(tmp_path: Path, cli: Cli, bash: Cli) -> None:
    side = program(tmp_path, f"{ZEROS}np.savez(sys.argv[2], y, h)", "{in} {out} 'two words' \\$HOME")
    first = cli("compare", "--threads", "1", "--no-reference", "--right", side, "--timeout", "50")
    line = first.out.rpartition("Rerun: ")[2].strip()
    assert bash(f"{sys.executable} -m {line}") == first


@pytest.mark.parametrize(
    "typed",
    [
        ["cells,module"],
        ["command:mine 1,2 {in} {out}"],
        ["cells,command:mine 1,2 {in} {out}"],
        ["command:mine 1,2 {in} {out}", "cells,items", "items,command:other {in} {out}"],
    ],
    ids=str,
)
def test_a_list_of_sides_may_end_with_a_program(typed: list[str]) -> None:
    flag = AXES["right"]
    values = flag.gathered(typed)
    flag.check(values)
    again = flag.as_typed(values)
    assert flag.gathered(again[1::2]) == values
    assert "command:mine 1,2 {in} {out}" in values or values == ("cells", "module")


def test_a_sweep_asks_a_program_of_each_configuration(tmp_path: Path) -> None:
    axes = {"kind": ("rnn", "gru"), "right": (runtime(), "cells"), "num_layers": (1,)}
    out = tmp_path / "rows.jsonl"
    found = sweep(axes, out=str(out))
    assert found is not None
    assert {each.outcome for each in found.findings} <= {"identical", "equivalent"}
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["right"] for row in rows] == [runtime(), "cells"] * 2
    again = sweep(axes, out=str(out), resume=True)
    assert again is not None
    assert again.findings == found.findings


# Runtimes in other languages.

C = shutil.which("cc")


def built(folder: Path, *flags: str) -> str:
    """The GRU in C, built with some flags, as a side."""
    assert C is not None
    words = [C, "-O1", *flags, "-o", str(folder / "gru"), str(ROOT / "tests" / "programs" / "gru.c"), "-lm"]
    subprocess.run(words, check=True)
    return f"command:{shlex.quote(str(folder / 'gru'))} {{in.safetensors}} {{out.safetensors}}"


NEEDS_C = pytest.mark.skipif(C is None, reason="needs a C compiler")


@NEEDS_C
@pytest.mark.parametrize("bias", [True, False])
def test_a_gru_in_c_is_right(tmp_path: Path, bias: bool) -> None:
    found = asked(right=built(tmp_path), kind="gru", num_layers=3, bias=bias)
    assert found.verdict == "equivalent"
    assert "no float64" in [each.name for each in found.blind_spots]


@NEEDS_C
def test_a_gru_in_c_that_computes_in_double_is_right(tmp_path: Path) -> None:
    found = asked(right=built(tmp_path, "-DREAL=double"), kind="gru", dtype="float64")
    assert found.verdict == "equivalent"
    assert found.reference is not None
    assert found.reference.without_float64 == ()


@NEEDS_C
def test_a_fault_in_c_is_named(tmp_path: Path) -> None:
    found = asked(right=built(tmp_path, "-DFAULT"), kind="gru", num_layers=2)
    assert (found.verdict, found.side) == ("different", "right")
    assert [each.convention for each in found.explanations] == ["gates z r n"]
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.layer) == (0, 0)


def in_the_topic(language: str) -> list[str]:
    """The blocks of the topic in a language."""
    text = (FOLDER / "programs.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


TOPIC = {
    "python": ("my_rnn.py", [], [sys.executable, "my_rnn.py", "{in}", "{out}"]),
    "javascript": ("my_rnn.js", [], ["node", "my_rnn.js", "{in.safetensors}", "{out.safetensors}"]),
    "rust": (
        "my_rnn.rs",
        ["rustc", "-O", "--edition", "2021", "my_rnn.rs"],
        ["./my_rnn", "{in.safetensors}", "{out.safetensors}"],
    ),
}
"""The file of a language, what builds it, and what runs it."""


@pytest.mark.parametrize("language", TOPIC)
def test_the_programs_of_the_topic_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    monkeypatch.chdir(tmp_path)
    name, build, run = TOPIC[language]
    if not all(shutil.which(words[0]) for words in (build, run) if words and words[0] != "./my_rnn"):
        pytest.skip(f"needs what runs {language}")
    (text,) = in_the_topic(language)
    Path(name).write_text(text, encoding="utf-8")
    if build:
        subprocess.run(build, check=True)
    found = asked(right=f"command:{shlex.join(run)}".replace("'", ""), kind="rnn")
    assert (found.verdict, found.cause) == ("equivalent", "rounding")


def test_the_lines_in_c_of_the_topic_are_those_of_the_whole_program() -> None:
    whole = (ROOT / "tests" / "programs" / "gru.c").read_text(encoding="utf-8").splitlines()
    lines = [line for block in in_the_topic("c") for line in block.splitlines()]
    assert len(lines) > 20
    assert [line for line in lines if line not in whole] == []
