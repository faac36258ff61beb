"""What network, what input and where it runs: one frozen Spec, validated once, when it is made.

Every field carries its own flag.
"""

import shlex
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.spec.flags import Choice, Flag, Number, Switch, Whole, Wholes, flags_of, nearest

KINDS = {"rnn": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}
"""The kinds of network, with the name of torch's module."""

DTYPES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Names of the dtypes that can be asked for, with the bytes of one element."""

LARGEST_SIZE = 2**63 - 1
"""torch keeps sizes in 64 bits with a sign."""

LARGEST_SEED = 2**30 - 1
"""Weights, input and cotangents take the seeds 4·seed, + 1 and + 2; torch's generator on the CPU has 32 bits."""

MOST_THREADS = 1024

ACCELERATORS = ("cuda", "mps", "xpu", "mtia", "hpu", "npu", "privateuseone")
"""The types of device that torch.accelerator may name; AMD's are cuda, too. npu is the one of which packages outside of
torch make most use, and privateuseone stands for whatever else such a package registers.

Source: https://docs.pytorch.org/docs/stable/torch.html#accelerators
"""

DEVICES = rf"cpu|auto|(?:{'|'.join(ACCELERATORS)})(?::(?:0|[1-9]\d{{0,3}}))?"
"""The devices that can be asked for, as a regular expression without groups."""

DEVICE_FORMS = "cpu, cuda, cuda:N, mps, xpu, xpu:N, mtia, hpu, npu, privateuseone, auto"
"""The same in words."""

DEVICE_WORDS = ("cpu", *ACCELERATORS, "auto")
"""Those that have no number."""

_OTHER_WORDS = {"gpu": "auto", "hip": "cuda", "rocm": "cuda", "nvidia": "cuda", "metal": "mps", "intel": "xpu"}
"""What people call some of them."""


def nearest_device(typed: str) -> str | None:
    """The device that was probably meant; None where none is near."""
    word = typed.partition(":")[0].lower()
    return _OTHER_WORDS.get(word) or nearest(word, DEVICE_WORDS, cutoff=0.7)


class DeviceFlag(Flag):
    """A device, with its number where there may be several."""

    def hint(self, value: object) -> str | None:
        near = nearest_device(str(value))
        return f"did you mean {self.name} {near}?" if near else super().hint(value)


def _field(
    panel: str, kind: type[Flag], default: Any, *names: str, help: str, follows: bool = False, **facts: Any
) -> Any:
    """A field with its flag. One that may follow from another flag has None as its default: it was not given."""
    flag = kind(names, help, panel, default, **facts)
    return field(default=None if follows else default, metadata={"flag": flag})


_network, _input, _place = (partial(_field, panel) for panel in ("Network", "Input", "Where it runs"))

_SIZE: dict[str, Any] = {"minimum": 1, "maximum": LARGEST_SIZE}
_COUNT: dict[str, Any] = {"maximum": LARGEST_SIZE}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network, one input, one place to run it. The default network is that of torch's documentation.

    `lengths` gives each sequence its own number of steps, as in a packed sequence: N and L follow from them.
    Given together with `lengths` they must agree, also where `dataclasses.replace` hands on those of another Spec.
    `unbatched` leaves N out of every shape; a single sequence is computed. `tf32`, `cudnn` and `onednn` switch torch's
    back ends for the run; None leaves each as it is.

    Raises:
        RnnscopeError: a value that is not allowed, or two that do not go together, named by their flags.

    Source of the names: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> spec = Spec(kind="lstm", hidden_size=20, lengths=(3, 2))
    >>> spec.module_name, spec.seq_len, spec.batch_size
    ('nn.LSTM', 3, 2)
    """

    kind: str = _network(Choice, "rnn", "--kind", help="Recurrent module:", choices=tuple(KINDS))
    input_size: int = _network(Whole, 10, "--input-size", help="H_in: features of x.", **_SIZE)
    hidden_size: int = _network(Whole, 20, "--hidden-size", help="H: features of h.", **_SIZE)
    num_layers: int = _network(Whole, 2, "--layers", "--num-layers", help="K: stacked layers.", **_SIZE)
    nonlinearity: str = _network(
        Choice, "tanh", "--nonlinearity", help="Of an RNN:", choices=("tanh", "relu"), placeholder="NAME"
    )
    bias: bool = _network(Switch, True, "--bias/--no-bias", help="Whether layers have biases.")
    batch_first: bool = _network(Switch, False, "--batch-first", help="x and y start with N, not L.")
    bidirectional: bool = _network(Switch, False, "--bidirectional", help="Walk backward too: D = 2.")
    proj_size: int = _network(Whole, 0, "--proj-size", help="P: features of h in an LSTM with a projection.", **_COUNT)
    dropout: float = _network(Number, 0.0, "--dropout", help="Between layers, in training.", maximum=1.0)

    seq_len: int = _input(Whole, 3, "--seq-len", "--seq-length", help="L: time steps.", follows=True, **_SIZE)
    batch_size: int = _input(
        Whole, 5, "--batch", "--batch-size", help="N: sequences (items) in a batch.", follows=True, **_COUNT
    )
    unbatched: bool = _input(Switch, False, "--unbatched", help="One sequence, without N in any shape.")
    lengths: tuple[int, ...] | None = _input(
        Wholes, None, "--lengths", help="Steps of each item: 3,2,2 packs them.", example=(3, 2, 2), **_COUNT
    )
    h0: str = _input(Choice, "random", "--h0", help="Initial state:", choices=("random", "zeros"))
    seed: int = _input(Whole, 0, "--seed", help="Of weights and input.", maximum=LARGEST_SEED)

    device: str = _place(
        DeviceFlag,
        "cpu",
        "--device",
        help="cpu, cuda[:N], mps, xpu[:N] or auto.",
        pattern=DEVICES,
        allowed=f"one of {DEVICE_FORMS}",
        offers=lambda: DEVICE_WORDS,
    )
    dtype: str = _place(Choice, "float32", "--dtype", help="Of tensors:", choices=tuple(DTYPES))
    tf32: bool | None = _place(
        Switch, None, "--tf32/--no-tf32", help="Whether CUDA may compute float32 in TF32.", rare=True
    )
    cudnn: bool | None = _place(
        Switch, None, "--cudnn/--no-cudnn", help="Whether cuDNN may compute on CUDA.", rare=True
    )
    onednn: bool | None = _place(
        Switch, None, "--onednn/--no-onednn", help="Whether oneDNN may compute on the CPU.", rare=True
    )
    threads: int | None = _place(
        Whole, None, "--threads", help="CPU threads of torch.", minimum=1, maximum=MOST_THREADS, example=1
    )
    train: bool = _place(Switch, False, "--train", help="In training mode, where dropout acts.", rare=True)
    memory_check: bool = _place(
        Switch, True, "--memory-check/--no-memory-check", help="Whether to refuse what memory cannot hold.", rare=True
    )

    def __post_init__(self) -> None:
        for name, flag in SPEC_FLAGS.items():
            value = getattr(self, name)
            if value is not None or (flag.default is not None and name not in _FOLLOWING):
                flag.check(value)
        self._check_network()
        if self.lengths is not None:
            self._follow("seq_len", "--lengths has a longest of {}", max(self.lengths))
            self._follow("batch_size", "--lengths has {} sequences", len(self.lengths))
        if self.unbatched:
            if self.lengths is not None:
                raise RnnscopeError("--unbatched is one sequence, and --lengths packs several", "give one of the two")
            self._follow("batch_size", "--unbatched is {} sequence", 1)
        for name in _FOLLOWING:
            if getattr(self, name) is None:
                object.__setattr__(self, name, SPEC_FLAGS[name].default)

    def _check_network(self) -> None:
        if self.kind != "rnn" and self.nonlinearity != "tanh":
            raise RnnscopeError(
                f"--nonlinearity is {self.nonlinearity}, but {KINDS[self.kind]} has none to choose", "use --kind rnn"
            )
        if self.proj_size and self.kind != "lstm":
            raise RnnscopeError(
                f"--proj-size is {self.proj_size}, but {KINDS[self.kind]} has no projection", "use --kind lstm"
            )
        if self.proj_size >= self.hidden_size:
            raise RnnscopeError(
                f"--proj-size is {self.proj_size}, but it must be smaller than --hidden-size {self.hidden_size}",
                f"try --proj-size {self.hidden_size // 2}",
            )

    def _follow(self, name: str, because: str, value: int) -> None:
        """Set a field that follows from another flag; refuse one that was given otherwise."""
        flag, given = SPEC_FLAGS[name], getattr(self, name)
        if given is not None and given != value:
            raise RnnscopeError(f"{flag.name} is {given}, but {because.format(value)}", f"leave {flag.name} out")
        object.__setattr__(self, name, value)

    @property
    def facts(self) -> dict[str, Any]:
        """Every field as programs get it: an unbatched network has no batch size."""
        return vars(self) | ({"batch_size": None} if self.unbatched else {})

    @property
    def element_size(self) -> int:
        """Bytes of one element of the dtype."""
        return DTYPES[self.dtype]

    @property
    def module_name(self) -> str:
        """torch's module: nn.RNN, nn.LSTM or nn.GRU."""
        return KINDS[self.kind]

    @property
    def directions(self) -> int:
        """D: 2 if bidirectional, 1 otherwise."""
        return 2 if self.bidirectional else 1

    def row_of(self, layer: int, direction: int) -> int:
        """The row of h and c that a layer has in a direction."""
        return layer * self.directions + direction

    def length_of(self, item: int) -> int:
        """Steps of an item."""
        return self.lengths[item] if self.lengths else self.seq_len

    @property
    def output_size(self) -> int:
        """H_out: P with a projection, H without."""
        return self.proj_size or self.hidden_size


SPEC_FLAGS = flags_of(Spec)

_FOLLOWING = ("seq_len", "batch_size")
"""The fields that follow from lengths or unbatched. Without these they have the default of their flag."""


def rerun(command: str, spec: Spec | None, *own: tuple[Flag, object], with_files: bool = False) -> str:
    """The command line that gives exactly this result: the flags that are not at their default.

    Args:
        own: the command's own flags, each with its value.
        with_files: whether files are among them, which bring their own dtype along.
    """
    of_spec = [(flag, getattr(spec, name)) for name, flag in SPEC_FLAGS.items()] if spec else []
    words = ["rnnscope", command]
    for flag, value in (*of_spec, *own):
        if value != flag.default or (with_files and flag.name == "--dtype"):
            words += flag.as_typed(value)
    return shlex.join(words)
