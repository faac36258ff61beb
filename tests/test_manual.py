"""README and the topics of the manual: every example is run, and everything that they name is there.

Where an output holds figures of rounding, versions or a build of torch, which differ from machine to machine, their
place is compared and not their digits.
"""

import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path

import manual
import pytest
import torch
import typer.main
from support import ROOT, Cli, masked

from rnnscope.cli.commands import main
from rnnscope.cli.parser import COMMANDS, app_of
from rnnscope.help.topics import FOLDER, topic

README = (ROOT / "README.md").read_text(encoding="utf-8")
TOPICS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
TEXTS = {"README": README} | TOPICS
SET_UP = re.findall(r"^```sh\n(.*)\n```$", README, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if any(manual.examples(text))])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_examples_print_what_stands_under_them(tmp_path: Path, name: str, threads: str) -> None:
    """In the order in which they stand, in one folder, with nothing but what the set-up of README installs."""
    if threads == "2" and name != "README":
        pytest.skip("the same with one thread")
    examples = [each for each in manual.examples(TEXTS[name]) if each.can_run]
    printed = {each.text: masked(each.run(tmp_path, OMP_NUM_THREADS=threads)) for each in examples}
    assert printed == {each.text: masked(each.output) for each in examples}


def test_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 220


def test_readme_starts_with_one_sentence_of_20_words() -> None:
    sentence = README.split("\n\n")[1]
    assert sentence.count(".") == 1
    assert len(sentence.split()) == 20


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_topic(name: str) -> None:
    assert topic(name).title.endswith("?")


VERBATIM = ("$ ", "rnnscope: ", "rnnscope compare ", "::error ", "Rerun: ", "Smallest that ", "More: ")


@pytest.mark.parametrize("name", [name for name in TOPICS if name != "code"])  # a script has lines of its own
def test_no_line_to_copy_is_wider_than_a_terminal(name: str) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```$", TOPICS[name], re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(VERBATIM)]
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("name", TEXTS)
def test_the_topics_that_a_text_names_are_there(name: str) -> None:
    for named in re.findall(r"`rnnscope help ([\w-]+)`", TEXTS[name]):
        if named != "TOPIC":
            topic(named)


SCREENS: list[tuple[str, str]] = re.findall(
    r"^\| [^|]+ \| `(rnnscope [^`]+)` \| (.+) \|$", TOPICS["problems"], re.MULTILINE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the table of screens names."""
    folder = tmp_path_factory.mktemp("screens")
    weights = torch.nn.LSTM(8, 16, 2).state_dict()
    torch.save(weights, folder / "model.pt")
    torch.save({name: each + 0.01 for name, each in weights.items()}, folder / "after.pt")
    own = (ROOT / "tests" / "own_networks.py").read_text(encoding="utf-8")
    (folder / "my_gru.py").write_text(own.replace("class ResetBefore", "class MyGRU"), encoding="utf-8")
    (folder / "my_lstm.py").write_text(
        re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", README, re.M | re.S)[0], encoding="utf-8"
    )
    port = re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", TOPICS["programs"], re.M | re.S)[0]
    (folder / "port").write_text(f"#!{sys.executable}\n{port}", encoding="utf-8")
    (folder / "port").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> None:
    """The network of model.pt in ONNX."""
    pytest.importorskip("onnxruntime")
    lstm, names = torch.nn.LSTM(8, 16, 2), ["x", "h0", "c0", "y", "h", "c"]
    lstm.load_state_dict(torch.load(folder / "model.pt"))
    state = torch.zeros(2, 5, 16)
    free = {"x": {0: "L", 1: "N"}, "h0": {1: "N"}, "c0": {1: "N"}}
    given, file = (torch.zeros(3, 5, 8), (state, state)), folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            lstm, given, file, dynamo=False, input_names=names[:3], output_names=names[3:], dynamic_axes=free
        )


@pytest.mark.parametrize(("command", "words"), SCREENS, ids=[command for command, _ in SCREENS])
def test_a_screen_says_what_settles_it(
    cli: Cli,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    command: str,
    words: str,
) -> None:
    if "cuda" in command and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.chdir(folder)
    if ".onnx" in command:
        request.getfixturevalue("model")
    if "run.pt" in command:
        cli("compare", "--record", "run.pt", "--force", "-q")
    answer = cli(*shlex.split(command)[1:])
    assert words in re.sub(r"\s+", " ", answer.out)


PROBLEMS: list[tuple[str, str]] = re.findall(r"^\| [^|]+ \| `(rnnscope [^`]+)` \| `([\w-]+)` \|$", README, re.MULTILINE)


def test_readme_has_eighteen_problems() -> None:
    assert len(PROBLEMS) == 18


@pytest.mark.parametrize(("command", "name"), PROBLEMS)
def test_a_problem_is_settled_by_a_screen_and_has_a_topic(command: str, name: str) -> None:
    assert command in dict(SCREENS)
    assert topic(name).name == name


def test_two_commands_set_up_a_fresh_machine() -> None:
    first, second = SET_UP
    assert first.endswith("&& rnnscope compare")
    assert second.endswith("&& pytest -n auto")
    for line in SET_UP:
        assert line.startswith("python3 -m venv .venv && ")
        assert "torch==2.13.0" in line


def test_ci_runs_the_commands_that_stand_here(bash: Cli) -> None:
    ci = ROOT / ".ci" / "run"
    if not ci.exists() or not shutil.which("bash"):
        pytest.skip("not in a checkout")
    found = bash(f"bash '{ci}' --show '{ROOT / 'README.md'}'")
    assert found.out.splitlines() == SET_UP


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_in_the_topic_of_flags(name: str) -> None:
    command = typer.main.get_command(app_of(name, main)).commands[name]  # type: ignore[attr-defined]
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts) if option[0] == "-"}
    assert {each for each in options if not re.search(rf"[`/]{each}\b", TOPICS["flags"])} == set()


WORKFLOW = re.findall(r"^      - run: (rnnscope .*)$", TOPICS["ci"], re.MULTILINE)


def test_the_workflow_has_ten_lines() -> None:
    assert len(re.findall(r"```yaml\n((?:.*\n)*?)```", TOPICS["ci"])[0].splitlines()) == 10


@pytest.mark.parametrize("line", WORKFLOW, ids=["compare", "check", "sweep"])
def test_a_line_of_the_workflow_runs(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from torch import nn\n\n\nclass Net(nn.LSTM):\n    pass\n")
    answer = cli(*shlex.split(line)[1:])
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "::endgroup::")
