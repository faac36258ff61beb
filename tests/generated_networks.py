"""Writes the source of recurrent networks in any combination of the forms that people use, right or with a known fault.

A Plan says which forms are combined. `plans` draws one, and `Plan.source` writes the class `Network` of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from textwrap import indent
from typing import Any

from hypothesis import strategies as st

from rnnscope import Spec

GATES = {"rnn": "h", "lstm": "ifgo", "gru": "rzn"}
"""Torch's letters; an RNN has one sum, which is called h here."""

PAIRS = (("x2h", "h2h"), ("i2h", "h2h"), ("W", "U"), ("ih", "hh"), ("linear_ih", "linear_hh"), ("W_x", "W_h"))
"""Names of two Linears or matrices for all gates."""

RAW = (
    ("weight_x", "weight_h"),
    ("W", "U"),
    ("Wx", "Wh"),
    ("W_ih", "W_hh"),
    ("W_xh", "W_hh"),
    ("kernel", "recurrent_kernel"),
)
"""Names of two parameters for all gates."""

LETTERS = (("W_x{}", "W_h{}"), ("W_i{}", "W_h{}"), ("W_{}", "U_{}"), ("w_x{}", "w_h{}"))
"""Names of two parameters or Linears for each gate."""

OF_GATES = {
    "lstm": ({"i": "i", "f": "f", "g": "g", "o": "o"}, {"i": "i", "f": "f", "g": "c", "o": "o"}),
    "gru": tuple({"r": "r", "z": "z", "n": letter} for letter in "nhc"),
    "rnn": ({"h": "h"},),
}
"""Letters that people give the gates."""

IN_WORDS = {
    "lstm": {"i": "input_gate", "f": "forget_gate", "g": "cell_gate", "o": "output_gate"},
    "rnn": {"h": "i2h"},
}
"""Names of a Linear over x and h for each gate."""

ARGUMENTS = (
    ("input_size", "hidden_size", "num_layers"),
    ("input_dim", "hidden_dim", "n_layers"),
    ("num_inputs", "num_hiddens", "num_layers"),
    ("in_features", "hidden_features", "layers"),
    ("input_sz", "hidden_sz", "n_layers"),
    ("ninp", "nhid", "nlayers"),
)
"""How people name torch's arguments."""

WEIGHTS = {
    "rnn": ("pairs", "raw", "kernel", "cat", "tac", "cell"),
    "lstm": ("pairs", "raw", "kernel", "letters", "turned letters", "gate pairs", "cat", "tac", "gate cats", "cell"),
    "gru": ("pairs", "raw", "kernel", "letters", "turned letters", "gate pairs", "cell"),
}
"""How the parameters are cut: see `_Layer`."""

STATES = {
    "rnn": ("hx", "one row", "items first", "list", "tuple", "none"),
    "lstm": ("hx", "one row", "items first", "list", "pairs", "apart", "dict", "none"),
    "gru": ("hx", "one row", "items first", "list", "tuple", "none"),
}

STATES_OF_STEPS = {
    "rnn": ("one row", "tuple"),
    "lstm": ("one row", "apart"),
    "gru": ("one row", "tuple"),
}


@dataclass(frozen=True)
class Plan:
    """A combination of forms.

    Args:
        weights: how the parameters are cut. names, letters: which names they have.
        bias: two, folded, on x, or none.
        state: how the state comes in and goes out. optional: whether it may be left out.
        output: what comes out: pair, flat, alone, dict, namedtuple, dataclass, head. y: tensor or list.
        layout: time first; batch first by an argument, an attribute, the flag, or since the Spec asks for it.
        constructor: words, hidden first, positional, config, dict or dataclass. arguments: which words.
        is_step: whether it takes one step. inline: whether one layer's parameters stand in the network itself.
        deviation: what it does wrong; "" for nothing.
    """

    kind: str
    weights: str
    names: tuple[str, str]
    letters: int
    bias: str
    state: str
    optional: bool
    output: str
    y: str
    layout: str
    constructor: str
    arguments: tuple[str, str, str]
    is_step: bool
    inline: bool
    num_layers: int
    both_ways: bool
    sizes: tuple[int, int, int, int]
    deviation: str = ""

    @property
    def spec(self) -> Spec:
        input_size, hidden_size, batch_size, seq_len = self.sizes
        return Spec(
            kind=self.kind,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.both_ways,
            bias=self.bias != "none",
            batch_first=self.layout == "spec",
            batch_size=batch_size,
            seq_len=seq_len,
            h0="zeros" if self.state == "none" else "random",
        )

    @property
    def own(self) -> dict[str, Any]:
        """What has to be said of it."""
        return {"right_batch_first": True} if self.layout == "flag" else {}

    @property
    def gives_state(self) -> bool:
        return self.output != "alone"

    def deviations(self) -> tuple[str, ...]:
        """All that can be planted and surely changes what it gives."""
        return tuple(name for name, applies in DEVIATIONS.items() if applies(self))

    @property
    def known(self) -> bool:
        """Whether rnnscope has a name for its deviation."""
        return self.deviation not in UNKNOWN

    def source(self) -> str:
        """The class, in a file of its own."""
        return _source(self)


def _loops(plan: Plan) -> bool:
    return not plan.is_step


def _is(kind: str) -> Callable[[Plan], bool]:
    return lambda plan: plan.kind == kind and plan.weights != "cell"


DEVIATIONS: dict[str, Callable[[Plan], bool]] = {
    "gates i f o g": _is("lstm"),
    "forget bias of 1": _is("lstm"),
    "tanh missing on the cell state": _is("lstm"),
    "coupled forget gate": _is("lstm"),
    "gates z r n": _is("gru"),
    "reset before the matmul": _is("gru"),
    "update gate inverted": _is("gru"),
    "tanh and relu swapped": _is("rnn"),
    "tanh for sigmoid": lambda plan: plan.kind != "rnn" and plan.weights != "cell",
    "W_hh transposed": lambda plan: plan.weights in ("pairs", "raw", "kernel", "letters", "turned letters"),
    "h0 ignored": lambda plan: _loops(plan) and plan.state != "none",
    "c0 ignored": lambda plan: _loops(plan) and plan.state != "none" and plan.kind == "lstm",
    "item 0 for all": lambda plan: _loops(plan) and plan.state != "none",
    "reset at step 2": _loops,
    "y shifted by a step": _loops,
    "last state of step L-2": lambda plan: _loops(plan) and plan.gives_state,
    "layers in reverse order": lambda plan: _loops(plan) and plan.num_layers == 3,
    "y of the first layer": lambda plan: _loops(plan) and plan.num_layers > 1,
    "backward outputs not flipped back": lambda plan: _loops(plan) and plan.both_ways,
    "backward direction fed forward": lambda plan: _loops(plan) and plan.both_ways,
}
"""What can be done wrong, and where."""

UNKNOWN = ("tanh for sigmoid", "item 0 for all", "reset at step 2", "y shifted by a step", "last state of step L-2")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any valid combination, right."""

    def one(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    kind = one("rnn", "lstm", "gru")
    weights = one(*WEIGHTS[kind])
    is_step = one(False, False, True)
    both_ways = one(False, False, True)
    num_layers = one(1, 2, 3)
    inline = num_layers == 1 and not both_ways and draw(st.booleans())
    several = num_layers > 1 or both_ways
    states = STATES_OF_STEPS[kind] if is_step else [each for each in STATES[kind] if each != "one row" or not several]
    state = one(*states)
    optional = state in ("dict", "tuple") or (not is_step and draw(st.booleans()))
    outputs = ["pair", "dict", "namedtuple", "dataclass", "head"]
    if state in ("hx", "one row", "list", "apart", "none"):  # nothing else tells how the others go in
        outputs.append("alone")
    if kind == "lstm" and state in ("hx", "one row", "apart", "items first", "list"):
        outputs.append("flat")
    if is_step:
        outputs = {"rnn": ["h", "pair"], "gru": ["h", "pair"], "lstm": ["h", "pair", "flat"]}[kind]
    constructors = ["words", "words", "config", "dict", "dataclass"]
    constructors += ["hidden first"] if not is_step else []
    constructors += ["positional"] if not several else []
    names = RAW if weights in ("raw", "kernel") else PAIRS
    return Plan(
        kind=kind,
        weights=weights,
        names=one(*(LETTERS if weights in ("letters", "turned letters", "gate pairs") else names)),
        letters=draw(st.integers(0, len(OF_GATES[kind]) - 1)),
        bias=one(*_biases(kind, weights)),
        state=state,
        optional=optional,
        output=one(*outputs),
        y=one("tensor", "tensor", "list"),
        layout="time first" if is_step else one("time first", "argument", "attribute", "flag", "spec"),
        constructor=one(*constructors),
        arguments=one(*ARGUMENTS),
        is_step=is_step,
        inline=inline or is_step,
        num_layers=num_layers,
        both_ways=both_ways,
        sizes=(one(3, 5), one(4, 7), one(2, 3, 6), one(4, 5)),
    )


@st.composite
def wrong_plans(draw: st.DrawFn) -> Plan:
    """Any valid combination, with one thing done wrong."""
    plan = draw(plans().filter(lambda plan: plan.deviations()))
    return replace(plan, deviation=draw(st.sampled_from(plan.deviations())))


def _biases(kind: str, weights: str) -> tuple[str, ...]:
    if weights == "cell":
        return ("two",)
    if weights in ("cat", "tac", "gate cats"):
        return ("folded", "none")
    return (
        ("two", "none")
        if kind == "gru" and weights in ("pairs", "gate pairs")
        else (("two", "folded", "none") if kind == "gru" else ("two", "folded", "on x", "none"))
    )


# The parameters and the step.


@dataclass(frozen=True)
class _Layer:
    """The parameters of a layer: the lines that make them, and what a gate's sum is."""

    plan: Plan

    @property
    def gates(self) -> str:
        return GATES[self.plan.kind]

    def letter(self, gate: str) -> str:
        letters: dict[str, str] = OF_GATES[self.plan.kind][self.plan.letters]
        return letters[gate]

    def named(self, gate: str) -> tuple[str, str]:
        x, h = self.plan.names
        return x.format(self.letter(gate)), h.format(self.letter(gate))

    def bias_names(self, gate: str) -> tuple[str, str]:
        """The biases of a gate, that of x and that of h; "" where there is none."""
        plan, end = self.plan, f"_{self.letter(gate)}" if self.of_letters else ""
        if plan.bias == "none":
            return "", ""
        if plan.bias == "two":
            of_h = f"b_i{self.letter(gate)}", f"b_h{self.letter(gate)}"
            return of_h if self.of_letters else ("b_ih", "b_hh")
        of_n = f"b_h{self.letter(gate)}" if self.of_letters else "b_hn"
        return f"b{end}" if self.of_letters else "bias", of_n if plan.kind == "gru" and gate == "n" else ""

    @property
    def of_letters(self) -> bool:
        return self.plan.weights in ("letters", "turned letters")

    def lines(self) -> list[str]:
        """The lines of the constructor."""
        plan, many = self.plan, len(self.gates)
        two, on_x = f"bias={plan.bias == 'two'}", f"bias={plan.bias != 'none'}"
        x, h = plan.names
        if plan.weights == "cell":
            return [f"self.cell = nn.{plan.kind.upper()}Cell(n_in, n_out)"]
        if plan.weights == "pairs":
            own = [f"self.bias = nn.Parameter(torch.randn({many} * n_out))"] * (plan.bias == "folded")
            on_x = f"bias={plan.bias in ('two', 'on x')}"
            return [
                f"self.{x} = nn.Linear(n_in, {many} * n_out, {on_x})",
                f"self.{h} = nn.Linear(n_out, {many} * n_out, {two})",
                *own,
            ]
        if plan.weights == "gate pairs":
            return [
                line
                for gate in self.gates
                for line in (
                    f"self.{self.named(gate)[0]} = nn.Linear(n_in, n_out, {on_x})",
                    f"self.{self.named(gate)[1]} = nn.Linear(n_out, n_out, {two})",
                )
            ]
        if plan.weights in ("cat", "tac"):
            return [f"self.linear = nn.Linear(n_in + n_out, {many} * n_out, {on_x})"]
        if plan.weights == "gate cats":
            words = IN_WORDS[plan.kind]
            return [f"self.{words[gate]} = nn.Linear(n_in + n_out, n_out, {on_x})" for gate in self.gates]
        return self._raw_lines()

    def _raw_lines(self) -> list[str]:
        plan, lines, biases = self.plan, [], dict[str, str]()
        parts = self.gates if self.of_letters else [self.gates]
        for part in parts:
            x, h = self.named(part[0]) if self.of_letters else plan.names
            rows = "n_out" if len(part) == 1 else f"{len(part)} * n_out"
            turned = plan.weights in ("kernel", "turned letters")
            for name, size in ((x, "n_in"), (h, "n_out")):
                shape = f"{size}, {rows}" if turned else f"{rows}, {size}"
                lines.append(f"self.{name} = nn.Parameter(torch.randn({shape}))")
            of_x, of_h = self.bias_names(part[0])
            biases |= {name: rows for name in (of_x, of_h) if name}
        if plan.kind == "gru" and plan.bias == "folded" and not self.of_letters:
            biases["b_hn"] = "n_out"
        return lines + [f"self.{name} = nn.Parameter(torch.randn({rows}))" for name, rows in biases.items()]

    def of_x(self, gate: str) -> str:
        """x's part of a gate's sum, with its biases but that of h."""
        plan, many, number = self.plan, len(self.gates), self.gates.index(gate)
        cut = f".chunk({many}, -1)[{number}]"
        bias = self.bias_names(gate)[0]
        if plan.weights == "pairs":
            return f"self.{plan.names[0]}(x){cut}" + (f" + self.bias{cut}" if plan.bias == "folded" else "")
        if plan.weights == "gate pairs":
            return f"self.{self.named(gate)[0]}(x)"
        if self.of_letters:
            product = f"x @ self.{self.named(gate)[0]}{'.T' if plan.weights == 'letters' else ''}"
            return product + (f" + self.{bias}" if bias else "")
        product = f"(x @ self.{plan.names[0]}{'.T' if plan.weights == 'raw' else ''}){cut}"
        return product + (f" + self.{bias}{cut}" if bias else "")

    def of_h(self, gate: str, h: str = "h") -> str:
        """h's part of a gate's sum."""
        plan, many, number = self.plan, len(self.gates), self.gates.index(gate)
        cut, wrong = f".chunk({many}, -1)[{number}]", plan.deviation == "W_hh transposed"
        name, bias = plan.names[1], self.bias_names(gate)[1]
        if plan.weights == "gate pairs":
            return f"self.{self.named(gate)[1]}({h})"
        if plan.weights == "pairs":
            if not wrong:
                return f"self.{name}({h}){cut}"
            bias_cut = f" + self.{name}.bias{cut}" if plan.bias == "two" else ""
            return f"{h} @ self.{name}.weight.chunk({many}, 0)[{number}]{bias_cut}"
        if self.of_letters:
            turned = (plan.weights == "letters") is not wrong
            return f"{h} @ self.{self.named(gate)[1]}{'.T' if turned else ''}" + (f" + self.{bias}" if bias else "")
        axis = 0 if plan.weights == "raw" else 1
        turned = (plan.weights == "raw") is not wrong
        of_gate = f"self.{name}.chunk({many}, {axis})[{number}]{'.T' if turned else ''}"
        own = "" if not bias else f" + self.{bias}" + ("" if bias == "b_hn" else cut)
        return f"({h}) @ {of_gate}{own}"

    def sum(self, gate: str) -> str:
        plan, many, number = self.plan, len(self.gates), self.gates.index(gate)
        both = "(h, x)" if plan.weights == "tac" else "(x, h)"
        if plan.weights in ("cat", "tac"):
            return f"self.linear(torch.cat({both}, -1)).chunk({many}, -1)[{number}]"
        if plan.weights == "gate cats":
            return f"self.{IN_WORDS[plan.kind][gate]}(torch.cat({both}, -1))"
        return f"{self.of_x(gate)} + {self.of_h(gate)}"

    def step(self) -> list[str]:
        """The lines of a step, which changes h, or h and c."""
        plan, wrong = self.plan, self.plan.deviation
        sigmoid = "tanh" if wrong == "tanh for sigmoid" else "sigmoid"
        if plan.weights == "cell":
            return ["h, c = self.cell(x, (h, c))" if plan.kind == "lstm" else "h = self.cell(x, h)"]
        if plan.kind == "rnn":
            return [f"h = ({self.sum('h')}).{'relu' if wrong == 'tanh and relu swapped' else 'tanh'}()"]
        if plan.kind == "lstm":
            g, o = "og" if wrong == "gates i f o g" else "go"
            more = " + 1" if wrong == "forget bias of 1" else ""
            return [
                f"i, f = ({self.sum('i')}).{sigmoid}(), ({self.sum('f')}{more}).{sigmoid}()",
                f"g, o = ({self.sum(g)}).tanh(), ({self.sum(o)}).{sigmoid}()",
                *["f = 1 - i"] * (wrong == "coupled forget gate"),
                "c = f * c + i * g",
                f"h = o * c{'' if wrong == 'tanh missing on the cell state' else '.tanh()'}",
            ]
        r, z = "zr" if wrong == "gates z r n" else "rz"
        n_h = self.of_h("n", "(r * h)") if wrong == "reset before the matmul" else f"r * ({self.of_h('n')})"
        return [
            f"r, z = ({self.sum(r)}).{sigmoid}(), ({self.sum(z)}).{sigmoid}()",
            f"n = ({self.of_x('n')} + {n_h}).tanh()",
            *["z = 1 - z"] * (wrong == "update gate inverted"),
            "h = (1 - z) * n + z * h",
        ]


# The constructor.

_CONFIGS = {"config": "config.{}", "dict": 'cfg["{}"]', "dataclass": "settings.{}"}


def _constructor(plan: Plan) -> tuple[str, list[str]]:
    """The signature, and lines that give n_in, n_out, n_layers, both_ways and batch_first."""
    input_size, hidden_size, layers = plan.arguments
    wanted = {"n_in": input_size, "n_out": hidden_size}
    if not plan.inline:
        wanted |= {"n_layers": layers}
    if plan.both_ways and not plan.is_step:
        wanted |= {"both_ways": "bidirectional"}
    defaults = {layers: "=1", "bidirectional": "=False"}
    if plan.constructor in _CONFIGS:
        signature = {"config": "config", "dict": "cfg", "dataclass": "settings: Settings"}[plan.constructor]
        lines = [f"{own} = {_CONFIGS[plan.constructor].format(name)}" for own, name in wanted.items()]
    elif plan.constructor == "positional":
        signature, lines = "a, b", ["n_in, n_out = a, b"] + (["n_layers = 1"] if not plan.inline else [])
    else:
        names = list(wanted.values())
        names = [hidden_size, input_size, *names[2:]] if plan.constructor == "hidden first" else names
        signature = ", ".join(name + defaults.get(name, "") for name in names)
        lines = [f"{own} = {name}" for own, name in wanted.items()]
    if plan.layout == "argument":
        signature += ", batch_first=False"
        lines.append("self.is_turned = batch_first")
    if plan.layout == "attribute":
        lines.append("self.batch_first = True")
    return signature, lines


def _settings(plan: Plan) -> str:
    if plan.constructor != "dataclass":
        return ""
    input_size, hidden_size, layers = plan.arguments
    fields = [f"{input_size}: int = 2", f"{hidden_size}: int = 2"]
    fields += [] if plan.inline else [f"{layers}: int = 1"]
    fields += ["bidirectional: bool = False"] if plan.both_ways and not plan.is_step else []
    return "@dataclass\nclass Settings:\n" + indent("\n".join(fields), "    ") + "\n\n"


# The whole.

_HEAD = """from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

"""


def _source(plan: Plan) -> str:
    signature, unpacked = _constructor(plan)
    layer = _Layer(plan)
    text = _HEAD + _settings(plan) + _results(plan)
    if plan.is_step:
        made = ["super().__init__()", *unpacked, *layer.lines()]
        return text + _class("Network", "nn.Module", (signature, made), (_arguments(plan), _one_step(plan, layer)))
    names = "h, c" if plan.kind == "lstm" else "h"
    of_layer = ["super().__init__()", *layer.lines()]
    step = [*layer.step(), f"return {names if plan.kind == 'lstm' else 'h,'}"]
    text += _class("Layer", "nn.Module", ("n_in, n_out", of_layer), (f"x, {names}", step), "step")
    text += _walk(plan)
    forward = (_arguments(plan), _forward(plan))
    if plan.inline:
        first = [line for line in unpacked if not line.startswith("self.")]
        made = [*first, "super().__init__(n_in, n_out)", "self.n_out = n_out"]
        made += [line for line in unpacked if line.startswith("self.")] + _head(plan)
        return text + _class("Network", "Layer", (signature, made), forward)
    ways = 2 if plan.both_ways else 1
    made = [
        "super().__init__()",
        *unpacked,
        "self.n_out = n_out",
        f"sizes = [n_in] + [n_out * {ways}] * (n_layers - 1)",
    ]
    if plan.both_ways:
        made += ["assert both_ways", "self.bwd = nn.ModuleList([Layer(size, n_out) for size in sizes])"]
    made += [f"self.{'fwd' if plan.both_ways else 'layers'} = nn.ModuleList([Layer(size, n_out) for size in sizes])"]
    return text + _class("Network", "nn.Module", (signature, made + _head(plan)), forward)


def _class(
    name: str, base: str, made: tuple[str, list[str]], called: tuple[str, list[str]], call: str = "forward"
) -> str:
    text = f"class {name}({base}):\n"
    for function, (signature, lines) in (("__init__", made), (call, called)):
        text += f"    def {function}(self, {signature}):\n" + indent("\n".join(lines), " " * 8) + "\n\n"
    return text + "\n"


def _head(plan: Plan) -> list[str]:
    ways = 2 if plan.both_ways else 1
    return [f"self.fc = nn.Linear({ways} * n_out, 2)"] if plan.output == "head" else []


_BEFORE_THE_WALK = {
    "h0 ignored": "    state = (state[0] * 0, *state[1:])",
    "c0 ignored": "    state = (state[0], state[1] * 0)",
    "item 0 for all": "    state = tuple(each[:1].expand_as(each) for each in state)",
}


def _walk(plan: Plan) -> str:
    """The function that walks the steps of a layer."""
    wrong = plan.deviation
    steps = "states[:-1]" if wrong == "y shifted by a step" else "states[1:]"
    last = "states[-2]" if wrong == "last state of step L-2" else "state"
    lines = [
        "def walk(layer, xs, state):",
        *[line for name, line in _BEFORE_THE_WALK.items() if name == wrong],
        "    states = [state]",
        "    for t, x in enumerate(xs):",
        *["        state = tuple(each * (t != 2) for each in state)"] * (wrong == "reset at step 2"),
        "        state = layer.step(x, *state)",
        "        states.append(state)",
        f"    return torch.stack([each[0] for each in {steps}]), {last}",
    ]
    return "\n".join(lines) + "\n\n\n"


def _arguments(plan: Plan) -> str:
    """The arguments of forward."""
    default = "=None" if plan.optional and not plan.is_step else ""
    if plan.state == "none":
        return "x"
    if plan.state == "apart":
        return f"x, h0{default}, c0{default}" if not plan.is_step else "x, h, c"
    return f"x, state{default}"


def _one_step(plan: Plan, layer: _Layer) -> list[str]:
    is_lstm = plan.kind == "lstm"
    taken = {"one row": "h, c = state" if is_lstm else "h = state", "tuple": "h, = state", "apart": ""}[plan.state]
    state = "(h, c)" if is_lstm else "(h,)" if plan.state == "tuple" else "h"
    given = {"h": state, "pair": f"h, {state}", "flat": "h, h, c"}[plan.output]
    return [*[taken] * bool(taken), *layer.step(), f"return {given}"]


def _forward(plan: Plan) -> list[str]:
    """The lines of forward over a sequence."""
    is_lstm, ways = plan.kind == "lstm", 2 if plan.both_ways else 1
    turned = {"argument": "if self.is_turned:\n    x = x.transpose(0, 1)", "time first": ""}
    first = turned.get(plan.layout, "x = x.transpose(0, 1)")
    layers = "[self]" if plan.inline else "self.fwd" if plan.both_ways else "self.layers"
    ordered = [f"layers = list({layers})"]
    if plan.deviation == "layers in reverse order":
        ordered.append("layers = layers[:1] + layers[:0:-1]")
    backward = []
    if plan.both_ways:
        order = "layers = list(zip(layers, self.bwd))"
        if plan.deviation == "layers in reverse order":
            order = "layers = list(zip(layers, [self.bwd[0], *list(self.bwd)[:0:-1]]))"
        ordered.append(order)
        walked = "x" if plan.deviation == "backward direction fed forward" else "x.flip(0)"
        back = "y" if plan.deviation.startswith("backward") else "y.flip(0)"
        backward = [
            f"    y, state = walk(layer[1], {walked}, rows[2 * k + 1])",
            "    last.append(state)",
            f"    top = torch.cat((top, {back}), -1)",
        ]
    zeros = f"rows = [(x.new_zeros(x.shape[1], self.n_out),) * {1 + is_lstm}] * ({ways} * len(layers))"
    feed = ["    ys.append(top)", "    x = top"]
    gives = "ys[0]" if plan.deviation == "y of the first layer" else "x"
    return [
        *[first] * bool(first),
        *ordered,
        *_rows(plan, zeros),
        "last, ys = [], []",
        "for k, layer in enumerate(layers):",
        f"    top, state = walk({'layer[0]' if plan.both_ways else 'layer'}, x, rows[{ways} * k])",
        "    last.append(state)",
        *backward,
        *feed,
        f"y = {gives}",
        *_returned(plan),
    ]


def _rows(plan: Plan, zeros: str) -> list[str]:
    """The lines that make of the state one tuple a layer and direction."""
    is_lstm, name = plan.kind == "lstm", "h0" if plan.state == "apart" else "state"
    if plan.state == "none":
        return [zeros]
    read = {
        "hx": "list(zip(*state))" if is_lstm else "[(each,) for each in state]",
        "one row": "[tuple(state)]" if is_lstm else "[(state,)]",
        "items first": (
            "list(zip(*(each.transpose(0, 1) for each in state)))"
            if is_lstm
            else "[(each,) for each in state.transpose(0, 1)]"
        ),
        "list": "list(zip(*state))" if is_lstm else "[(each,) for each in state]",
        "pairs": "[(h, c) for h, c in state]",
        "apart": "list(zip(h0, c0))",
        "tuple": "[(each,) for each in state[0]]",
        "dict": 'list(zip(state["h"], state["c"]))',
    }[plan.state]
    if not plan.optional:
        return [f"rows = {read}"]
    return [f"if {name} is None:", f"    {zeros}", "else:", f"    rows = {read}"]


def _returned(plan: Plan) -> list[str]:
    """The lines that give y and the state in their forms."""
    is_lstm = plan.kind == "lstm"
    lines = ["h = torch.stack([each[0] for each in last])"]
    lines += ["c = torch.stack([each[1] for each in last])"] if is_lstm else []
    change = {
        "one row": "{0} = {0}[0]",
        "items first": "{0} = {0}.transpose(0, 1)",
        "list": "{0} = list({0})",
    }.get(plan.state, "")
    lines += [change.format(name) for name in ("h", "c")[: 1 + is_lstm] if change]
    state = "(h, c)" if is_lstm else "(h,)" if plan.state == "tuple" else "h"
    state = {
        "pairs": "list(zip([each[0] for each in last], [each[1] for each in last]))",
        "dict": '{"h": h, "c": c}',
    }.get(plan.state, state)
    y = "self.fc(y)" if plan.output == "head" else "y"
    if plan.layout == "argument":
        lines.append("y = y.transpose(0, 1) if self.is_turned else y")
    elif plan.layout != "time first":
        lines.append("y = y.transpose(0, 1)")
    if plan.y == "list" and plan.output != "head":
        time = 0 if plan.layout == "time first" else 1
        y = f"list(y.unbind({'1 if self.is_turned else 0' if plan.layout == 'argument' else time}))"
    named = {"h": "h", "c": "c"} if is_lstm and plan.state not in ("pairs", "dict") else {"state": state}
    words = ", ".join(f'"{key}": {value}' for key, value in named.items())
    given = {
        "pair": f"{y}, {state}",
        "head": f"{y}, {state}",
        "flat": f"{y}, h, c",
        "alone": y,
        "dict": f'{{"output": {y}, {words}}}',
        "namedtuple": f"Result({y}, {', '.join(named.values())})",
        "dataclass": f"Result({y}, {', '.join(named.values())})",
    }[plan.output]
    return [*lines, f"return {given}"]


def _results(plan: Plan) -> str:
    """What a named result is."""
    names = ["output", *(["h", "c"] if plan.kind == "lstm" and plan.state not in ("pairs", "dict") else ["state"])]
    if plan.output == "namedtuple":
        return f'Result = namedtuple("Result", "{" ".join(names)}")\n\n\n'
    if plan.output == "dataclass":
        return "@dataclass\nclass Result:\n" + "".join(f"    {name}: Any\n" for name in names) + "\n\n"
    return ""
