"""What a shell gets when somebody presses Tab: asked as the shells do it, each time in a process of its own."""

import os
import shutil
import subprocess
import sys

import pytest
from support import Answer, Cli

RNNSCOPE = [sys.executable, "-m", "rnnscope"]


def asked(**variables: str) -> tuple[int, list[str]]:
    done = subprocess.run(RNNSCOPE, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout.split("\n")[:-1]


def in_bash(*words: str, by: str = "\n") -> list[str]:
    words = ("rnnscope", *words)
    code, lines = asked(_RNNSCOPE_COMPLETE="complete_bash", COMP_WORDS=by.join(words), COMP_CWORD=str(len(words) - 1))
    assert code == 0
    return [each for each in lines if each]


def in_fish(line: str, action: str) -> tuple[int, list[str]]:
    variables = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": action}
    return asked(_RNNSCOPE_COMPLETE="complete_fish", **variables)


COMPLETED = {
    ("",): ["shapes", "compare", "check", "sweep", "trace", "bench", "code", "weights", "convert", "help", "explain"],
    ("co",): ["compare", "code", "convert"],
    ("compare", "--bi"): ["--bias", "--bidirectional"],
    ("weights", "--ki"): [],
    ("compare", "--kind", ""): ["rnn", "lstm", "gru"],
    ("compare", "--kind", "l"): ["lstm"],
    ("compare", "--kind", "="): ["rnn", "lstm", "gru"],
    ("compare", "--kind", "=", "g"): ["gru"],
    ("--json", "compare", "--kind", "g"): ["gru"],
    ("--format", ""): ["table", "json", "tsv", "markdown", "junit", "github"],
    ("shapes", "--format", ""): ["table", "json", "tsv", "markdown"],
    ("check", "--format", "j"): ["json", "junit"],
    ("--format", "json", "shapes", "--path", ""): ["both", "module", "cells"],
    ("compare", "--left", ""): [
        "module",
        "cells",
        "equations",
        "compiled",
        "compiled-module",
        "items",
        "quantized",
        "exported",
        "exported@decomposed",
        "scripted",
        "onnx",
        "onnx@legacy",
        "cell:",
        "deviation:",
        "recorded:",
        "command:",
    ],
    ("compare", "--right-b"): ["--right-batch-first"],
    ("compare", "--right", "eq"): ["equations"],
    ("compare", "--right", "cells@c"): ["cells@cpu", "cells@cuda"],
    ("compare", "--right", "cells@cpu/float6"): ["cells@cpu/float64"],
    ("bench", "--subjects", "module,c"): ["module,cells", "module,compiled", "module,compiled-module", "module,cell:"],
    ("sweep", "--kind", "rnn,"): ["rnn,rnn", "rnn,lstm", "rnn,gru"],
    ("sweep", "--grad", ""): ["off", "on", "both"],
    ("compare", "--device", ""): ["cpu", "cuda", "mps", "xpu", "mtia", "hpu", "npu", "privateuseone", "auto"],
    ("compare", "--device", "m"): ["mps", "mtia"],
    ("compare", "--weights", ""): [],
    ("weights", ""): [],
    ("help", "comp"): ["compare"],
    ("explain", "reset"): ["reset-before-the-matmul", "reset-state-kept"],
}


@pytest.mark.parametrize("words", COMPLETED, ids=" ".join)
def test_bash_is_offered(words: tuple[str, ...]) -> None:
    assert in_bash(*words) == COMPLETED[words]


def test_bash_is_offered_the_same_where_words_have_spaces_between_them() -> None:
    assert in_bash("compare", "--kind", "l", by=" ") == ["lstm"]


def test_zsh_is_offered_values_and_flags_with_what_they_are() -> None:
    def in_zsh(line: str) -> list[str]:
        return asked(_RNNSCOPE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)[1]

    assert in_zsh("rnnscope compare --kind ") == ['_arguments \'*: :(("rnn"', '"lstm"', '"gru"))\'']
    assert in_zsh("rnnscope compare --see") == [
        '_arguments \'*: :(("--seed":"Of weights and input. Default\\\\: 0."))\''
    ]
    assert in_zsh("rnnscope compare --weights ") == ["_files"]


def test_fish_is_offered_values_and_told_where_a_file_is_wanted() -> None:
    assert in_fish("rnnscope compare --kind ", "get-args") == (0, ["rnn", "lstm", "gru"])
    assert in_fish("rnnscope compare --see", "get-args") == (0, ["--seed\tOf weights and input. Default: 0."])
    assert in_fish("rnnscope compare --kind ", "is-args") == (0, [])
    assert in_fish("rnnscope compare --weights ", "is-args") == (1, [])


@pytest.mark.parametrize("words", [("compare", "--layres", "3", "--kind", ""), ("wibble", "--kind", "")], ids=str)
def test_a_line_that_is_wrong_is_not_complained_about(words: tuple[str, ...]) -> None:
    assert "rnnscope:" not in " ".join(in_bash(*words))


def test_an_empty_variable_asks_for_no_completion() -> None:
    command = [*RNNSCOPE, "shapes", "--dry-run"]
    empty = subprocess.check_output(command, env=os.environ | {"_RNNSCOPE_COMPLETE": ""}, text=True, timeout=60)
    assert empty == subprocess.check_output(command, text=True, timeout=60)


PROBE = """
import contextlib, io, sys
from rnnscope.cli.shell import run
with contextlib.redirect_stdout(io.StringIO()):
    run([])
print([each for each in ("torch", "rich.console", "numpy") if each in sys.modules])
"""


def test_completion_imports_neither_torch_nor_rich() -> None:
    line = {"_RNNSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": "rnnscope\ncompare\n--left\n", "COMP_CWORD": "3"}
    done = subprocess.check_output([sys.executable, "-c", PROBE], env=os.environ | line, text=True, timeout=60)
    assert done == "[]\n"


SIGNS = {"bash": "complete -o default -F", "zsh": "#compdef rnnscope", "fish": "complete --command rnnscope"}


@pytest.mark.parametrize("shell", SIGNS)
def test_a_script_for_a_shell_is_shown(cli: Cli, shell: str) -> None:
    answer = cli("--show-completion", shell)
    assert (answer.code, answer.err) == (0, "")
    assert SIGNS[shell] in answer.out
    assert f"_RNNSCOPE_COMPLETE=complete_{shell}" in answer.out


def test_without_a_name_it_is_for_the_shell_that_asks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("zsh", "/bin/zsh"))
    assert cli("--show-completion") == cli("--show-completion", "zsh")


def test_a_shell_that_cannot_be_found_out_is_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shellingham", None)
    message = "--show-completion cannot find out which shell this is; name it: --show-completion bash"
    assert cli("--show-completion") == Answer(2, "", f"rnnscope: {message}\n")


def test_another_shell_is_refused(cli: Cli) -> None:
    message = "--show-completion is 'csh', but it must be one of bash, zsh, fish, powershell, pwsh"
    assert cli("--show-completion", "csh") == Answer(2, "", f"rnnscope: {message}; try --show-completion bash\n")


def test_it_is_installed_where_the_shell_looks(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    answer = cli("--install-completion", "bash")
    script = os.path.join(tmp_path, ".bash_completions", "rnnscope.sh")
    assert answer == Answer(
        0, f"Completion for bash stands in {script}. It works in the next shell that you start.\n", ""
    )
    with open(script, encoding="utf-8") as stream:
        assert stream.read().strip() == cli("--show-completion", "bash").out.strip()


def test_a_home_that_cannot_be_written_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.devnull)
    answer = cli("--install-completion", "bash")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("write it yourself: rnnscope --show-completion bash\n")


def test_the_two_flags_stand_in_the_help_of_all_commands_alone(cli: Cli) -> None:
    for flag in ("--install-completion", "--show-completion"):
        assert flag in cli("--help").out
        assert flag not in cli("compare", "--help-all").out


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_itself_completes(bash: Cli) -> None:
    line = (
        """
    rnnscope() { """
        + f"{sys.executable} -m rnnscope"
        + """ "$@"; }
    export -f rnnscope
    eval "$(rnnscope --show-completion bash | sed 's/ $1 / bash -c rnnscope /')"
    COMP_WORDS=(rnnscope compare --kind l); COMP_CWORD=3
    _rnnscope_completion bash
    echo "${COMPREPLY[@]}"
    """
    )
    line = line.replace("s/ $1 / bash -c rnnscope /", "s/complete_bash $1/complete_bash bash -c rnnscope/")
    assert bash(line) == Answer(0, "lstm\n", "")


def test_an_empty_variable_asks_for_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RNNSCOPE_COMPLETE", "")
    assert cli("diff") == Answer(2, "", "rnnscope: no such command: diff; did you mean compare?\n")
