"""Code of the user's that would end the process, take its answer away or stay for ever: none gives a false 0."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import Answer, Cli

HEAD = """
import atexit, multiprocessing, os, signal, subprocess, sys, threading, time
from torch import nn

"""

CLASS = """
class Own(nn.RNN):
    def __init__(self, input_size, hidden_size, num_layers=1):
        super().__init__(input_size, hidden_size, num_layers)
        BUILT

    def forward(self, x, hx):
        CALLED
        return super().forward(x, hx)
"""


def compared(
    bash: Cli, folder: Path, called: str = "pass", built: str = "pass", top: str = "", more: str = ""
) -> Answer:
    """Compare the module with a class of whose code some lines are given."""
    text = HEAD + top + CLASS.replace("CALLED", called).replace("BUILT", built)
    (folder / "own.py").write_text(text, encoding="utf-8")
    return bash(f"cd {folder} && PYTHONPATH={os.getcwd()} rnnscope compare --threads 1 --right own.py:Own {more}")


LEAVES = {
    "os._exit(0)": "os._exit(0)",
    "os.execv('/bin/true', ['true'])": "os.execv('/bin/true', ...)",
    "os.execve('/bin/true', ['true'], {})": "os.execve('/bin/true', ...)",
    "os.execl('/bin/true', 'true')": "os.execv('/bin/true', ...)",
}


@pytest.mark.parametrize("call", LEAVES)
@pytest.mark.parametrize("place", ["top", "built", "called"])
def test_a_call_that_ends_the_process_is_trouble_and_named(bash: Cli, tmp_path: Path, place: str, call: str) -> None:
    answer = compared(bash, tmp_path, **{place: call})
    where = {"top": "<module>", "built": "__init__", "called": "forward"}[place]
    assert (answer.code, answer.out) == (2, "")
    message = re.sub(r"\(\S*own\.py, line \d+", "(own.py, line N", answer.err)
    assert message == (
        f"rnnscope: own.py:Own called {LEAVES[call]} (own.py, line N, in {where}), which would end rnnscope without an "
        "answer; leave that call out\n"
    )


@pytest.mark.parametrize("code", ["sys.exit(0)", "raise SystemExit", "raise GeneratorExit"])
def test_an_exit_that_is_raised_is_trouble(bash: Cli, tmp_path: Path, code: str) -> None:
    answer = compared(bash, tmp_path, code)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: own.py:Own raised ")


@pytest.mark.parametrize(
    "code",
    [
        "exec('try: os._exit(0)\\nexcept BaseException: pass')",
        "threading.Thread(target=lambda: (time.sleep(0.1), os._exit(0)), daemon=True).start()",
        "threading.Thread(target=time.sleep, args=(600,)).start()",
        "atexit.register(lambda: os._exit(0))",
        "atexit.register(time.sleep, 600)",
        "atexit.register(print, 'good bye')",
        "os.environ.update(COLUMNS='0')",
        "sys.stdout.close()",
        "sys.stdout = None",
        "sys.stderr = None",
        "sys.__stdout__.close()",
        "exec('try: os.close(1)\\nexcept OSError: pass')",
        "os.fork() or os._exit(0)",
        "os.fork()",
        "subprocess.run(['true'], check=True)",
        "multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)).start()",
    ],
)
def test_the_answer_and_its_exit_code_stand(bash: Cli, tmp_path: Path, code: str) -> None:
    answer = compared(bash, tmp_path, code)
    assert answer.code == 0
    assert answer.out.count("Verdict: ") == 1
    assert "good bye" not in answer.out


def test_a_process_that_is_forked_ends_where_its_code_ends(bash: Cli, tmp_path: Path) -> None:
    """Otherwise each call would double them."""
    note = "open('calls', 'a').write('child ' if pid == 0 else 'own ')"
    answer = compared(bash, tmp_path, f"pid = os.fork(); {note}; pid and os.waitpid(pid, 0)")
    calls = (tmp_path / "calls").read_text().split()
    assert answer.code == 0
    assert calls.count("child") == calls.count("own")


LEAVING = """
import os, threading
from rnnscope.__main__ import _keep_exit_code
_keep_exit_code()
leaving = threading.Thread(target=os._exit, args=(0,))
leaving.start()
leaving.join()
print("here is the answer")
"""


def test_a_thread_that_ends_the_process_before_the_answer_ends_itself() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "here is the answer\n", "")


@pytest.mark.parametrize("code", ["atexit.register(lambda: os._exit(0))", "os.fork() or os._exit(0)"])
def test_a_finding_stays_one(bash: Cli, tmp_path: Path, code: str) -> None:
    answer = compared(bash, tmp_path, f"{code}; x = x + 1")
    assert answer.code == 1
    assert answer.out.count("Verdict: different") == 1


@pytest.mark.parametrize(("code", "number"), [("os.abort()", 6), ("os.kill(os.getpid(), 9)", 9)])
def test_a_crash_is_never_0(bash: Cli, tmp_path: Path, code: str, number: int) -> None:
    answer = compared(bash, tmp_path, code)
    assert (answer.out, answer.code in (-number, 128 + number)) == ("", True)


def test_a_signal_of_its_own_is_that_signal(bash: Cli, tmp_path: Path) -> None:
    answer = compared(bash, tmp_path, "os.kill(os.getpid(), signal.SIGTERM)")
    assert answer == Answer(143, "", "rnnscope: interrupted by SIGTERM\n")


def test_calls_are_what_they_were_afterwards(cli: Cli, tmp_path: Path) -> None:
    kept = os._exit, os.execv, os.execve
    (tmp_path / "own.py").write_text(HEAD + CLASS.replace("CALLED", "os._exit(0)").replace("BUILT", "pass"))
    assert cli("compare", "--right", f"{tmp_path}/own.py:Own").code == 2
    assert (os._exit, os.execv, os.execve) == kept


@pytest.mark.parametrize("name", ["folder.py", "/dev/zero", "pipe.py", "circle.py"])
def test_what_is_no_file_is_not_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder.py")
    os.mkfifo("pipe.py")
    os.symlink("circle.py", "circle.py")
    message = f"{name}:X: {name} is no regular file; name a file of Python code"
    assert cli("compare", "--right", f"{name}:X") == Answer(2, "", f"rnnscope: {message}\n")


def test_a_file_that_nobody_wrote_is_not_read(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("large.py", "w") as stream:
        os.truncate(stream.fileno(), 2**36)
    message = "large.py:X: large.py has more than 67,108,864 bytes; name a file of Python code"
    assert cli("compare", "--right", "large.py:X") == Answer(2, "", f"rnnscope: {message}\n")


def test_a_reason_without_end_is_cut(bash: Cli, tmp_path: Path) -> None:
    answer = compared(bash, tmp_path, "raise ValueError('x' * 100_000)")
    assert answer.err.startswith(f"rnnscope: own.py:Own raised ValueError: {'x' * 500}... (")
    assert len(answer.err) < 1000
