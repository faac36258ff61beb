"""--export: one self-contained file a page, that says what the page says and is written as a whole or not at all."""

import html
import re
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import Answer, Cli
from torch import nn

SHAPES = ("shapes", "--dry-run", "--kind", "lstm", "--bidirectional")


def words(text: str) -> list[str]:
    return text.replace("\xa0", " ").split()


def exported(cli: Cli, path: Path, *command: str) -> tuple[str, Answer]:
    answer = cli(*(command or SHAPES), "--export", str(path))
    return path.read_text(encoding="utf-8"), answer


def text_of_svg(text: str) -> str:
    return " ".join("".join(each.itertext()) for each in xml.etree.ElementTree.fromstring(text).iter() if each.text)


def text_of_html(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", text.partition("<code>")[2]))


READERS: dict[str, Callable[[str], str]] = {".svg": text_of_svg, ".html": text_of_html, ".txt": str}


@pytest.mark.parametrize("ending", [".html", ".txt"])
@pytest.mark.parametrize("command", ["shapes --dry-run --kind lstm", "trace --values", "compare --map", "code"])
def test_a_file_says_what_the_page_says(cli: Cli, tmp_path: Path, command: str, ending: str) -> None:
    text, answer = exported(cli, tmp_path / f"page{ending}", *command.split())
    lines = [line.rstrip() for line in READERS[ending](text).strip().split("\n")]
    assert lines == answer.out.strip().split("\n")


def test_a_picture_says_what_the_page_says(cli: Cli, tmp_path: Path) -> None:
    text, answer = exported(cli, tmp_path / "page.svg")
    drawn = text_of_svg(text)
    assert [word for word in words(answer.out) if word not in words(drawn)] == []


@pytest.mark.parametrize("ending", [".svg", ".html"])
def test_nothing_is_fetched_from_elsewhere(cli: Cli, tmp_path: Path, ending: str) -> None:
    text, _ = exported(cli, tmp_path / f"page{ending}")
    assert re.findall(r"url\((?!#)|<script|<link|@import|src=|href=", text) == []
    assert set(re.findall(r"https?://[^\"]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_a_page_for_a_browser_has_colours_for_a_light_and_a_dark_ground(cli: Cli, tmp_path: Path) -> None:
    text, _ = exported(cli, tmp_path / "page.html", "shapes")
    light, dark = re.findall(r"\.r\d+ \{color: (#\w+)", text)
    assert "prefers-color-scheme: dark" in text
    assert light != dark


def luminance(colour: str) -> float:
    """Source: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("number", range(1, 7), ids=["red", "green", "yellow", "blue", "magenta", "cyan"])
@pytest.mark.parametrize("theme", ["_LIGHT", "_DARK"])
def test_every_colour_can_be_read_on_its_ground(theme: str, number: int) -> None:
    from rnnscope.pages import rich

    colours = getattr(rich, theme)
    pair = sorted((luminance(colours.background_color.hex), luminance(colours.ansi_colors[number].hex)))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


UNREADABLE = {
    "on a light ground": {"33", "36", "37", "93", "96", "97"},  # yellow, cyan, white
    "on a dark ground": {"30", "34"},  # black, blue
    "on some of either": {"2", "90"},  # dim, grey
}


@pytest.mark.parametrize(
    "command",
    ["compare --map --right deviation:h0-ignored", "compare --help", "--help", "help compare", "help verdict"],
)
def test_a_terminal_shows_colours_that_can_be_read_on_every_ground(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    codes = {code for each in re.findall(r"\x1b\[([\d;]*)m", cli(*command.split()).out) for code in each.split(";")}
    assert codes & set().union(*UNREADABLE.values()) == set()
    assert "94" in codes  # bright blue


def test_the_same_flags_give_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    assert exported(cli, tmp_path / "one.svg")[0] == exported(cli, tmp_path / "two.svg")[0]


@pytest.mark.parametrize("ending", [".svg", ".html", ".txt"])
def test_a_narrow_page_loses_nothing(cli: Cli, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    whole = set(re.findall(r"[\w.]+", cli(*SHAPES).out))
    monkeypatch.setenv("COLUMNS", "40")
    text, answer = exported(cli, tmp_path / f"page{ending}")
    assert max(map(len, answer.out.splitlines()[:-1])) < 50
    assert whole <= set(re.findall(r"[\w.]+", READERS[ending](text).replace("\xa0", " ")))


@pytest.mark.parametrize("form", ["json", "tsv", "markdown"])
def test_the_file_holds_the_page_whatever_stdout_gets(cli: Cli, tmp_path: Path, form: str) -> None:
    plain, _ = exported(cli, tmp_path / "one.txt")
    other, _ = exported(cli, tmp_path / "two.txt", *SHAPES, "--format", form)
    assert other == plain


def test_quiet_prints_nothing_and_writes_the_file(cli: Cli, tmp_path: Path) -> None:
    text, answer = exported(cli, tmp_path / "page.txt", *SHAPES, "-q")
    assert answer == Answer(0, "", "")
    assert text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.png", "the ending names no format; use one of .svg, .html, .txt"),
        ("none/page.svg", "there is no folder {folder}/none; make it first"),
        ("there.svg", "is there already; name another file, or add --force"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(
    cli: Cli, tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*given: object) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr("rnnscope.shapes.result.shapes_of", run)
    (tmp_path / "there.svg").write_text("mine")
    answer = cli(*SHAPES, "--export", str(tmp_path / name))
    assert answer.code == 2
    assert message.format(folder=tmp_path) in answer.err
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_force_replaces_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "there.svg"
    path.write_text("mine")
    assert exported(cli, path, *SHAPES, "--force")[0].startswith("<svg")


def test_a_full_disk_leaves_no_file_and_the_answer_is_printed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rnnscope.pages.render.os.fsync", full)
    answer = cli(*SHAPES, "--export", str(tmp_path / "page.svg"))
    assert answer.code == 2
    assert answer.err.startswith("rnnscope: cannot write")
    assert answer.out == cli(*SHAPES).out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A checkpoint with wide characters and a bar in its prefix, under a name with a control code."""
    path = tmp_path / "x\x1b[31m.pt"
    torch.save({f"模型|编码.{name}": each for name, each in nn.LSTM(3, 4).state_dict().items()}, path)
    return path


@pytest.mark.parametrize("ending", [".html", ".txt", ".svg"])
def test_wide_characters_push_nothing_off_the_page(cli: Cli, tmp_path: Path, strange: Path, ending: str) -> None:
    text, answer = exported(cli, tmp_path / f"page{ending}", "weights", str(strange))
    read = READERS[ending](text).replace("\xa0", " ")
    assert [word for word in ("parameters", "(1, N, 4)") if word not in answer.out or word not in read] == []
    assert "\x1b" not in text + answer.out


def test_markdown_has_no_control_code_and_no_column_too_many(cli: Cli, strange: Path) -> None:
    text = cli("weights", str(strange), "--format", "markdown").out
    assert "\x1b" not in text
    bars = {
        line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| ") and "LSTM" in line
    }
    assert bars == {10}


def test_a_name_that_is_no_text_is_shown_and_not_lost(bash: Cli, tmp_path: Path) -> None:
    torch.save(nn.LSTM(3, 4).state_dict(), tmp_path / "model.pt")
    answer = bash(rf"cd {tmp_path} && mv model.pt $'x\xff.pt' && rnnscope weights $'x\xff.pt' --export page.svg")
    assert (answer.code, answer.err) == (0, "")
    xml.etree.ElementTree.parse(tmp_path / "page.svg")


def test_force_follows_a_link(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "real.svg").write_text("old")
    (tmp_path / "link.svg").symlink_to(tmp_path / "real.svg")
    cli(*SHAPES, "--export", str(tmp_path / "link.svg"), "--force", "-q")
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "real.svg").read_text().startswith("<svg")
