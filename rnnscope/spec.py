"""What network, what input and where it runs: one frozen Spec, validated once, when it is made.

Every field carries its own flag. Knows nothing of torch, and does not know what a shape is: see shapes.py.
"""

import shlex
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rnnscope.errors import RnnscopeError
from rnnscope.flags import Flag

KINDS = ("rnn", "lstm", "gru")
NONLINEARITIES = ("tanh", "relu")
STATES = ("random", "zeros")
DTYPES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Names of the dtypes that can be asked for, with the bytes of one element."""

LARGEST_SIZE = 2**63 - 1
"""torch keeps sizes in 64 bits with a sign."""

LARGEST_SEED = 2**31 - 1
"""Weights and input take the seeds 2·seed and 2·seed + 1, and torch's generator of the CPU has seeds of 32 bits."""

MOST_THREADS = 1024


def _field(default: Any, *names: str, **facts: Any) -> Any:
    return field(default=default, metadata={"flag": Flag(names=names, default=default, **facts)})


def _size(default: int, *names: str, minimum: int = 1, **facts: Any) -> Any:
    return _field(default, *names, minimum=minimum, maximum=LARGEST_SIZE, **facts)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network, one input, one place to run it. Defaults are the worked example of the torch tutorials.

    Raises:
        RnnscopeError: a value that is not allowed, named by its flag.

    Source of the names: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """

    kind: str = _field("rnn", "--kind", help="Recurrent module:", panel="Network", choices=KINDS)
    input_size: int = _size(10, "--input-size", help="H_in: features of x.", panel="Network")
    hidden_size: int = _size(20, "--hidden-size", help="H: features of h.", panel="Network")
    num_layers: int = _size(2, "--layers", "--num-layers", help="K: stacked layers.", panel="Network")
    nonlinearity: str = _field("tanh", "--nonlinearity", help="Of an RNN:", panel="Network", choices=NONLINEARITIES)
    bias: bool = _field(True, "--bias/--no-bias", help="Whether layers have biases.", panel="Network")
    batch_first: bool = _field(False, "--batch-first", help="x and y start with N, not L.", panel="Network")

    seq_len: int = _size(3, "--seq-len", "--seq-length", help="L: time steps.", panel="Input")
    batch_size: int = _size(5, "--batch", "--batch-size", minimum=0, help="N: sequences in a batch.", panel="Input")
    h0: str = _field("random", "--h0", help="Initial state:", panel="Input", choices=STATES)
    seed: int = _field(0, "--seed", help="Of weights and input.", panel="Input", minimum=0, maximum=LARGEST_SEED)

    device: str = _field(
        "cpu",
        "--device",
        help="cpu, cuda, cuda:N or auto.",
        panel="Where it runs",
        pattern=r"cpu|auto|cuda(:(0|[1-9]\d{0,3}))?",
        forms="cpu, cuda, cuda:N, auto",
    )
    dtype: str = _field("float32", "--dtype", help="Of all tensors:", panel="Where it runs", choices=tuple(DTYPES))
    threads: int | None = _field(
        None,
        "--threads",
        help="CPU threads of torch.",
        panel="Where it runs",
        minimum=1,
        maximum=MOST_THREADS,
        example=1,
    )
    memory_check: bool = _field(
        True,
        "--memory-check/--no-memory-check",
        help="Whether to refuse what memory cannot hold.",
        panel="Where it runs",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                flag_of(each).check(value)
        if self.kind != "rnn":
            raise RnnscopeError(f"--kind {self.kind} is not there yet", "use --kind rnn")

    @property
    def element_size(self) -> int:
        """Bytes of one element of the dtype."""
        return DTYPES[self.dtype]


def flag_of(spec_field: "Field[Any]") -> Flag:
    """The flag under which a field of the Spec is given."""
    flag: Flag = spec_field.metadata["flag"]
    return flag


def rerun(command: str, spec: Spec, *own: tuple[Flag, object]) -> str:
    """The command line that gives exactly this result: the flags that are not at their default.

    Args:
        own: the command's own flags, each with its value.
    """
    of_spec = [(flag_of(each), getattr(spec, each.name)) for each in fields(spec)]
    words = ["rnnscope", command]
    for flag, value in (*of_spec, *own):
        if value != flag.default:
            words += flag.words(value)
    return shlex.join(words)
