"""How a constructor is called, however it is worded: what arrives, what that was taken for, and what is refused."""

import copy
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rnnscope import RnnscopeError, Spec
from rnnscope.spec.flags import Switch
from rnnscope.spec.sides import NOTHING_SAID, Own
from rnnscope.spec.spec import SPEC_FLAGS
from rnnscope.subjects.building import Maker, maker_of

SMALL: dict[str, Any] = {"input_size": 3, "hidden_size": 4, "num_layers": 1}
"""Sizes that are told apart."""


SIZES = "nin is input_size, nhid is hidden_size"


class Kept(nn.Module):
    """Keeps what its constructor got."""

    def __init__(self, *got: Any) -> None:
        super().__init__()
        self.got = got


class Torchs(Kept):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias)


class ByPlace(Kept):
    def __init__(self, a: int, b: int, /) -> None:
        super().__init__(a, b)


class ByPlaceWithDefaults(Kept):
    def __init__(self, n_in: int, scale: float = 0.5, n_hid: int = 1, /) -> None:
        super().__init__(n_in, scale, n_hid)


class Stars(Kept):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)


class Keywords(Kept):
    def __init__(self, **options: Any) -> None:
        super().__init__(options)


class AliasAndKeywords(Kept):
    def __init__(self, n_in: int, **options: Any) -> None:
        super().__init__(n_in, options)


class KeywordsForModule(Kept):
    def __init__(self, n_in: int, n_hid: int, **options: Any) -> None:
        nn.Module.__init__(self, **options)
        self.got = n_in, n_hid


class KeywordOnly(Kept):
    def __init__(self, *, nin: int, nhid: int, nlayers: int = 1) -> None:
        super().__init__(nin, nhid, nlayers)


@dataclass
class Sizes:
    embed_dim: int
    hidden_dim: int
    vocabulary: int = 7
    n_layers: int = 3


class Pair(NamedTuple):
    in_dim: int
    hidden: int


class WithSizes(Kept):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)


class WithPair(Kept):
    def __init__(self, it: "Pair | None" = None) -> None:
        super().__init__(it)


class WithText(Kept):
    def __init__(self, cfg: "NotThere") -> None:  # type: ignore[name-defined] # noqa: F821
        super().__init__(
            cfg.n_in, cfg["rnn_units"], cfg.get("depth"), cfg.get("color", "red"), cfg.get("num_classes", 9)
        )


class WithNamespace(Kept):
    def __init__(self, it: Namespace, batch_first: bool = False) -> None:
        super().__init__(it.input_dim, it.hid, getattr(it, "color", "red"), hasattr(it, "shade"), batch_first)


class WithDict(Kept):
    def __init__(self, it: dict[str, Any]) -> None:
        super().__init__({**it}, "bidir" in it, "color" in it)


class WithMapping(Kept):
    def __init__(self, it: Mapping[str, int]) -> None:
        super().__init__(it["input_sz"], it["hidden_sz"])


def two_in_one(config: Any) -> nn.Module:
    return Kept(config.input_size, config.vocabulary, copy.deepcopy(config).hidden_size)


def tutorial(input_dim: int, hidden_dim: int, layer_dim: int, output_dim: int) -> nn.Module:
    return Kept(input_dim, hidden_dim, layer_dim, output_dim)


def d2l(num_inputs: int, num_hiddens: int, num_layers: int, dropout: float = 0, sigma: float = 0.01) -> nn.Module:
    return Kept(num_inputs, num_hiddens, num_layers, dropout, sigma)


def letters(D_in: int, H: int, D_out: int) -> nn.Module:
    return Kept(D_in, H, D_out)


def features(in_features: int, out_features: int) -> nn.Module:
    return Kept(in_features, out_features)


def three_features(in_features: int, hidden_features: int, out_features: int) -> nn.Module:
    return Kept(in_features, hidden_features, out_features)


def camel(inputSize: int, hiddenSize: int, nLayers: int) -> nn.Module:
    return Kept(inputSize, hiddenSize, nLayers)


def flags(input_sz: int, hidden_sz: int, use_bias: bool = False, bidir: bool = False, n_directions: Any = None) -> Any:
    return Kept(use_bias, bidir, n_directions)


def directions(nin: int, nhid: int, num_directions: int) -> nn.Module:
    return Kept(num_directions)


def nothing_is_none(nin: int, nhid: int, drop: Any = None, proj: Any = None, layers: Any = None) -> nn.Module:
    return Kept(drop, proj, layers)


def defaults_of_another_kind(nin: int, nhid: int, layers: Any = (8, 8), bias: float = 0.1, drop: bool = True) -> Any:
    return Kept(layers, bias, drop)


def of_the_input(nin: int, nhid: int, batch_size: int, seq_length: int, device: Any, dtype: Any) -> nn.Module:
    return Kept(batch_size, seq_length, device, dtype)


def word(nin: int, nhid: int, activation: str = "Tanh") -> nn.Module:
    return Kept(activation)


def function(nin: int, nhid: int, act: Any = torch.sigmoid) -> nn.Module:
    return Kept(act)


def module_class(nin: int, nhid: int, act: Any = nn.ReLU) -> nn.Module:
    return Kept(act)


def module(nin: int, nhid: int, activation_fn: Any = nn.Sigmoid()) -> nn.Module:  # noqa: B008
    return Kept(type(activation_fn))


def annotated_function(nin: int, nhid: int, act: Callable[[Tensor], Tensor]) -> nn.Module:
    return Kept(act)


def annotated_class(nin: int, nhid: int, act: type[nn.Module]) -> nn.Module:
    return Kept(act)


def annotated_module(nin: int, nhid: int, act: nn.Module) -> nn.Module:
    return Kept(type(act))


def plain_word(nin: int, nhid: int, nonlinearity: Any) -> nn.Module:
    return Kept(nonlinearity)


def exact_and_like(input_size: int, hidden_size: int, hidden: int = 99, layers: int = 5) -> nn.Module:
    return Kept(input_size, hidden_size, hidden, layers)


def one_and_two(i: int, h: int) -> nn.Module:
    return Kept(i, h)


def vocabulary(vocabulary: int, embed_dim: int, hidden: int) -> nn.Module:
    return Kept(vocabulary, embed_dim, hidden)


ARRIVES: dict[str, tuple[Any, dict[str, Any], tuple[str, ...], tuple[Any, ...], str]] = {
    "torch's": (Torchs, {}, (), (3, 4, 1, True), ""),
    "torch's, otherwise": (Torchs, {"num_layers": 2, "bias": False}, (), (3, 4, 2, False), ""),
    "by place": (ByPlace, {}, (), (3, 4), "a is input_size, b is hidden_size"),
    "by place with a default": (
        ByPlaceWithDefaults,
        {},
        (),
        (3, 0.5, 4),
        "n_in is input_size, n_hid is hidden_size",
    ),
    "stars": (Stars, {}, (), (3, 4), ""),
    "keywords": (
        Keywords,
        {"kind": "gru"},
        (),
        (SMALL | {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False},),
        "",
    ),
    "keywords of an RNN": (
        AliasAndKeywords,
        {"nonlinearity": "relu", "bidirectional": True, "bias": False},
        ("color=red",),
        (
            3,
            {"hidden_size": 4, "num_layers": 1, "bias": False, "batch_first": False, "dropout": 0.0}
            | {"bidirectional": True, "nonlinearity": "relu", "color": "red"},
        ),
        "n_in is input_size",
    ),
    "keywords that are refused": (KeywordsForModule, {}, (), (3, 4), "n_in is input_size, n_hid is hidden_size"),
    "keyword only": (
        KeywordOnly,
        {"num_layers": 2},
        (),
        (3, 4, 2),
        f"{SIZES}, nlayers is num_layers",
    ),
    "tutorial": (
        tutorial,
        {},
        (),
        (3, 4, 1, 4),
        "input_dim is input_size, hidden_dim is hidden_size, layer_dim is num_layers, output_dim is hidden_size",
    ),
    "hiddens": (
        d2l,
        {"num_layers": 2},
        (),
        (3, 4, 2, 0.0, 0.01),
        "num_inputs is input_size, num_hiddens is hidden_size",
    ),
    "dropout in training": (
        d2l,
        {"num_layers": 2, "dropout": 1.0, "train": True},
        (),
        (3, 4, 2, 1.0, 0.01),
        "num_inputs is input_size, num_hiddens is hidden_size",
    ),
    "letters": (letters, {}, (), (3, 4, 4), "D_in is input_size, H is hidden_size, D_out is hidden_size"),
    "features": (features, {}, (), (3, 4), "in_features is input_size, out_features is hidden_size"),
    "three features": (
        three_features,
        {},
        (),
        (3, 4, 4),
        "in_features is input_size, hidden_features is hidden_size, out_features is hidden_size",
    ),
    "camel": (camel, {}, (), (3, 4, 1), "inputSize is input_size, hiddenSize is hidden_size, nLayers is num_layers"),
    "directions": (
        directions,
        {"bidirectional": True},
        (),
        (2,),
        f"{SIZES}, num_directions is bidirectional",
    ),
    "None is nothing": (
        nothing_is_none,
        {"kind": "lstm"},
        (),
        (None, None, None),
        f"{SIZES}, drop is dropout, proj is proj_size, layers is num_layers",
    ),
    "None is a default": (
        nothing_is_none,
        {"kind": "lstm", "proj_size": 2, "num_layers": 3},
        (),
        (None, 2, 3),
        f"{SIZES}, drop is dropout, proj is proj_size, layers is num_layers",
    ),
    "defaults of another kind": (
        defaults_of_another_kind,
        {},
        ("bias=0.2",),
        ((8, 8), 0.2, True),
        SIZES,
    ),
    "of the input": (
        of_the_input,
        {"batch_size": 6, "seq_len": 8, "dtype": "bfloat16"},
        (),
        (6, 8, torch.device("cpu"), torch.bfloat16),
        f"{SIZES}, seq_length is seq_len",
    ),
    "two letters": (one_and_two, {}, (), (3, 4), "i is input_size, h is hidden_size"),
    "exact and like": (exact_and_like, {}, (), (3, 4, 99, 1), "layers is num_layers"),
    "said": (vocabulary, {}, ("vocabulary=100",), (100, 3, 4), "embed_dim is input_size, hidden is hidden_size"),
    "said otherwise": (
        vocabulary,
        {},
        ("vocabulary='100'", "hidden=[1, 2]"),
        ("100", 3, [1, 2]),
        "embed_dim is input_size",
    ),
    "a dataclass": (
        WithSizes,
        {"num_layers": 2},
        ("vocabulary=8",),
        (Sizes(3, 4, 8, 2),),
        "sizes.embed_dim is input_size, sizes.hidden_dim is hidden_size, sizes.n_layers is num_layers",
    ),
    "a tuple": (WithPair, {}, (), (Pair(3, 4),), "it.in_dim is input_size, it.hidden is hidden_size"),
    "a config": (
        WithText,
        {"num_layers": 2},
        (),
        (3, 4, 2, "red", 9),
        "cfg.n_in is input_size, cfg.rnn_units is hidden_size, cfg.depth is num_layers",
    ),
    "a namespace": (
        WithNamespace,
        {"batch_first": True},
        (),
        (3, 4, "red", False, True),
        "it.input_dim is input_size, it.hid is hidden_size",
    ),
    "a dict": (
        WithDict,
        {"kind": "gru"},
        ("color=red",),
        (
            SMALL | {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "color": "red"},
            True,
            True,
        ),
        "",
    ),
    "a mapping": (WithMapping, {}, (), (3, 4), "it.input_sz is input_size, it.hidden_sz is hidden_size"),
    "a config that is told": (two_in_one, {}, ("vocabulary=9",), (3, 9, 4), ""),
    "a word": (word, {"nonlinearity": "relu"}, (), ("relu",), f"{SIZES}, activation is nonlinearity"),
    "the word as it is": (word, {}, (), ("Tanh",), f"{SIZES}, activation is nonlinearity"),
    "a function": (function, {"nonlinearity": "relu"}, (), (torch.relu,), f"{SIZES}, act is nonlinearity"),
    "a function of an RNN": (function, {}, (), (torch.tanh,), f"{SIZES}, act is nonlinearity"),
    "a function of an LSTM": (function, {"kind": "lstm"}, (), (torch.sigmoid,), f"{SIZES}, act is nonlinearity"),
    "a class": (module_class, {}, (), (nn.Tanh,), f"{SIZES}, act is nonlinearity"),
    "a module": (module, {"nonlinearity": "relu"}, (), (nn.ReLU,), f"{SIZES}, activation_fn is nonlinearity"),
    "a function, annotated": (annotated_function, {"kind": "gru"}, (), (torch.tanh,), f"{SIZES}, act is nonlinearity"),
    "a class, annotated": (annotated_class, {}, (), (nn.Tanh,), f"{SIZES}, act is nonlinearity"),
    "a module, annotated": (annotated_module, {}, (), (nn.Tanh,), f"{SIZES}, act is nonlinearity"),
    "a word, needed": (plain_word, {}, (), ("tanh",), SIZES),
}
"""A constructor, the Spec beside the sizes, what its user says; what arrives, and what is said of it."""


def made(target: Any, spec: Spec, *args: str) -> Maker:
    return maker_of("own.py:Net", target, spec, Own(args=args), "--right-arg")


@pytest.mark.parametrize("case", ARRIVES)
def test_each_argument_gets_what_it_means(case: str) -> None:
    target, more, args, expected, told = ARRIVES[case]
    maker = made(target, Spec(**SMALL | more), *args)
    assert maker.network.got == expected
    assert ", ".join(maker.adaptations) == told


@pytest.mark.parametrize("case", ["torch's", "a config", "a dataclass", "said otherwise", "keywords of an RNN"])
def test_what_is_made_for_another_spec_is_another_one(case: str) -> None:
    target, more, args, expected, _ = ARRIVES[case]
    spec = Spec(**SMALL | more)
    maker = made(target, spec, *args)
    other = maker.make(replace(spec, input_size=30, hidden_size=40))
    assert other.got != expected
    again = maker.make(spec)
    assert again.got == expected
    assert again is not maker.network


def list_of_sizes(input_size: int, hidden_sizes: list[int]) -> nn.Module:
    return Kept(input_size, hidden_sizes)


def test_a_list_of_sizes_says_how_many_layers_there_are() -> None:
    two_layers = Spec(**SMALL | {"num_layers": 2})
    maker = made(list_of_sizes, two_layers, "hidden_sizes=[4, 4]")
    assert maker.network.got == (3, [4, 4])
    assert maker.takes == {"input_size"}
    with pytest.raises(RnnscopeError, match="takes no num_layers, and --layers 2 needs it; use --layers 1"):
        made(list_of_sizes, two_layers, "hidden_sizes=4")


def test_a_list_that_is_given_may_be_changed() -> None:
    def changes(nin: int, nhid: int, sizes: list[int]) -> nn.Module:
        sizes.append(nin)
        return Kept(tuple(sizes))

    maker = made(changes, Spec(**SMALL), "sizes=[1]")
    assert [maker.make(Spec(**SMALL)).got for _ in range(2)] == [((1, 3),), ((1, 3),)]


def test_a_function_may_return_what_others_use_too() -> None:
    kept = nn.RNN(3, 4)
    assert made(lambda: kept, Spec(**SMALL)).make(Spec(**SMALL)) is not kept
    assert made(kept, Spec(**SMALL)).make(Spec(**SMALL)) is not kept


def with_config(config: Any) -> nn.Module:
    return Kept(config.n_in, config.n_hid, config.bidir, config.n_layers)


@pytest.mark.parametrize(
    ("target", "takes"),
    [
        (Torchs, {"input_size", "hidden_size", "num_layers", "bias"}),
        (tutorial, {"input_size", "hidden_size", "num_layers"}),
        (features, {"input_size", "hidden_size"}),
        (letters, {"input_size", "hidden_size"}),
        (with_config, {"input_size", "hidden_size", "num_layers", "bidirectional"}),
        (WithSizes, {"input_size", "hidden_size", "num_layers"}),
        (nn.LSTM, {*SMALL, "bias", "batch_first", "dropout", "bidirectional", "proj_size"}),
        (nn.GRU, {*SMALL, "bias", "batch_first", "dropout", "bidirectional"}),
        (nn.RNN, {*SMALL, "bias", "batch_first", "dropout", "bidirectional", "nonlinearity"}),
        (nn.RNN(3, 4), set()),
    ],
)
def test_which_of_torchs_arguments_are_taken(target: Any, takes: set[str]) -> None:
    assert made(target, Spec(**SMALL)).takes == takes


def test_what_is_said_is_not_taken() -> None:
    assert made(tutorial, Spec(**SMALL | {"num_layers": 2}), "layer_dim=3").takes == {"input_size", "hidden_size"}


def two_inputs(embed_dim: int, features: int, hidden: int) -> nn.Module:
    return Kept(embed_dim, features, hidden)


def exact_and_needed(input_size: int, hidden_size: int, units: int) -> nn.Module:
    return Kept()


def two_silent_and_one(a: int, b: int, vocabulary: int) -> nn.Module:
    return Kept()


def one_silent(a: int, hidden_size: int) -> nn.Module:
    return Kept()


def two_that_speak(words: int, pages: int) -> nn.Module:
    return Kept()


def asks_config(config: Any) -> nn.Module:
    return Kept(config.hidden_size, config.vocabulary)


def asks_dict(hparams: Any) -> nn.Module:
    return Kept(hparams["hidden"], hparams["vocabulary"])


@dataclass
class Words:
    n_words: int


def asks_dataclass(hidden: int, it: Words) -> nn.Module:
    return Kept()


def no_module(input_size: int, hidden_size: int) -> Any:
    return 3


def nothing() -> nn.Module:
    return Kept()


REFUSED: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "unknown": (
        vocabulary,
        (),
        "own.py:Net needs vocabulary, which rnnscope does not know; add --right-arg vocabulary=VALUE",
    ),
    "two unknown": (
        two_that_speak,
        (),
        "own.py:Net needs words, pages, which rnnscope does not know; "
        "add --right-arg words=VALUE --right-arg pages=VALUE",
    ),
    "three unknown": (
        two_silent_and_one,
        (),
        "own.py:Net needs a, b, vocabulary, which rnnscope does not know; "
        "add --right-arg a=VALUE --right-arg b=VALUE --right-arg vocabulary=VALUE",
    ),
    "one unknown": (one_silent, (), "own.py:Net needs a, which rnnscope does not know; add --right-arg a=VALUE"),
    "alike": (
        two_inputs,
        (),
        "own.py:Net takes embed_dim and features, and each may be input_size; "
        "say what is another thing: --right-arg embed_dim=VALUE or --right-arg features=VALUE",
    ),
    "alike and needed": (
        exact_and_needed,
        (),
        "own.py:Net takes hidden_size and units, and each may be hidden_size; "
        "say what is another thing: --right-arg hidden_size=VALUE or --right-arg units=VALUE",
    ),
    "of a config": (
        asks_config,
        (),
        "own.py:Net asks for config.vocabulary, which rnnscope does not know; add --right-arg vocabulary=VALUE",
    ),
    "of a dict": (
        asks_dict,
        (),
        "own.py:Net asks for hparams.vocabulary, which rnnscope does not know; add --right-arg vocabulary=VALUE",
    ),
    "of a dataclass": (
        asks_dataclass,
        (),
        "own.py:Net needs it.n_words, which rnnscope does not know; add --right-arg n_words=VALUE",
    ),
    "not taken": (
        vocabulary,
        ("vocabularies=3",),
        "own.py:Net needs vocabulary, which rnnscope does not know; add --right-arg vocabulary=VALUE",
    ),
    "not taken, but near": (
        tutorial,
        ("hiden_dim=3",),
        "--right-arg gives hiden_dim, and own.py:Net takes no hiden_dim; did you mean --right-arg hidden_dim=VALUE?",
    ),
    "not taken at all": (
        features,
        ("color=3",),
        "--right-arg gives color, and own.py:Net takes no color; it takes in_features, out_features",
    ),
    "nothing taken": (
        nothing,
        ("color=3",),
        "--right-arg gives color, and own.py:Net takes no color; it takes nothing",
    ),
    "not in a dataclass": (
        asks_dataclass,
        ("n_words=3", "color=3"),
        "--right-arg gives color, and own.py:Net takes no color; it takes n_words",
    ),
    "a module": (
        nn.RNN(3, 4),
        ("color=3",),
        "own.py:Net is a module already, and takes no color=3; leave --right-arg out",
    ),
    "no module": (no_module, (), "own.py:Net made a int, but it must make an nn.Module"),
    "nothing to call": (3, (), "own.py:Net is of type int, but it must be a class or a function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_made_is_told(case: str) -> None:
    target, args, sentence = REFUSED[case]
    with pytest.raises(RnnscopeError) as refused:
        made(target, Spec(**SMALL), *args)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("target", "mend"),
    [
        (vocabulary, "give it a default, or name a function that returns the module"),
        (two_that_speak, "give them defaults, or name a function that returns the module"),
        (two_inputs, "name a function that returns the module"),
    ],
)
def test_where_no_flag_gives_an_argument_none_is_named(target: Any, mend: str) -> None:
    with pytest.raises(RnnscopeError) as refused:
        maker_of("own.py:Net", target, Spec())
    assert refused.value.hint == mend


class Fixed(nn.Module):
    """Says of itself what it is."""

    def __init__(self, **facts: Any) -> None:
        super().__init__()
        for name, value in facts.items():
            setattr(self, name, value)


FIXED: dict[str, dict[str, Any]] = {
    "layers": {"num_layers": 3},
    "as the default": {"num_layers": 2},
    "no layers": {"num_layers": 0},
    "no bias": {"bias": False},
    "bias": {"bias": True},
    "batch first": {"batch_first": True},
    "time first": {"batch_first": False},
    "bidirectional": {"bidirectional": True},
    "one direction": {"bidirectional": False},
    "projection": {"proj_size": 3},
    "no projection": {"proj_size": 0},
    "large projection": {"proj_size": 30},
    "relu": {"nonlinearity": "relu"},
    "tanh": {"nonlinearity": "tanh"},
    "another": {"nonlinearity": "sigmoid"},
    "dropout": {"dropout": 0.5},
    "all dropped": {"dropout": 1.0},
    "modules": {"bias": nn.Parameter(torch.zeros(3)), "dropout": nn.Dropout(0.5)},
    "many": {"num_layers": 1, "bias": False, "batch_first": True, "bidirectional": True, "nonlinearity": "relu"},
}
"""What a network has as attributes."""


def of_sizes(facts: dict[str, Any]) -> Callable[[int, int], nn.Module]:
    return lambda input_size, hidden_size: Fixed(**facts)


def of_layers(facts: dict[str, Any]) -> Callable[[int, int, int], nn.Module]:
    return lambda input_size, hidden_size, num_layers: Fixed(**facts)


def of_nothing(facts: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: Fixed(**facts)


TARGETS: dict[str, Any] = {
    f"{each.__name__} {name}": each(facts)
    for each, (name, facts) in product((of_sizes, of_layers, of_nothing), FIXED.items())
} | {each.__name__: each for each in (nn.LSTM, nn.GRU, nn.RNN, Torchs, Keywords, ByPlace)}

ASKED: list[dict[str, Any]] = [
    {},
    {"num_layers": 1},
    {"num_layers": 3},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"dropout": 1.0, "train": True},
    {"dropout": 0.25},
    {"train": True, "num_layers": 1},
    {"bias": False, "batch_first": True, "bidirectional": True, "num_layers": 3},
]
KINDS: dict[str, list[dict[str, Any]]] = {
    "rnn": [*ASKED, {"nonlinearity": "relu"}, {"nonlinearity": "relu", "num_layers": 1, "bias": False}],
    "lstm": [*ASKED, {"proj_size": 5}, {"proj_size": 5, "bidirectional": True, "num_layers": 1}],
    "gru": ASKED,
}
SPECS = [{"kind": kind, **asked} for kind, every in KINDS.items() for asked in every]


def followed(error: RnnscopeError, asked: dict[str, Any]) -> dict[str, Any]:
    """What is asked after doing the first thing that a hint says."""
    flags = {word: name for name, each in SPEC_FLAGS.items() for names in each.names for word in names.split("/")}
    first = str(error.hint).partition(", or ")[0]
    if first.startswith("leave "):
        word = first.split()[1]
        left_out = error.message.split()[3].strip(",") if word == "it" else flags[word]
        assert left_out in asked, f"{left_out} was never given"
        return {name: value for name, value in asked.items() if name != left_out}
    use, *words = first.split()
    assert use == "use"
    said: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        flag = SPEC_FLAGS[flags[word]]
        said[flags[word]] = not word.startswith("--no-") if isinstance(flag, Switch) else flag.parse(next(rest))
    return asked | said


def refusal(target: Any, asked: dict[str, Any], own: Own = NOTHING_SAID) -> RnnscopeError | None:
    try:
        maker_of("own.py:Net", target, Spec(**asked), own, "--right-arg")
    except RnnscopeError as error:
        return error
    return None


@pytest.mark.parametrize("asked", SPECS, ids=lambda asked: " ".join(f"{name}={each}" for name, each in asked.items()))
@pytest.mark.parametrize("target", TARGETS)
def test_every_hint_that_is_a_flag_leads_on(target: str, asked: dict[str, Any]) -> None:
    seen = set()
    while error := refusal(TARGETS[target], asked):
        assert error.message not in seen, "a hint leads back to where it came from"
        seen.add(error.message)
        asked = followed(error, asked)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_layout_need_not_be_an_argument(batch_first: bool) -> None:
    assert refusal(features, SMALL | {"batch_first": batch_first}) is None


@pytest.mark.parametrize(
    ("facts", "asked", "sentence"),
    [
        ({"bias": False}, {}, "own.py:Net has bias=False and takes no other; use --no-bias"),
        ({"bias": True}, {"bias": False}, "own.py:Net has bias=True and takes no other; leave --no-bias out"),
        ({"num_layers": 3}, {}, "own.py:Net has num_layers=3 and takes no other; use --layers 3"),
        ({"bidirectional": True}, {}, "own.py:Net has bidirectional=True and takes no other; use --bidirectional"),
        (
            {"dropout": 0.5},
            {"train": True},
            "own.py:Net has dropout=0.5 and takes no other; leave --train out",
        ),
        (
            {"proj_size": 30},
            {"kind": "lstm"},
            "own.py:Net has proj_size=30 and takes no other; use --proj-size 30 --hidden-size 60",
        ),
        ({"nonlinearity": "relu"}, {}, "own.py:Net has nonlinearity=relu and takes no other; use --nonlinearity relu"),
        ({"nonlinearity": "relu"}, {"kind": "gru"}, "None"),
    ],
)
def test_what_a_network_says_of_itself_must_be_asked(
    facts: dict[str, Any], asked: dict[str, Any], sentence: str
) -> None:
    assert str(refusal(of_nothing(facts), asked)) == sentence
