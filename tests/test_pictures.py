"""The pictures of the README are what the commands under them give now."""

import re
import xml.etree.ElementTree
from pathlib import Path

import pytest
from draw_pictures import PICTURES, draw
from support import ROOT

FOLDER = ROOT / "tests" / "pictures"


def words(path: Path) -> list[str]:
    """What can be read in a picture, without the digits that differ from machine to machine."""
    drawn = xml.etree.ElementTree.parse(path).getroot()
    text = " ".join("".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text"))
    text = re.sub(r"torch \d[\w.+]*", "torch V", text.replace("\xa0", " "))
    text = re.sub(r"(?<=, )\d+ threads?|(?<=--threads )\d+", "T", text)
    return re.sub(r"\d[\d.]*e-\d+|(?<=float64 ) *\d[\d.]*", "F", text).split()


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("COLUMNS", "80")
        draw(folder)
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_command_gives(anew: Path, name: str) -> None:
    assert words(FOLDER / name) == words(anew / name)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_stands_in_the_readme_over_its_command(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"(tests/pictures/{name})" in readme
    assert f"rnnscope {PICTURES[name]}" in readme


def test_no_picture_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.svg")} == set(PICTURES)
