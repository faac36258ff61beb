"""The house: which folders there are, what each may import, and how large it is. Every import of every file is read.

And its tests: they have the same folders, and none imports another.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

import rnnscope

PACKAGE = ROOT / "rnnscope"
README = (ROOT / "README.md").read_text(encoding="utf-8")

FOLDERS: list[str] = re.findall(r"^\| `(\w+)` \| .* \| (?:yes)? ?\|$", README.partition("## How the code")[2], re.M)
"""From top to bottom, as the README lists them."""

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A file as it is imported, without the package: "verdict.bounds"; "" is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(module: str) -> Iterator[str]:
    """What a file imports of the package, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by dots"
            names = [f"{node.module}.{each.name}" for each in node.names]
        for name in names:
            inside = name.removeprefix("rnnscope.")
            if inside != name:
                yield inside if inside in MODULES else inside.rpartition(".")[0]


def test_the_readme_lists_every_folder() -> None:
    assert sorted(FOLDERS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_below_the_root_stand_only_the_ways_in() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "py.typed",
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_hides_no_public_name(folder: str) -> None:
    assert folder not in rnnscope.__all__


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_what_it_answers_and_nothing_else(folder: str) -> None:
    tree = ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8"))
    assert len(tree.body) == 1
    assert re.search(r"Open (\w+)\.py first", ast.get_docstring(tree) or "")


def test_there_are_50_to_140_files() -> None:
    assert 50 <= len(FILES) <= 140


COMMANDS = ("shapes", "tracing", "timing", "scripts", "conversion", "sweeps")
"""Rooms of commands, none of which imports another one."""


@pytest.mark.parametrize("module", [each for each in MODULES if "." in each])
def test_a_file_imports_only_folders_above_its_own(module: str) -> None:
    folder = module.partition(".")[0]
    above = FOLDERS[: FOLDERS.index(folder)]
    if folder in COMMANDS:
        above = [each for each in above if each not in COMMANDS]
    found = {name.partition(".")[0] for name in imports(module)} - {folder, "errors", ""}
    assert found <= set(above)


def test_no_two_files_import_each_other() -> None:
    graph = {module: {other for other in imports(module) if other and other != module} for module in MODULES if module}
    while graph:
        leaves = {module for module, others in graph.items() if not others & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {module: others for module, others in graph.items() if module not in leaves}


@pytest.mark.parametrize("module", [each for each in MODULES if each])
def test_no_module_is_imported_by_a_string(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    found = re.findall(r"import_module\(.*|__import__\(.*|getattr\(rnnscope.*", text)
    allowed = {
        "subjects.user_code": ["import_module(module)"],  # the class that the user named
        "files.tensors": ["__import__(name)"],  # whether an extra is there
    }
    assert found == allowed.get(module, [])


def test_type_checkers_are_told_the_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {each.names[0].asname: each.module for each in block.body if isinstance(each, ast.ImportFrom)}
    assert told == {name: f"rnnscope.{home}" for name, home in rnnscope._HOME.items()}


def imports_torch(module: str) -> bool:
    """Whether importing a file imports torch, by itself or through another one."""
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:  # not in functions, nor for type checkers
        if isinstance(node, ast.Import) and any(each.name.partition(".")[0] == "torch" for each in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module:
            name = node.module.removeprefix("rnnscope.")
            if node.module.partition(".")[0] == "torch" or (name in MODULES and name and imports_torch(name)):
                return True
    return False


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_readme_says_which_folders_import_torch(folder: str) -> None:
    says = re.search(rf"^\| `{folder}` \| .* \| yes \|$", README, re.MULTILINE) is not None
    assert any(imports_torch(module) for module in MODULES if module.startswith(f"{folder}.")) is says


TESTS = sorted((ROOT / "tests").rglob("*.py"))

APART = {"golden", "graveyard", "pictures", "benchmarks", "programs"}
"""Folders of tests that hold no tests of one folder."""


def test_each_folder_of_tests_is_a_folder_of_the_package() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - APART <= set(FOLDERS)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_no_file_imports_a_file_of_tests(path: Path) -> None:
    """What two files share stands in support.py. Scripts that a test runs, as strings, are read too."""
    imports = re.findall(r"^ *(?:from|import) +(.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [each for each in imports if re.search(r"\btest_|\bconftest\b", each)] == []
