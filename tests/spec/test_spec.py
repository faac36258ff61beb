"""A size that was not given is told from one that was, and equal Specs behave alike."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from rnnscope import RnnscopeError, Spec

ALIKE = {"default": Spec(), "given": Spec(seq_len=3), "pickled": pickle.loads(pickle.dumps(Spec()))}


@pytest.mark.parametrize("name", ALIKE)
def test_specs_alike_are_equal(name: str) -> None:
    assert ALIKE[name] == Spec()
    assert hash(ALIKE[name]) == hash(Spec())


@pytest.mark.parametrize("name", ALIKE)
def test_specs_alike_refuse_the_same_replacement(name: str) -> None:
    with pytest.raises(RnnscopeError, match="--seq-len is 3, but --lengths has a longest of 2; leave --seq-len out"):
        replace(ALIKE[name], lengths=(2, 1))


@pytest.mark.parametrize("name", ALIKE)
def test_specs_alike_take_the_same_replacement(name: str) -> None:
    shorter = replace(ALIKE[name], lengths=(2, 1), seq_len=None, batch_size=None)
    assert (shorter.seq_len, shorter.batch_size) == (2, 2)


def test_sizes_that_were_not_given_follow() -> None:
    spec = Spec(lengths=(4, 2, 1))
    assert (spec.seq_len, spec.batch_size) == (4, 3)
    assert Spec(unbatched=True).batch_size == 1


def test_sizes_that_follow_from_nothing_have_their_defaults() -> None:
    assert (Spec().seq_len, Spec().batch_size) == (3, 5)
    not_given: dict[str, Any] = {"seq_len": None, "batch_size": None}
    assert Spec(**not_given) == Spec()


def test_sizes_are_plain_numbers() -> None:
    assert type(Spec().seq_len) is int
    assert type(Spec().batch_size) is int
