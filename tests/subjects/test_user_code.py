"""Code of the user's that would end the process, take its answer away or stay for ever: none gives a false 0."""

import os
import posix
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import Answer, Cli

from rnnscope.errors import RnnscopeError
from rnnscope.subjects.user_code import find_own, guarded

HEAD = """
import atexit, faulthandler, multiprocessing, os, posix, signal, subprocess, sys, threading, time
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
    "os.abort()": "os.abort()",
    "posix._exit(0)": "os._exit(0)",
    "posix.execv('/bin/true', ['true'])": "os.execv('/bin/true', ...)",
    "os.kill(os.getpid(), 9)": "os.kill(os.getpid(), SIGKILL)",
    "os.kill(os.getpid(), signal.SIGALRM)": "os.kill(os.getpid(), SIGALRM)",
}


@pytest.mark.parametrize(
    ("place", "call"), [("top", "os._exit(0)"), ("built", "os._exit(0)"), *(("called", call) for call in LEAVES)]
)
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
        "os.kill(os.getpid(), 0)",
        "os.kill(os.getpid(), signal.SIGCHLD)",
        "signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)",
        "threading.Thread(target=lambda: posix._exit(0)).start()",
        "atexit.register(lambda: posix._exit(2))",
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


@pytest.mark.parametrize(
    "code",
    [
        "atexit.register(lambda: os._exit(0))",
        "atexit.register(lambda: posix._exit(0))",
        "os.fork() or os._exit(0)",
        "os.fork() or posix._exit(0)",
    ],
)
def test_a_finding_stays_one(bash: Cli, tmp_path: Path, code: str) -> None:
    answer = compared(bash, tmp_path, f"{code}; x = x + 1")
    assert answer.code == 1
    assert answer.out.count("Verdict: different") == 1


@pytest.mark.parametrize(
    ("code", "number"), [("faulthandler._sigabrt()", 6), ("signal.raise_signal(9)", 9), ("faulthandler._sigsegv()", 11)]
)
def test_a_crash_is_never_0(bash: Cli, tmp_path: Path, code: str, number: int) -> None:
    answer = compared(bash, tmp_path, code)
    assert (answer.out, answer.code in (-number, 128 + number)) == ("", True)


def test_a_signal_of_its_own_is_that_signal(bash: Cli, tmp_path: Path) -> None:
    answer = compared(bash, tmp_path, "os.kill(os.getpid(), signal.SIGTERM)")
    assert answer == Answer(143, "", "rnnscope: interrupted by SIGTERM\n")


@pytest.mark.parametrize(
    "code",
    [
        "t = threading.Thread(target=lambda: os._exit(0)); t.start(); t.join()",
        "atexit.register(os._exit, 0)",
    ],
)
def test_what_would_end_the_process_beside_its_code_says_nothing(bash: Cli, tmp_path: Path, code: str) -> None:
    answer = compared(bash, tmp_path, f"{code}; x = x + 1")
    assert (answer.code, answer.err) == (1, "")


def test_a_function_that_was_taken_before_is_refused_too(bash: Cli, tmp_path: Path) -> None:
    answer = compared(bash, tmp_path, "leave(0)", top="from os import _exit as leave\n")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: own.py:Own called os._exit(0) (")


LOOP = "exec('while True:\\n try: time.sleep(1)\\n except BaseException: pass')"
DEAF = {
    "ignored": "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)",
    "a-handler": "signal.signal(signal.SIGINT, lambda *_: None); time.sleep(60)",
    "a-handler-that-exits": "signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); time.sleep(60)",
    "never-woken": f"signal.set_wakeup_fd(-1); {LOOP}",
    "swallowed": LOOP,
    "held-back": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); time.sleep(60)",
    "joined": "t = threading.Thread(target=time.sleep, args=(60,)); t.start(); t.join()",
    "in-a-child": "subprocess.run(['sleep', '60'])",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["top", "called"])
@pytest.mark.parametrize("name", DEAF)
def test_ctrl_c_ends_a_class_that_would_not_hear_it(name: str, place: str, tmp_path: Path) -> None:
    ready = "print('ready', file=sys.stderr, flush=True)"
    code = {"top": "pass", "called": "pass", place: f"{ready}; {DEAF[name]}"}
    text = HEAD + code["top"] + CLASS.replace("CALLED", code["called"]).replace("BUILT", "pass")
    (tmp_path / "own.py").write_text(text)
    words = [sys.executable, "-m", "rnnscope", "compare", "--threads", "1", "--right", f"{tmp_path}/own.py:Own"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and the tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "ready\n"
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        try:
            out, err = child.communicate(timeout=10)
        finally:
            child.kill()
    assert (child.returncode, out, err) == (130, "", "rnnscope: interrupted by Ctrl-C\n")


def test_calls_are_what_they_were_afterwards(cli: Cli, tmp_path: Path) -> None:
    kept = os._exit, os.abort, os.execv, os.execve, os.kill, posix._exit, signal.signal, signal.set_wakeup_fd
    (tmp_path / "own.py").write_text(HEAD + CLASS.replace("CALLED", "os._exit(0)").replace("BUILT", "pass"))
    assert cli("compare", "--right", f"{tmp_path}/own.py:Own").code == 2
    now = os._exit, os.abort, os.execv, os.execve, os.kill, posix._exit, signal.signal, signal.set_wakeup_fd
    assert now == kept


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


SCRIPTED = """
import torch
from torch import nn

class Inner(nn.Module):
    def forward(self, x):
        INSIDE

class Own(nn.RNN):
    def __init__(self, input_size, hidden_size, num_layers=1):
        super().__init__(input_size, hidden_size, num_layers)
        self.inner = MADE

    def forward(self, x, hx):
        self.inner(x)
        return super().forward(x, hx)
"""
PRODUCT = "return x @ torch.zeros(11, 20)"
SHAPES = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (15x10 and 11x20)"
BACKEND = "(lambda graph, given: exec('raise OSError(\"no such\\\\nbackend\")'))"


@pytest.mark.parametrize(
    ("made", "inside", "reason"),
    [
        ("torch.jit.script(Inner())", PRODUCT, f"RuntimeError: {SHAPES}"),
        ("torch.jit.trace(Inner(), torch.zeros(5, 11))", PRODUCT, f"RuntimeError: {SHAPES}"),
        (
            "torch.jit.script(Inner())",
            "assert x.dim() == 5, 'five dims\\nand no more'; return x",
            "Error: RuntimeError: AssertionError: five dims",
        ),
        (
            "torch.compile(Inner(), backend='eager')",
            PRODUCT,
            "TorchRuntimeError: RuntimeError: a and b must have same reduction dim, but got [15, 10] X [11, 20].",
        ),
        (
            "torch.compile(Inner(), backend='eager', fullgraph=True)",
            "raise ValueError('oh no')",
            "Unsupported: ValueError: oh no",
        ),
        (
            f"torch.compile(Inner(), backend={BACKEND})",
            "return x + 1",
            "BackendCompilerFailed: OSError: no such",
        ),
        (
            "torch.compile(Inner(), backend='eager', fullgraph=True)",
            "torch._dynamo.graph_break(); return x",
            "Unsupported: Call to `torch._dynamo.graph_break()`",
        ),
        ("Inner()", "raise ValueError('first\\nError: second')", "ValueError: first"),
    ],
    ids=["scripted", "traced", "raised-in-script", "compiled", "raised-in-compiled", "backend", "graph-break", "plain"],
)
def test_the_line_of_an_error_that_says_something_is_told(made: str, inside: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(SCRIPTED.replace("INSIDE", inside).replace("MADE", made))
    own = find_own(f"{file}:Own")(10, 20, 2)
    with pytest.raises(RnnscopeError) as raised, guarded(f"{file}:Own"):
        own(torch.zeros(3, 5, 10), torch.zeros(2, 5, 20))
    assert raised.value.message.startswith(f"{file}:Own raised {reason} (")


RELATIVE = "from ..base import Base\nclass Own(Base): pass\n"


@pytest.mark.parametrize(
    ("name", "working", "mend"),
    [
        ("mypkg/models/lstm.py:Own", "", "name it as mypkg.models.lstm:Own"),
        ("mypkg/models/lstm.py:Own", "mypkg", "name it as mypkg.models.lstm:Own, run from {top}"),
        ("models.lstm:Own", "mypkg", "name it as mypkg.models.lstm:Own, run from {top}"),
        ("plain/lstm.py:Own", "", "a file alone is in no package: name it as package.module:Class"),
    ],
)
def test_a_relative_import_says_the_name_that_works(
    name: str, working: str, mend: str, bash: Cli, tmp_path: Path
) -> None:
    for folder in ("mypkg", "mypkg/models", "plain"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lstm.py").write_text(RELATIVE)
    (tmp_path / "mypkg/__init__.py").touch()
    (tmp_path / "mypkg/models/__init__.py").touch()
    (tmp_path / "mypkg/base.py").write_text("from torch.nn import RNN as Base\n")
    own = os.getcwd()
    told = name if "/" not in name else f"{tmp_path}/{name}"
    answer = bash(f"cd {tmp_path}/{working} && PYTHONPATH={own} rnnscope compare --right {told}")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(f"; {mend.format(top=tmp_path)}\n")
    right = f"cd {tmp_path} && PYTHONPATH={own} rnnscope compare -q --right mypkg.models.lstm:Own"
    assert bash(right) == Answer(0, "", "")
