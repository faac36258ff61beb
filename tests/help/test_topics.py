"""The manual: its topics are listed, shown by every name that they have, and suggested."""

import json

import pytest
from support import Cli


def test_every_topic_is_listed_with_what_it_answers(cli: Cli) -> None:
    assert "compare  Are the two the same network?" in cli("help").out


def test_a_topic_is_its_file(cli: Cli) -> None:
    assert cli("help", "compare", "--format", "markdown").out.startswith("# Are the two the same network?\n")


def test_a_document_has_the_text(cli: Cli) -> None:
    found = json.loads(cli("help", "compare", "--json").out)
    assert found["topic"] == "compare"
    assert found["text"].startswith("# Are the two")


@pytest.mark.parametrize(
    ("name", "hint"), [("comparing", "did you mean compare?"), ("zzz", "rnnscope help lists them")]
)
def test_an_unknown_topic_is_answered_by_the_nearest(cli: Cli, name: str, hint: str) -> None:
    answer = cli("help", name)
    assert answer.code == 2
    assert answer.err == f"rnnscope: no topic is called '{name}'; {hint}\n"
