"""How an answer is wanted is read from the parse: in a cluster, before the command, never off another flag's value."""

import json
from pathlib import Path

import pytest
import torch
from support import Answer, Cli

from rnnscope import __version__


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = str(tmp_path / "model.pt")
    torch.save(torch.nn.GRU(2, 3).state_dict(), path)
    return path


def test_a_cluster_is_quiet_and_names_the_file(cli: Cli, model: str, tmp_path: Path) -> None:
    out = tmp_path / "b.pt"
    assert cli("convert", model, "--to", "cells", "-qo", str(out)) == Answer(0, "", "")
    assert out.is_file()


@pytest.mark.parametrize(
    "words", [("-q", "shapes", "--dry-run"), ("--quiet", "shapes", "--dry-run", "--json")], ids=str
)
def test_quiet_before_the_command(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli(*words) == Answer(0, "", "")


def test_json_before_the_command(cli: Cli) -> None:
    assert json.loads(cli("--json", "shapes", "--dry-run").out)["command"] == "shapes"


def test_an_error_after_json_before_the_command_is_a_document(cli: Cli) -> None:
    answer = cli("--json", "shapes", "--layers", "0")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"].startswith("--layers is 0")


def test_debug_before_the_command_shows_the_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("--debug", "shapes", "--layers", "0").err


@pytest.mark.parametrize("value", ["--json", "-q", "--debug"])
def test_a_value_that_looks_like_a_flag_is_a_value(cli: Cli, model: str, tmp_path: Path, value: str) -> None:
    answer = cli("convert", model, "--to", "cells", "--out", str(tmp_path / "b.pt"), f"--prefix={value}")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == f"rnnscope: {model} has no RNN under the prefix '{value}', but under ''; try ''\n"


def test_after_a_parse_error_the_words_are_looked_at(cli: Cli) -> None:
    answer = cli("shapes", "--layres", "2", "--json")
    assert json.loads(answer.out)["error"]["message"] == "no such flag: --layres"


def test_after_a_parse_error_there_is_no_document_where_quiet_was_asked_for(cli: Cli) -> None:
    answer = cli("shapes", "--layres", "2", "-q", "--json")
    assert answer == Answer(2, "", "rnnscope: no such flag: --layres; did you mean --layers?\n")


@pytest.mark.parametrize("words", [("--format", "json"), ("--format=json",)], ids=str)
def test_the_format_before_the_command(cli: Cli, words: tuple[str, ...]) -> None:
    assert json.loads(cli(*words, "shapes", "--dry-run").out)["command"] == "shapes"


def test_the_format_after_the_command_goes_before_the_one_in_front(cli: Cli) -> None:
    assert cli("--format", "json", "shapes", "--dry-run", "--format", "tsv").out.startswith("name\t")


def test_two_formats_in_two_places_are_refused(cli: Cli) -> None:
    answer = cli("--json", "shapes", "--dry-run", "--format", "tsv")
    assert (answer.code, answer.err) == (
        2,
        "rnnscope: --json means --format json, but --format is tsv; give one of the two\n",
    )


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_before_a_command_is_that_of_the_command(cli: Cli, flag: str) -> None:
    assert cli(flag, "shapes") == cli("shapes", "--help")


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version(cli: Cli, flag: str) -> None:
    assert cli(flag) == Answer(0, f"rnnscope {__version__}\n", "")


def test_no_words_at_all_show_the_help(cli: Cli) -> None:
    assert cli() == cli("--help")
    assert (cli().code, cli().err) == (0, "")


def test_no_command_under_json_is_a_document(cli: Cli) -> None:
    answer = cli("--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"] == "no command was given"


@pytest.mark.parametrize(
    "words",
    [
        ("--seq-len", "5..1", "--format", "json"),
        ("--dropout", "0.1..0.2", "--format=json"),
        ("--seq-len", "1..5000000", "--format", "json"),
    ],
    ids=str,
)
def test_a_list_that_cannot_be_read_is_told_in_the_format_that_was_asked_for(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli("sweep", *words)
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"].startswith(words[0])
