"""Each public name has an example in its docstring, which gives what stands under it on every machine."""

import doctest

import pytest
import torch

import rnnscope

NAMES = [name for name in rnnscope.__all__ if name != "__version__"]
PUBLIC = {name: getattr(rnnscope, name) for name in NAMES} | {"torch": torch}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_gives_what_stands_under_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = PUBLIC[name].__doc__ or ""
    example = doctest.DocTestParser().get_doctest(text, dict(PUBLIC), name, None, None)
    assert example.examples, "the docstring has no example"
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example)
    assert not failed, capsys.readouterr().out
