"""What a shell sees of rnnscope, each in a process of its own: exit codes, pipes, full disks, terminals, locales."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer.main
from support import Answer, Cli
from torch import nn

from rnnscope.cli.commands import main
from rnnscope.cli.parser import COMMANDS, app_of

Bash = Cli
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("rnnscope compare -q", 0),
        ("rnnscope compare -q --right cells@cpu/float64 --rtol 0 --atol 0", 1),
        ("rnnscope compare -q --layers 0", 2),
        ("rnnscope shapes -q", 0),
        ("python -m rnnscope shapes -q --dry-run", 0),
        ("rnnscope", 0),
        ("rnnscope --json", 2),
    ],
)
def test_exit_codes(bash: Bash, line: str, code: int) -> None:
    assert bash(line).code == code


def test_quiet_prints_nothing(bash: Bash) -> None:
    differ = "rnnscope compare -q --right cells@cpu/float64 --rtol 0 --atol 0"
    assert bash(f"rnnscope compare -q; {differ}; rnnscope compare -q --layers 0").out == ""


def test_a_fresh_environment_warns_of_nothing(bash: Bash) -> None:
    assert bash("rnnscope compare").err == ""


def test_errors_go_to_stderr_and_results_to_stdout(bash: Bash) -> None:
    assert bash("rnnscope compare 2>/dev/null").out.startswith("cells against module")
    assert bash("rnnscope compare --layers 0 2>/dev/null").out == ""


@pytest.mark.parametrize("line", ["rnnscope shapes", "rnnscope compare", "rnnscope --help", "rnnscope shapes --help"])
def test_a_reader_that_went_away_is_no_error(bash: Bash, line: str) -> None:
    # `true` reads nothing; sleeping first makes sure that it is gone when rnnscope writes.
    answer = bash(f"{{ sleep 0.2; {line}; echo $? >&2; }} | true")
    assert answer.err == "0\n"


@FULL
@pytest.mark.parametrize(
    "line", ["rnnscope shapes", "rnnscope compare --json", "rnnscope --help", "rnnscope --version"]
)
def test_a_full_disk_is_trouble(bash: Bash, line: str) -> None:
    answer = bash(f"{line} > /dev/full")
    assert answer == Answer(2, "", "rnnscope: cannot write to standard output (No space left on device)\n")


def test_a_closed_stdout_is_trouble(bash: Bash) -> None:
    assert bash("rnnscope shapes --dry-run >&-").code == 2


GONE = "cd $(mktemp -d) && rmdir $PWD &&"


def test_a_working_directory_that_was_deleted_is_told(bash: Bash) -> None:
    sentence = "the working directory is not there any more; go to another one: cd ~"
    assert bash(f"{GONE} rnnscope compare") == Answer(2, "", f"rnnscope: {sentence}\n")


def test_an_export_to_a_directory_that_was_deleted_is_told(bash: Bash) -> None:
    answer = bash(f"{GONE} rnnscope shapes --dry-run --export page.svg")
    assert answer.code == 2
    assert answer.err == "rnnscope: cannot write page.svg (No such file or directory)\n"


def test_no_file_takes_the_place_of_a_closed_stdout(bash: Bash, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    (tmp_path / "loud.py").write_text(
        "import os\nfrom torch import nn\nclass Loud(nn.RNN):\n"
        "    def forward(self, x, hx):\n        os.system('echo loud')\n        return super().forward(x, hx)\n"
    )
    assert bash(f"rnnscope sweep -q --right {tmp_path}/loud.py:Loud --out {rows} >&-").code == 0
    assert [json.loads(line)["status"] for line in rows.read_text().splitlines()] == ["compared"]


@FULL
def test_a_traceback_that_cannot_be_written_is_still_trouble(bash: Bash) -> None:
    assert bash("rnnscope compare --layers 0 --debug 2> /dev/full") == Answer(2, "", "")


def test_a_traceback_without_a_stderr_goes_nowhere(bash: Bash) -> None:
    assert bash("rnnscope compare --layers 0 --debug 2>&-") == Answer(2, "", "")


def test_a_closed_stderr_changes_no_exit_code(bash: Bash) -> None:
    assert bash("rnnscope compare --layers 0 2>&-").code == 2
    assert bash("rnnscope compare -q 2>&-").code == 0


@contextlib.contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Let a process that is started here heed Ctrl-C, which it would ignore where this one is a background job."""
    keep = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, keep)


def test_ctrl_c_is_130() -> None:
    words = ["compare", "--left", "cells", "--seq-len", "3000000", "--batch", "1", "--no-memory-check"]
    command = [sys.executable, "-m", "rnnscope", *words]
    with heeding_ctrl_c():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        time.sleep(4)  # torch is imported and the loop over time has begun
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "rnnscope: interrupted by Ctrl-C\n")
    assert process.returncode == 130


def test_ctrl_c_is_said_once_where_memory_is_freed_slowly(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "import torch\n"
        "class Slow(torch.nn.RNN):\n"
        "    def __del__(self):\n"
        "        time.sleep(3)  # longer than a signal is waited for\n"
        "    def forward(self, *inputs):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "rnnscope", "compare", "--right", f"{tmp_path}/slow.py:Slow"]
    with heeding_ctrl_c():
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "rnnscope: interrupted by Ctrl-C\n")


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}], ids=str)
@pytest.mark.parametrize("line", ["rnnscope shapes --dry-run", "rnnscope compare", "rnnscope --help"])
def test_a_stdout_of_ascii_gets_ascii(bash: Bash, line: str, environment: dict[str, str]) -> None:
    answer = bash(line, **environment)
    assert answer.code == 0
    assert answer.out.isascii()
    assert answer.err == ""


def test_elsewhere_signs_are_said(bash: Bash) -> None:
    assert "D·K" in bash("rnnscope shapes --dry-run", LC_ALL="C.UTF-8").out


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_columns_decide_the_width(bash: Bash) -> None:
    assert widest(bash("rnnscope shapes --dry-run", COLUMNS="80").out) == 80
    assert 80 < widest(bash("rnnscope shapes --dry-run", COLUMNS="100").out) <= 100


@pytest.mark.parametrize("columns", ["0", "", "-5", "wide", "²"])
def test_columns_that_are_no_width_are_left_out(bash: Bash, columns: str) -> None:
    assert bash("rnnscope shapes --dry-run", COLUMNS=columns) == bash("rnnscope shapes --dry-run", COLUMNS="80")


def test_a_wide_shape_is_whole_where_columns_are_few(bash: Bash) -> None:
    out = bash("rnnscope shapes --dry-run --hidden-size 123456789123456", COLUMNS="40").out
    assert "(123456789123456, 123456789123456)" in out


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)],
    ids=["plain", "forced", "none"],
)
def test_colour_off_a_terminal(bash: Bash, environment: dict[str, str], coloured: bool) -> None:
    assert ("\x1b[" in bash("rnnscope shapes --dry-run", **environment).out) is coloured


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a terminal of 80 columns is sent."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "rnnscope", *words]
    settings = {"TERM": "xterm-256color", "COLUMNS": "80", "LANG": "C.UTF-8"} | environment
    with subprocess.Popen(command, stdin=slave, stdout=slave, env=os.environ | settings) as process:
        os.close(slave)
        sent = b""
        while chunk := read(master):
            sent += chunk
    os.close(master)
    assert process.returncode == 0
    return sent.decode()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_terminal_on_stdin_does_not_decide_the_width_of_a_file() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [sys.executable, "-m", "rnnscope", "shapes", "--dry-run"]
    out = subprocess.run(command, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, check=True).stdout
    os.close(slave)
    os.close(master)
    assert widest(out) == 80


@pytest.mark.parametrize(("environment", "red_green"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["colour", "none"])
def test_colour_on_a_terminal(environment: dict[str, str], red_green: bool) -> None:
    assert ("\x1b[32m" in on_a_terminal("compare", **environment)) is red_green


def test_json_is_one_strict_document(bash: Bash) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(bash("rnnscope compare --right cells@cpu/float64 --json").out, parse_constant=refuse)
    assert (document["schema"], document["command"], document["verdict"]) == (1, "compare", "equivalent")


def test_a_rerun_line_gives_the_same_again(bash: Bash) -> None:
    first = bash("rnnscope compare --layers 3 --seed 4 --no-bias --rtol 0 --atol 1e-9 --json")
    again = bash(f"{json.loads(first.out)['rerun']} --json")
    assert again == first


def test_the_same_flags_give_the_same_bytes(bash: Bash) -> None:
    assert bash("rnnscope compare --threads 1") == bash("rnnscope compare --threads 1")


def test_tsv_is_ready_for_cut_and_awk(bash: Bash) -> None:
    assert bash("rnnscope shapes --format tsv | cut -f 1,4 | awk '$1 == \"y\" { print $2 }'").out == "3x5x20\n"


def test_many_layers_under_dry_run_are_answered_in_few_lines(bash: Bash) -> None:
    answer = bash("rnnscope shapes --dry-run --layers 999999999999", COLUMNS="120")
    assert answer.code == 0
    assert len(answer.out.splitlines()) < 70


def lines_of_help(cli: Bash, command: str) -> list[str]:
    return [line.strip() for line in cli(command, "--help").out.splitlines() if line.strip()]


def examples_of(cli: Bash, command: str) -> list[str]:
    lines = lines_of_help(cli, command)
    return lines[lines.index("Examples:") + 1 : -1]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_starts_with_a_question_and_ends_with_two_examples_and_the_manual(cli: Bash, command: str) -> None:
    lines = lines_of_help(cli, command)
    assert "? " in lines[1]
    assert [line.startswith(f"rnnscope {command} ") for line in examples_of(cli, command)] == [True, True]
    manual = "rnnscope help" if command == "help" else f"rnnscope help {command}"
    assert lines[-1].endswith(f"{manual} is the manual.")


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, number: int) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.LSTM(10, 20, 2).state_dict(), "model.pt")
    Path("mine.py").write_text("from torch import nn\n\nNet = nn.GRU\n")
    first, second = (shlex.split(line)[1:] for line in examples_of(cli, command))
    if command == "convert" and number:  # the second one turns the file of the first one back
        cli(*first)
    answer = cli(*(first, second)[number])
    assert (answer.code, answer.err) == (0, "")
    assert answer.out


def test_the_line_under_the_examples_counts_the_flags_that_are_left_out(cli: Cli) -> None:
    assert lines_of_help(cli, "shapes")[-1] == (
        "--help-all shows 5 rarer flags, too; rnnscope help shapes is the manual."
    )
    assert lines_of_help(cli, "weights")[-1] == "rnnscope help weights is the manual."


@pytest.mark.parametrize("columns", ["20", "80", "120"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_whole_help_names_every_flag(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    answer = cli(command, "--help-all")
    params = typer.main.get_command(app_of(command, main)).commands[command].params  # type: ignore[attr-defined]
    options = [name for each in params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")]
    assert (answer.code, answer.err) == (0, "")
    assert [each for each in options if each not in answer.out and each != "--help-all"] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_is_read_on_two_screens(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = cli(command, "--help").out
    assert len(out.splitlines()) <= 75
    assert widest(out) <= 80
    assert "<" not in out


COMMON = (
    "--left --right --grad --power --map --weights --right-weights --record --inputs --kind --input-size --hidden-size "
    "--layers --nonlinearity --bias --batch-first --bidirectional --proj-size --dropout --seq-len --batch --unbatched "
    "--lengths --h0 --seed --device --dtype --threads --format --json -q --export"
)


def test_the_help_of_compare_has_the_common_path_and_its_own_flags_first(cli: Cli) -> None:
    out = cli("compare", "--help").out
    assert [
        flag for flag in COMMON.split() if f"{flag} " not in out and f"{flag}/" not in out and f"{flag}," not in out
    ] == []
    headings = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        *("Sides:", "Comparison:", "Files:", "Network:", "Input:", "Where it runs:", "Output:", "Examples:"),
    ]
    assert "--chunk" not in out


@pytest.mark.parametrize("word", ["--help", "--help-all"])
def test_a_help_is_coloured_where_a_page_is(bash: Bash, word: str) -> None:
    assert "\x1b[" not in bash(f"rnnscope compare {word}").out
    coloured = bash(f"rnnscope compare {word}", FORCE_COLOR="1").out
    assert "\x1b[1mSides\x1b[0m:" in coloured
    assert re.sub("\x1b\\[\\d*m", "", coloured) == bash(f"rnnscope compare {word}").out
