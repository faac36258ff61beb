"""Real bugs, written anew: each is found, named where it has a name, and placed; its right twin is called right.

What rnnscope does not tell of one stands in its file, with the reason. That is tested, too: once it is told, the file
says something that does not hold.
"""

import re
import shutil
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from graveyard.grave import HERE, Answer, answer_of, bugs, is_named, is_placed

from rnnscope import RnnscopeError
from rnnscope.help.topics import topic

BUGS = bugs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graveyard")


@cache
def answer(name: str, faulty: bool, folder: Path) -> Answer | None:
    """What rnnscope says of a bug or of its right twin; None where it refuses to compare it."""
    if BUGS[name].needs and shutil.which(BUGS[name].needs) is None:
        pytest.skip(f"there is no {BUGS[name].needs}")
    (folder / name).mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what the authors of a bug did
        try:
            return answer_of(BUGS[name].form.asked(faulty, folder / name))
        except RnnscopeError:
            return None


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_found(name: str, folder: Path) -> None:
    told = answer(name, True, folder)
    assert (told is not None and told.found) == ("found" not in BUGS[name].missed)


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.named and "found" not in bug.missed])
def test_a_bug_is_named(name: str, folder: Path) -> None:
    told = answer(name, True, folder)
    assert told is not None
    assert is_named(BUGS[name], told) == ("named" not in BUGS[name].missed), told.names


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.place and "found" not in bug.missed])
def test_a_bug_is_placed(name: str, folder: Path) -> None:
    told = answer(name, True, folder)
    assert told is not None
    assert is_placed(BUGS[name], told) == ("placed" not in BUGS[name].missed), told.place


@pytest.mark.parametrize("name", BUGS)
def test_a_right_twin_is_called_right(name: str, folder: Path) -> None:
    told = answer(name, False, folder)
    assert (told is not None and not told.found and told.decided) == ("twin" not in BUGS[name].missed)


@pytest.mark.parametrize("name", BUGS)
def test_no_right_twin_is_called_wrong(name: str, folder: Path) -> None:
    told = answer(name, False, folder)
    assert told is None or not told.found


@pytest.mark.parametrize("name", BUGS)
def test_the_manual_lists_each_bug_and_what_is_missed_of_it(name: str) -> None:
    bug = BUGS[name]
    text = topic("graveyard").text
    assert f"| {bug.report} | {bug.told} |" in text
    assert [reason for reason in bug.missed.values() if reason not in " ".join(text.split())] == []


def test_there_are_forty_in_two_halves() -> None:
    assert Counter(bug.half for bug in BUGS.values()) == {1: 20, 2: 20}


def test_each_report_is_named_once() -> None:
    assert len({bug.report for bug in BUGS.values()}) == len(BUGS)


@pytest.mark.parametrize("name", BUGS)
def test_a_file_is_named_by_its_report_and_opens_with_it(name: str) -> None:
    report = BUGS[name].report
    assert name == re.sub(r"\W", "_", report.partition("/")[2].lower())
    assert (HERE / f"{name}.py").read_text(encoding="utf-8").startswith(f'"""{report}: ')
