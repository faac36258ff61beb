"""What a CI gets: cases of JUnit's XML, and annotations of GitHub."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from support import Cli
from torch import Tensor, nn

from rnnscope import record
from rnnscope.pages.ci import FAILED, MOST_ANNOTATIONS, WRITERS, Case

LOOKS_AHEAD = """
from torch import nn


class Net(nn.GRU):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)

    def forward(self, x, hx=None):
        y, h = super().forward(x, hx)
        return (y.flip(0) if len(x) > 20 else y), h
"""


NESTED = """
class Outer:
    class Net: ...

if Outer:
    class Maybe: ...

try:
    class Twice: ...
except ImportError:
    class Twice: ...
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A class in the working directory, that is right in short sequences alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(LOOKS_AHEAD)
    return "mine.py:Net"


class Output(nn.Module):
    def forward(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0]


def cases(xml: str) -> dict[str, str]:
    """The tag in each case, by its name; "" where it passed."""
    return {str(each.get("name")): "".join(found.tag for found in each) for each in _suite(xml).iter("testcase")}


def _suite(xml: str) -> ElementTree.Element:
    suite = ElementTree.fromstring(xml).find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize("right", ["cells", "module"])
def test_a_comparison_that_is_the_same_is_one_test_that_passes(cli: Cli, right: str) -> None:
    answer = cli("compare", "--right", right, "--format", "junit")
    assert (answer.code, cases(answer.out)) == (0, {f"{right} against module, nn.RNN (2 layers, tanh)": ""})


def test_a_comparison_that_differs_is_a_failure_with_reason_place_and_line(cli: Cli) -> None:
    answer = cli("compare", "--kind", "gru", "--right", "deviation:update-gate-inverted", "--format", "junit")
    found = _suite(answer.out).find("testcase/failure")
    assert answer.code == 1
    assert found is not None
    assert found.get("type") == "function"
    assert re.findall(r"^(\w[\w ]*): ", found.text or "", re.M) == ["Why", "First at", "Rerun"]


def test_each_relation_is_a_test_and_what_does_not_apply_is_skipped(cli: Cli, net: str) -> None:
    said = ("check", net, "--seq-len", "25", "--no-shrink", "--only", "repeatable,batch_first,causality,chunked")
    tags = {"repeatable": "", "batch_first": "skipped", "causality": "failure", "chunked": "skipped"}
    assert cases(cli(*said, "--format", "junit").out) == tags


def test_each_configuration_is_a_test(cli: Cli, net: str) -> None:
    out = cli("sweep", "--check", net, "--seq-len", "5,25", "--only", "causality", "--format", "junit").out
    assert [(name.partition(" --th")[0], tag) for name, tag in cases(out).items()] == [
        ("check --seq-len 25", "failure"),
        ("check --seq-len 5", ""),
    ]


def test_what_cannot_be_compared_in_a_sweep_is_skipped(cli: Cli) -> None:
    out = cli("sweep", "--kind", "rnn,lstm", "--proj-size", "4", "--right", "module", "--format", "junit").out
    assert list(cases(out).values()) == ["skipped", ""]


@pytest.mark.parametrize("layers", ["1", "2"])
def test_the_counts_of_a_suite_are_those_of_its_cases(cli: Cli, layers: str) -> None:
    suite = _suite(cli("check", "torch.nn:GRU", "--layers", layers, "--format", "junit").out)
    tags = [each.tag for case in suite.iter("testcase") for each in case]
    counted = {name: int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": 21, "failures": 0, "errors": 0, "skipped": tags.count("skipped")}


def test_the_page_is_what_the_suite_printed_without_colours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    page = _suite(cli("compare", "--format", "junit").out).findtext("system-out") or ""
    assert page.startswith("cells against module, nn.RNN (2 layers, tanh)\n")
    assert "\nVerdict: " in page
    assert "\x1b" not in page


def test_the_xml_is_ascii_whatever_a_name_has(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "größe.py").write_text(LOOKS_AHEAD)
    answer = cli(
        "compare", "--kind", "gru", "--right", f"{tmp_path}/größe.py:Net", "--layers", "1", "--format", "junit"
    )
    assert answer.out.isascii()
    assert any("größe.py:Net" in name for name in cases(answer.out))


def test_an_annotation_stands_at_the_class(cli: Cli, net: str) -> None:
    said = ("check", net, "--seq-len", "25", "--no-shrink", "--only", "causality", "--format", "github")
    *page, last = cli(*said).out.splitlines()
    assert last.startswith("::error title=rnnscope check%3A causality,file=mine.py,line=5::causality: y at step 0 ")
    assert "%0ARerun: rnnscope check --seq-len 25 " in last
    assert (page[0], page[-1]) == ("::group::rnnscope check", "::endgroup::")


@pytest.mark.parametrize(("name", "line"), [("Outer.Net", 3), ("Maybe", 6), ("Twice", 11), ("Outer", 2), ("Net", 0)])
def test_a_class_is_found_wherever_a_file_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: int
) -> None:
    (tmp_path / "nested.py").write_text(NESTED)
    monkeypatch.chdir(tmp_path)
    said = WRITERS["github"]("check", [Case("a", FAILED, "b", "c", subject=f"nested.py:{name}")], "")
    assert said.startswith(f"::error title=rnnscope check%3A b,file=nested.py{f',line={line}' if line else ''}::")


def test_an_annotation_names_the_file_from_the_root_of_the_checkout(
    cli: Cli, net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path.parent))
    out = cli("check", net, "--seq-len", "25", "--no-shrink", "--only", "causality", "--format", "github").out
    assert f",file={tmp_path.name}/mine.py,line=5::" in out


def test_each_module_of_two_recorded_models_is_a_test(cli: Cli, tmp_path: Path) -> None:
    runs = [str(tmp_path / name) for name in ("before.pt", "after.pt")]
    for number, run in enumerate(runs):
        torch.manual_seed(0)
        first = nn.GRU(3, 4)
        torch.manual_seed(number)
        model = nn.Sequential(first, Output(), nn.LSTM(4, 5))
        with record(model, run):
            model(torch.ones(3, 2, 3))
    left, right = (f"recorded:{run}" for run in runs)
    assert cases(cli("compare", "--left", left, "--right", right, "--format", "junit").out) == {"0": "", "2": "failure"}


def test_a_side_that_is_no_file_has_an_annotation_without_a_place(cli: Cli) -> None:
    out = cli("compare", "--kind", "gru", "--right", "deviation:update-gate-inverted", "--format", "github").out
    assert out.splitlines()[-1].startswith("::error title=rnnscope compare%3A function::different: ")


def test_what_is_the_same_has_no_annotation(cli: Cli) -> None:
    assert [line for line in cli("compare", "--format", "github").out.splitlines() if line.startswith("::")] == [
        "::group::rnnscope compare",
        "::endgroup::",
    ]


def test_more_annotations_than_github_shows_are_counted() -> None:
    found = [Case(str(number), FAILED) for number in range(MOST_ANNOTATIONS + 3)]
    lines = WRITERS["github"]("sweep", found, "").splitlines()
    assert lines[-1] == "::notice title=rnnscope sweep::3 errors more like these; --format junit has them all"
    assert len(lines) == MOST_ANNOTATIONS + 1


@pytest.mark.parametrize("line", ["::stop-commands::x", "  ::error::x", "##[error]x"])
def test_no_line_of_a_page_is_a_command_to_github(line: str) -> None:
    shown = WRITERS["github"]("compare", [], line).splitlines()[1]
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown


def test_signs_with_a_meaning_are_written_as_urls_have_them() -> None:
    case = Case("y", FAILED, "a,b:c", "100 %\r\n::error::", ("more",))
    assert WRITERS["github"]("compare", [case], "") == (
        "::error title=rnnscope compare%3A a%2Cb%3Ac::100 %25\\r\\n::error::%0Amore\n"
    )


@pytest.mark.parametrize(("form", "starts"), [("junit", "<testsuites "), ("github", "::error title=rnnscope compare")])
@pytest.mark.parametrize("words", ["compare --layers 0", "compare --layres 2"])
def test_trouble_is_told_in_the_same_form(cli: Cli, form: str, starts: str, words: str) -> None:
    answer = cli(*words.split(), "--format", form)
    assert answer.code == 2
    assert answer.out.startswith(starts)
    assert answer.err.removeprefix("rnnscope: ").strip() in answer.out


def test_trouble_is_one_error_of_a_suite(cli: Cli) -> None:
    assert cases(cli("compare", "--layers", "0", "--format", "junit").out) == {"compare": "error"}


@pytest.mark.parametrize("command", ["shapes", "trace", "bench", "code", "weights model.pt", "help", "explain"])
def test_a_command_that_finds_nothing_wrong_has_no_such_format(cli: Cli, command: str) -> None:
    answer = cli(*command.split(), "--format", "junit")
    assert answer.code == 2
    assert "--format is 'junit', but it must be one of table, json, tsv, markdown;" in answer.err
