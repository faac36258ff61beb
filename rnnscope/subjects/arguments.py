"""What an argument of the user's constructor is taken for, by its name, and what it gets for a Spec.

Names are told apart without their underscores, in whatever case.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rnnscope.spec.spec import Spec

DEFAULTS: dict[str, Any] = dict(
    num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0, nonlinearity="tanh"
)
"""torch's arguments that a class may leave out, with the value that it must then follow."""

_ALSO: dict[str, str] = {
    "input_size": "i input inputs input_sz input_dim input_dims input_features input_units num_input num_inputs "
    "n_input n_inputs nin ninp inp inp_size inp_dim in_size in_sz in_dim in_features in_channels d_in d_input dim_in "
    "xdim xsize features num_features n_features feature_size feature_dim embed_dim embed_size embedding_dim "
    "embedding_size emb_dim emb_size emsize",
    "hidden_size": "h hs hid hidden hiddens hidden_sz hidden_dim hidden_dims hidden_units hidden_features "
    "hidden_channels num_hidden num_hiddens n_hidden n_hiddens nhid num_hidden_units n_hidden_units hid_size hid_dim "
    "hid_sz hdim hsize d_hidden d_hid dim_hidden units num_units n_units neurons num_neurons n_neurons cell_size "
    "cell_dim state_size state_dim rnn_size rnn_units rnn_hidden rnn_hidden_size rnn_dim lstm_size lstm_units "
    "lstm_hidden lstm_hidden_size lstm_dim gru_size gru_units gru_hidden gru_hidden_size gru_dim recurrent_size "
    "d_model",
    "num_layers": "n_layers nlayers layers num_layer n_layer layer_num layer_count layer_dim depth hidden_layers "
    "num_hidden_layers n_hidden_layers rnn_layers num_rnn_layers n_rnn_layers lstm_layers num_lstm_layers "
    "n_lstm_layers gru_layers num_gru_layers n_gru_layers",
    "bias": "use_bias with_bias has_bias",
    "batch_first": "is_batch_first",
    "dropout": "drop dropout_rate drop_rate p_drop p_dropout dropout_p drop_p dropout_prob drop_prob drop_out",
    "bidirectional": "bidir bi is_bidirectional use_bidirectional bi_directional num_directions n_directions",
    "proj_size": "projection projection_size projection_dim proj proj_dim num_proj n_proj",
    "nonlinearity": "nonlin non_linearity activation activation_fn activation_function act act_fn act_func",
}
"""How people name torch's arguments."""

_HEADS = (
    "output output_size output_sz output_dim output_features output_units outputs num_output num_outputs n_output "
    "n_outputs nout out out_size out_sz out_dim out_features out_channels d_out d_output dim_out num_classes n_classes "
    "nclasses classes num_labels n_labels target_size target_dim tagset_size"
)
"""How people name the size of a head, which makes of h what the user wants of it."""

_INPUTS = {
    "batch_size": "batch batch_sz bsz bs",
    "seq_len": "seq_length sequence_length sequence_len max_len max_length max_seq_len time_steps num_steps n_steps",
    "device": "",
    "dtype": "",
}
"""How people name what a Spec says of the input and of where it is, for the arguments that have to be given."""

_CONFIGS = "config cfg conf configuration opt opts options args params hparams hparam hp hps hyperparams settings"
"""How people name an argument that holds all others."""

SIZES = ("input_size", "hidden_size")
TORCHS = frozenset({*SIZES, *DEFAULTS})
"""torch's arguments."""


def plain(name: str) -> str:
    """A name without its case and its underscores."""
    return name.replace("_", "").lower()


def _by_plain_name(words: Mapping[str, str]) -> dict[str, str]:
    return {plain(each): argument for argument, also in words.items() for each in (argument, *also.split())}


ARGUMENTS, _FACTS = _by_plain_name(_ALSO), _by_plain_name(_INPUTS)
"""What is meant, by plain names."""

HEAD_NAMES, CONFIG_NAMES = ({plain(each) for each in words.split()} for words in (_HEADS, _CONFIGS))
_DIRECTIONS = {"numdirections", "ndirections"}
"""Names, plain."""


@dataclass(frozen=True, eq=False)
class Meaning:
    """What an argument is taken for, and what it gets for a Spec. takes: torch's argument that it is, or none."""

    says: str
    value: Callable[[Spec], Any]
    takes: frozenset[str] = frozenset()


def value_of(argument: str, spec: Spec) -> Any:
    """What torch's argument gets; no dropout where none acts."""
    return getattr(spec, argument) if argument != "dropout" or (spec.train and spec.num_layers > 1) else 0.0


def means(argument: str, value: Callable[[Spec], Any] | None = None) -> Meaning:
    """What is taken for one of torch's arguments."""
    return Meaning(argument, value or partial(value_of, argument), frozenset({argument}))


def meaning_of(name: str) -> Meaning | None:
    """What a name says, whatever has it."""
    bare = plain(name)
    if argument := ARGUMENTS.get(bare):
        return means(argument, (lambda spec: spec.directions) if bare in _DIRECTIONS else None)
    if bare in HEAD_NAMES:
        return Meaning("hidden_size", lambda spec: spec.hidden_size)
    if fact := _FACTS.get(bare):
        return Meaning(fact, partial(_fact, fact))
    return None


def _fact(name: str, spec: Spec) -> Any:
    value = getattr(spec, name)
    return torch.device(value) if name == "device" else getattr(torch, value) if name == "dtype" else value


def is_for(argument: str, spec: Spec) -> bool:
    """Whether torch's module of a Spec takes an argument: they refuse what only another kind has."""
    if argument == "nonlinearity":
        return spec.kind == "rnn"
    return argument != "proj_size" or spec.proj_size > 0


def fits(argument: str, parameter: inspect.Parameter) -> bool:
    """Whether an argument may be torch's by its default: a list of sizes is no number of layers."""
    default = parameter.default
    if default is None or default is parameter.empty:
        return True
    if argument == "nonlinearity":
        return isinstance(default, str) or callable(default)
    if argument in ("bias", "batch_first", "bidirectional") and plain(parameter.name) not in _DIRECTIONS:
        return isinstance(default, bool)
    numbers = (int, float) if argument == "dropout" else int
    return isinstance(default, numbers) and not isinstance(default, bool)
