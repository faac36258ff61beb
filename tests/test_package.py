"""The package itself: its public names, its one version, and what the installed files promise."""

import importlib.metadata
import re

import pytest
from support import ROOT

import rnnscope


@pytest.mark.parametrize("name", rnnscope.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    public = getattr(rnnscope, name)
    assert name == "__version__" or public.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rnnscope' has no attribute 'lstm'"):
        getattr(rnnscope, "lstm")  # noqa: B009


def test_compare_stays_a_function() -> None:
    import rnnscope.verdict.compare

    assert callable(rnnscope.compare)
    assert rnnscope.compare is rnnscope.verdict.compare.compare


def test_there_is_one_version() -> None:
    assert importlib.metadata.version("rnnscope") == rnnscope.__version__


def test_only_torch_typer_and_rich_are_needed_to_run() -> None:
    needed = [each for each in importlib.metadata.requires("rnnscope") or [] if "extra ==" not in each]
    assert sorted(re.split(r"[ >=<~!]", each)[0] for each in needed) == ["rich", "torch", "typer"]


def test_the_top_level_holds_nothing_else() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - {"rnnscope.egg-info", "build", "dist"} == {"pyproject.toml", "rnnscope", "tests", "README.md"}
