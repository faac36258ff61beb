"""A file of rows: nothing that is in it is lost, whatever stops the one who writes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Answer, Cli

from rnnscope import RnnscopeError
from rnnscope.sweeps.rows import line_of, read_rows, rows_added_to


def row(number: int) -> dict[str, Any]:
    facts = {"rerun": f"rnnscope compare --layers {number}", "status": "failed", "message": "no memory"}
    spec = {"left": "module", "right": "cells", "spec": {"num_layers": number}}
    return {"schema": 1, "command": "compare", **facts, **spec, "max_abs": float("nan")}


def written(path: Path, *numbers: int, **options: bool) -> list[dict[str, Any]]:
    """Write some rows, and give those that were there."""
    there: list[dict[str, Any]] = []
    with rows_added_to(str(path), options.get("resume", False), options.get("force", False), there.append) as append:
        for number in numbers:
            append(row(number))
    return there


def numbers_in(path: Path) -> list[int]:
    rows: list[dict[str, Any]] = []
    read_rows(str(path), rows.append)
    return [each["spec"]["num_layers"] for each in rows]


def test_a_row_is_one_line_of_strict_json(tmp_path: Path) -> None:
    written(tmp_path / "f", 1, 2)
    lines = (tmp_path / "f").read_text().splitlines()
    assert [json.loads(line)["max_abs"] for line in lines] == ["nan", "nan"]


def test_a_row_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with rows_added_to(str(tmp_path / "f"), False, False, print) as append:
        append(row(1))
        assert numbers_in(tmp_path / "f") == [1]


def test_going_on_keeps_what_is_there(tmp_path: Path) -> None:
    written(tmp_path / "f", 1, 2)
    there = written(tmp_path / "f", 3, resume=True)
    assert [each["spec"]["num_layers"] for each in there] == [1, 2]
    assert numbers_in(tmp_path / "f") == [1, 2, 3]


def test_going_on_with_nothing_is_a_beginning(tmp_path: Path) -> None:
    assert written(tmp_path / "f", 1, resume=True) == []
    assert numbers_in(tmp_path / "f") == [1]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path / "f", 1)
    with pytest.raises(RnnscopeError, match="is there already"):
        written(tmp_path / "f", 2)
    assert numbers_in(tmp_path / "f") == [1]


def test_force_writes_it_anew(tmp_path: Path) -> None:
    written(tmp_path / "f", 1, 2)
    written(tmp_path / "f", 3, force=True)
    assert numbers_in(tmp_path / "f") == [3]


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    written(tmp_path / "f", 1)
    assert numbers_in(tmp_path / "f") == [1]


@pytest.mark.parametrize("kept", range(len(line_of(row(2)))))
def test_a_torn_last_line_is_mended(tmp_path: Path, kept: int) -> None:
    (tmp_path / "f").write_bytes(line_of(row(1)) + line_of(row(2))[:kept])
    assert numbers_in(tmp_path / "f") == [1]
    written(tmp_path / "f", 2, resume=True)
    assert (tmp_path / "f").read_bytes() == line_of(row(1)) + line_of(row(2))


WRONG = {
    "another schema": (json.dumps(row(2) | {"schema": 2, "max_abs": 0}), "schema 2, but this rnnscope knows schema 1"),
    "another command": (json.dumps(row(2) | {"command": "shapes", "max_abs": 0}), "no row of a sweep"),
    "no rerun": ('{"schema": 1, "command": "compare"}', "no row of a sweep"),
    "no schema": (json.dumps({**row(2), "schema": None, "max_abs": 0}), "schema None, but this rnnscope"),
    "no message": (json.dumps({k: v for k, v in row(2).items() if k not in ("message", "max_abs")}), "no row of a"),
    "no object": ("[1]", "no row of a sweep"),
    "no JSON": ("layers,2", "no JSON"),
    "too deep": ("[" * 100_000, "no JSON"),
    "zeros": ("\0" * 9, "no JSON"),
}


@pytest.mark.parametrize(("line", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("read", [written, numbers_in], ids=["to go on", "to read"])
def test_another_file_is_refused_and_left_as_it_is(
    tmp_path: Path, read: Callable[..., object], line: str, reason: str
) -> None:
    content = line_of(row(1)) + line.encode() + b"\n" + line_of(row(3))
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(RnnscopeError, match=f"f, line 2: {reason}"):
        read(tmp_path / "f", **({"resume": True} if read is written else {}))
    assert (tmp_path / "f").read_bytes() == content


@pytest.mark.parametrize(
    "tail", [b'{"precious": 1}', b"notes", b"abc\xff\xfe", b'{"schema":2,"command":"compare"}', b" "]
)
@pytest.mark.parametrize("rows", [0, 1])
def test_a_last_line_that_is_no_part_of_a_row_is_not_cut_off(tmp_path: Path, rows: int, tail: bytes) -> None:
    content = line_of(row(1)) * rows + tail
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(RnnscopeError, match=f"f, line {rows + 1}: "):
        written(tmp_path / "f", 2, resume=True)
    assert (tmp_path / "f").read_bytes() == content


def test_a_whole_last_row_of_another_hand_gets_its_end(tmp_path: Path) -> None:
    other = json.dumps(row(1) | {"max_abs": 0}).encode()
    (tmp_path / "f").write_bytes(other)
    written(tmp_path / "f", 2, resume=True)
    assert (tmp_path / "f").read_bytes() == other + b"\n" + line_of(row(2))


def test_what_is_printed_does_not_write_over_rows(bash: Cli, tmp_path: Path) -> None:
    answer = bash(f"cd {tmp_path} && rnnscope sweep --out f > f")
    assert answer == Answer(2, "", "rnnscope: f is where the summary goes, too; send one of the two elsewhere\n")


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    with (
        rows_added_to(str(tmp_path / "f"), True, False, print),
        pytest.raises(RnnscopeError, match="is being written by another sweep"),
    ):
        written(tmp_path / "f", 1, resume=True)


LIMITED = """
import json, resource, sys
from rnnscope.sweeps.rows import rows_added_to
from rnnscope.errors import RnnscopeError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with rows_added_to(sys.argv[1], False, False, print) as append:
        for row in json.loads(sys.argv[2]):
            append(row)
except RnnscopeError as error:
    print(error.message, error.hint, sep="; ")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit as POSIX has it")
def test_where_there_is_no_more_room_the_file_ends_with_a_whole_row(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: a part of the line still fits."""
    path = tmp_path / "f"
    words = [sys.executable, "-c", LIMITED, str(path), json.dumps([row(number) for number in range(100)])]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    room = "the rows in it are whole: make room, and add --resume"
    assert done.stdout == f"cannot write {path} (File too large); {room}\n"
    assert 500 < os.path.getsize(path) <= 1000
    assert numbers_in(path) == list(range(1000 // len(line_of(row(1)))))
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no such device")
def test_a_full_disk_is_told_and_ends_the_sweep(cli: Cli) -> None:
    answer = cli("sweep", "--layers", "1..1000", "--out", "/dev/full")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("rnnscope: cannot write /dev/full (No space left on device); ")


def test_rows_can_be_sent_on(bash: Cli) -> None:
    assert bash("rnnscope sweep --layers 1,2 --out /dev/stdout -q | wc -l").out.strip() == "2"


@pytest.mark.parametrize("name", ["", "no/folder/f"])
def test_what_is_no_place_for_a_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(RnnscopeError, match="cannot write"):
        written(tmp_path / name, 1)


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RnnscopeError, match=r"cannot read .* \(No such file or directory\)"):
        numbers_in(tmp_path / "f")


def test_a_line_without_end_is_no_row(cli: Cli) -> None:
    message = (
        "/dev/zero has a line of more than 1,048,576 bytes, and no row; name a file that rnnscope sweep --out wrote"
    )
    assert cli("sweep", "--report", "/dev/zero") == Answer(2, "", f"rnnscope: {message}\n")


def test_a_row_may_be_long(tmp_path: Path) -> None:
    with rows_added_to(str(tmp_path / "f"), False, False, print) as append:
        append(row(1) | {"map": "x" * 2**21})
        append(row(2))
    assert numbers_in(tmp_path / "f") == [1, 2]


def test_a_row_that_a_signal_tears_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(bytes):
        def __getitem__(self, part: Any) -> Any:
            raise KeyboardInterrupt

    written(tmp_path / "f", 1)
    monkeypatch.setattr("rnnscope.sweeps.rows.line_of", lambda _: Torn(b'{"schema":1,'))
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "f", 2, resume=True)
    assert numbers_in(tmp_path / "f") == [1]
    assert (tmp_path / "f").read_bytes().endswith(b"}\n")
