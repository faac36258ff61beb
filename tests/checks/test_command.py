"""`rnnscope check` on a command line: exit codes, what is refused, and that its lines give the same again."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Cli

CLASSES = """\
import torch
from torch import nn


class Ahead(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x.roll(-1, 0), hx)


class Late(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x, h=None):
        h = x.new_zeros(x.shape[1], self.cell.hidden_size) if h is None else h
        y = []
        for t, each in enumerate(x):
            h = self.cell(each, h if t != 7 else 0 * h)
            y.append(h)
        return torch.stack(y), h


class BatchFirst(nn.Module):
    def __init__(self, dim, width=8):
        super().__init__()
        self.rnn = nn.LSTM(dim, width, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class Two(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers=2):
        super().__init__()
        if num_layers != 2:
            raise ValueError("two layers, always")
        self.rnn = nn.RNN(input_size, hidden_size, num_layers)

    def forward(self, x, hx=None):
        return self.rnn(x.roll(-1, 0), hx)


class Talks(nn.GRU):
    def forward(self, *given):
        print("from forward")
        return super().forward(*given)


class Leaves(nn.GRU):
    def forward(self, *given):
        raise SystemExit(0)
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CLASSES, encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("torch.nn:LSTM --layers 1 --only causality,stepwise", 0),
        ("torch.nn:GRU --bidirectional --lengths 4,2,3 --only packed", 0),
        ("mine.py:Ahead --only causality", 1),
        ("mine.py:Ahead --only chunked,causality", 1),
        ("mine.py:Ahead --skip causality,chunked,stepwise,packed --only stateless", 0),
        ("mine.py:Late --seq-len 7 --only chunked", 0),
        ("mine.py:Late --seq-len 9 --only chunked", 1),
        ("mine.py:BatchFirst --arg dim=10 --only item_isolation,causality", 0),
        ("mine.py:Talks --only repeatable", 0),
    ],
)
def test_the_exit_code_says_what_was_found(cli: Cli, words: str, code: int) -> None:
    answer = cli("check", *words.split(), "-q")
    assert (answer.code, answer.out) == (code, "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "MODULE is missing; try torch.nn:GRU"),
        ("mine.py", "MODULE is 'mine.py', but it must be FILE.py:Class or package.module:Class"),
        ("cell:mine.py:Late", "MODULE is 'cell:mine.py:Late', but it must be FILE.py:Class"),
        ("mine.py:Lat", "mine.py has no Lat; did you mean mine.py:Late?"),
        ("mine.py:Late --layers 3", "mine.py:Late takes no num_layers, and --layers 3 needs it"),
        ("mine.py:BatchFirst", "mine.py:BatchFirst needs dim, which rnnscope does not know; add --arg dim=VALUE"),
        ("mine.py:Late --arg depth=3", "--arg gives depth, and mine.py:Late takes no depth"),
        ("mine.py:Late --name q=lengths", "--name q=lengths: Late.forward takes no q; it takes x, h"),
        ("mine.py:Late --name q=length", "--name is 'q=length', but it must be OWN=x, OWN=state"),
        ("mine.py:Late --only casuality", "did you mean --only causality?"),
        ("mine.py:Late --only layout --skip layout", "--skip leaves nothing of --only to ask for"),
        ("mine.py:Late --unbatched", "leave it out: the relation unbatched asks it"),
        ("mine.py:Late --batch 0", "--batch is 0, so that nothing comes out"),
        ("mine.py:Late --right cells", "no such flag: --right; it is a flag of compare"),
        ("mine.py:Leaves", "mine.py:Leaves raised SystemExit"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(cli: Cli, words: str, sentence: str) -> None:
    answer = cli("check", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert answer.err.count("\n") == 1


def document(cli: Cli, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("check", *words, "--json").out)
    return found


def test_the_document_has_the_keys_that_are_promised(cli: Cli) -> None:
    found = document(cli, "mine.py:Ahead", "--seq-len", "5", "--only", "causality,padding")
    assert (found["subject"], found["verdict"]) == ("mine.py:Ahead", "broken")
    assert [set(each) >= {"relation", "outcome", "max_abs", "bound", "place", "message"} for each in found["relations"]]
    assert [each["outcome"] for each in found["relations"]] == ["broken", "not_applicable"]
    assert found["relations"][0]["place"] == {"tensor": "y", "step": 0, "item": 0, "unit": 0}


def test_the_smallest_line_breaks_the_same_relation(cli: Cli) -> None:
    found = document(cli, "mine.py:Late", "--seq-len", "20", "--only", "chunked")
    (smallest,) = found["smallest"]
    assert smallest["spec"]["seq_len"] == 8
    again = cli(*shlex.split(smallest["rerun"])[1:], "--json")
    assert (again.code, json.loads(again.out)["relations"][0]["relation"]) == (1, "chunked")


def test_the_smallest_line_says_nothing_that_the_class_refuses(cli: Cli) -> None:
    found = document(cli, "mine.py:Two", "--seq-len", "6", "--only", "causality")
    (smallest,) = found["smallest"]
    assert cli(*shlex.split(smallest["rerun"])[1:]).code == 1


def test_the_line_gives_the_same_again(cli: Cli) -> None:
    first = cli("check", "mine.py:Late", "--seq-len", "9", "--batch", "3", "--seed", "4", "--only", "chunked,layout")
    line = next(each for each in first.out.splitlines() if each.startswith("Rerun: "))
    assert cli(*shlex.split(line.removeprefix("Rerun: "))[1:]).out == first.out


def test_every_line_of_a_page_fits_80_columns_but_those_to_copy(cli: Cli) -> None:
    lines = cli("check", "mine.py:Ahead", "--seq-len", "12").out.splitlines()
    assert [each for each in lines if len(each) > 80 and not each.startswith(("Rerun: ", "Smallest that "))] == []


def test_a_class_of_the_users_prints_to_stderr(cli: Cli) -> None:
    answer = cli("check", "mine.py:Talks", "--only", "repeatable", "--json")
    assert json.loads(answer.out)["verdict"] == "holds"


def test_a_device_that_is_no_cpu_is_asked_too() -> None:
    elsewhere = Path(__file__).parents[1] / "another_device.py"
    words = "check torch.nn:GRU --device npu --seq-len 6 --batch 3 --skip gradient,gradient_reach,state_dict,copies -q"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(elsewhere), *words.split()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
