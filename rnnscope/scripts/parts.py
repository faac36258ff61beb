"""The parts of a script of bare torch, each as text made from a Spec, and each with only what that Spec needs.

A script is plain ASCII, has no line over WIDTH, and is laid out as `ruff format` would leave it. It is read by somebody
who is learning what y and h are.
"""

import os
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Sequence

from rnnscope.network.shapes import tensor_shapes
from rnnscope.spec.spec import Spec

WIDTH = 100
"""Columns of a line."""


def text(*lines: str | bool) -> str:
    """Lines, of which those whose condition is False are left out."""
    return "\n".join(each for each in lines if isinstance(each, str))


def assembled(parts: Iterable[str]) -> str:
    """The whole script: a blank line between its parts, and two around a function or a class."""
    script = ""
    for part in filter(None, parts):
        around = _at_margin(script)[-1:] + _at_margin(part)[:1]
        apart = any(line.startswith(("def ", "class ")) for line in around)
        script += ("\n\n\n" if apart else "\n\n") + part if script else part
    return script + "\n"


def _at_margin(part: str) -> list[str]:
    """The lines that begin a statement."""
    return [line for line in part.splitlines() if line and line[0] not in " #)]"]


def call(name: str, *arguments: str | bool, then: str = "") -> str:
    """A call, broken at its brackets where it is too long for a line; an argument that is False is left out."""
    inside, indent = ", ".join(each for each in arguments if isinstance(each, str)), name[: -len(name.lstrip())]
    line = f"{name}({inside}){then}"
    return line if len(line) <= WIDTH else f"{name}(\n{indent}    {inside}\n{indent}){then}"


def numbers(name: str, values: Sequence[int], comment: str) -> str:
    """A list of numbers, over several lines where it is too long for one."""
    every = ", ".join(map(str, values))
    line = f"{name} = [{every}]  # {comment}"
    if len(line) <= WIDTH:
        return line
    filled = textwrap.fill(f"{every},", WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"# {name}: {comment}\n{name} = [\n{filled}\n]  # fmt: skip"


def command(line: str) -> str:
    """A command as it is typed into a shell, indented, and over several lines where it is too long for one."""
    lines = ["   "]
    for word in shlex.split(line):
        first, *others = map(_shell_word, _pieces(word, _shell_word))
        if len(lines[-1]) + 1 + len(first) + 2 > WIDTH:
            lines[-1] += " \\"
            lines.append("       ")
        lines[-1] += f" {first}"
        for piece in others:  # a word goes on at the margin of the next line
            lines[-1] += "\\"
            lines.append(piece)
    return "\n".join(lines)


def _shell_word(word: str) -> str:
    """A word in the shell's own quotes; byte by byte where these would not do in a docstring of ASCII."""
    if word.isascii() and word.isprintable() and '"' not in word:
        return shlex.quote(word)
    safe = (chr(each) if 32 <= each < 127 and each not in b"\\'\"" else f"\\x{each:02x}" for each in os.fsencode(word))
    return f"$'{''.join(safe)}'"


def named(name: str, value: str) -> str:
    """A text with a name of its own, in pieces where it is too long for a line."""
    line = f"{name} = {literal(value)}"
    if len(line) <= WIDTH:
        return line
    return text(f"{name} = (", *(f"    {literal(piece)}" for piece in _pieces(value, literal)), ")")


def _pieces(value: str, written: Callable[[str], str]) -> list[str]:
    """A text in pieces, each of which has room in an indented line as it is written."""
    pieces = [""]
    for each in value:
        if len(written(pieces[-1] + each)) > WIDTH - 10:
            pieces.append("")
        pieces[-1] += each
    return pieces


def literal(value: str | int) -> str:
    """A text or a number as Python writes it: in ASCII, and in double quotes unless single ones save escapes."""
    if isinstance(value, int):
        return str(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + "".join(f"\\{each}" if each == quote else ascii(each)[1:-1] for each in value) + quote


def title(spec: Spec, rerun: str) -> str:
    """What the script tells, and the command that wrote it."""
    where = "every layer and direction" if spec.bidirectional else "every layer"
    last = f"h and c, the two states of {where}" if spec.kind == "lstm" else f"h, the state of {where}"
    prose = (
        "torch's module walks over time and layers by itself. A cell takes one step of one layer and leaves the walk "
        "to you. With the same weights and the same input both give the same y, the state of the top layer after "
        f"every step, and the same {last} after the last step."
    )
    line = command(rerun)
    quotes = 'r"""' if "\\" in line else '"""'
    cell = "cells with a projection" if spec.proj_size else f"{spec.module_name}Cell"
    first = f"{quotes}{spec.module_name} and a loop of {cell} by hand: one network, computed twice."
    return text(first, "", textwrap.fill(prose, WIDTH), "", "Written by:", "", line, '"""')


def sizes(spec: Spec) -> str:
    """The sizes as constants, in torch's letters."""
    if spec.lengths is None:
        batch = [f"L = {spec.seq_len}  # steps of {'the' if spec.unbatched else 'each'} sequence"]
        batch += [] if spec.unbatched else [f"N = {spec.batch_size}  # sequences in the batch"]
    else:
        batch = [numbers("lengths", spec.lengths, "steps of each sequence")]
        batch.append("L = max(lengths)  # steps of the longest one; the others are padded to it")
        batch.append("N = len(lengths)  # sequences in the batch")
    state = "c" if spec.proj_size else "h and c" if spec.kind == "lstm" else "h"
    return text(
        "# Sizes, in the letters of torch's documentation",
        *batch,
        f"H_in = {spec.input_size}  # input_size: features of x at each step",
        f"H = {spec.hidden_size}  # hidden_size: features of {state}",
        spec.proj_size > 0 and f"P = {spec.proj_size}  # proj_size: features of h, onto which H are projected",
        f"K = {spec.num_layers}  # num_layers: each reads what the one below gives",
    )


def settings(spec: Spec) -> str:
    """The seed, and what the Spec says of dtype, device, threads and back ends."""
    device = 'torch.accelerator.current_accelerator() if found else "cpu"'
    device = device if spec.device == "auto" else literal(spec.device)
    exact = "  # so that rounding is too small to hide a fault" if spec.dtype == "float64" else ""
    return text(
        f"torch.manual_seed({spec.seed})",
        spec.dtype != "float32" and f"torch.set_default_dtype(torch.{spec.dtype}){exact}",
        spec.device == "auto" and "found = torch.accelerator.is_available()  # a GPU, of whichever maker",
        spec.device != "cpu" and f"torch.set_default_device({device})",
        spec.threads is not None and f"torch.set_num_threads({spec.threads})",
        spec.tf32 is not None and f"torch.backends.cudnn.allow_tf32 = {spec.tf32}",
        spec.tf32 is not None and f"torch.backends.cuda.matmul.allow_tf32 = {spec.tf32}",
        spec.cudnn is not None and f"torch.backends.cudnn.enabled = {spec.cudnn}",
        spec.onednn is not None and f"torch.backends.mkldnn.enabled = {spec.onednn}",
        warns(spec) and 'warnings.filterwarnings("ignore", "LSTM with projections")  # torch says that oneDNN has none',
    )


def warns(spec: Spec) -> bool:
    """Whether torch would warn that another back end computes."""
    return spec.proj_size > 0 and spec.device in ("cpu", "auto") and spec.onednn is not False


def torch_module(spec: Spec) -> str:
    """torch's module."""
    drops = spec.dropout > 0 and spec.num_layers > 1
    made = call(
        f"module = {spec.module_name}",
        *["H_in", "H", "K", *_options(spec)],
        spec.batch_first and "batch_first=True",
        drops and f"dropout={spec.dropout!r}",
        spec.bidirectional and "bidirectional=True",
        spec.proj_size > 0 and "proj_size=P",
        then="" if spec.train else ".eval()",
    )
    return text(
        "# torch's module: one call walks over every step of every layer",
        spec.dropout > 0 and not drops and "# dropout acts between layers, and there is only one",
        drops and spec.train and "# dropout acts between layers in training, as here: all that goes up is zeroed",
        drops and not spec.train and "# dropout acts between layers in training alone: eval() switches it off",
        made,
    )


def run_module(spec: Spec) -> str:
    """A function that calls the module, where that takes more than a line."""
    if not has_function(spec):
        return ""
    packed, first = spec.lengths is not None, "batch_first=True, " if spec.batch_first else ""
    state, given = ("(h, c)", "(h0, c0)") if spec.kind == "lstm" else ("h", "h0")
    about_pair = "The module takes and gives the two states as a pair."
    about_packing = "x is packed, so that the module knows where each sequence ends, and y is unpacked."
    return text(
        f"def run_module(x, {states(spec, 'h0')}):",
        f'    """{about_packing if packed else about_pair}"""',
        packed and f"    packed = pack_padded_sequence(x, lengths, {first}enforce_sorted=False)",
        f"    y, {state} = module({'packed' if packed else 'x'}, {given})",
        packed and f"    y, _ = pad_packed_sequence(y, {first}total_length=L)",
        f"    return y, {states(spec, 'h')}",
    )


def has_function(spec: Spec) -> bool:
    """Whether the module is called in a function of its own, run_module."""
    return spec.kind == "lstm" or spec.lengths is not None


def cell_class(spec: Spec) -> str:
    """A cell with a projection, which torch does not have."""
    if not spec.proj_size:
        return ""
    b_ih, b_hh = (" + self.bias_ih", " + self.bias_hh") if spec.bias else ("", "")
    batch = "" if spec.unbatched else "N, "
    return text(
        "# One step of an LSTM with a projection, which nn.LSTMCell does not know",
        "class ProjectedCell(nn.Module):",
        '    """c keeps its H features, and h is projected onto P."""',
        "",
        "    def __init__(self, width):",
        "        super().__init__()",
        "        self.weight_ih = nn.Parameter(torch.empty(4 * H, width))",
        "        self.weight_hh = nn.Parameter(torch.empty(4 * H, P))",
        spec.bias and "        self.bias_ih = nn.Parameter(torch.empty(4 * H))",
        spec.bias and "        self.bias_hh = nn.Parameter(torch.empty(4 * H))",
        "        self.weight_hr = nn.Parameter(torch.empty(P, H))",
        "",
        "    def forward(self, x, state):",
        f'        """x: ({batch}width), h: ({batch}P), c: ({batch}H) -> h: ({batch}P), c: ({batch}H)."""',
        "        h, c = state",
        f"        gates = x @ self.weight_ih.T{b_ih} + h @ self.weight_hh.T{b_hh}",
        "        i, f, g, o = gates.chunk(4, -1)  # input, forget, cell and output gate",
        "        c = f.sigmoid() * c + i.sigmoid() * g.tanh()",
        "        h = o.sigmoid() * c.tanh()",
        "        return h @ self.weight_hr.T, c",
    )


def cells(spec: Spec) -> str:
    """The cells of all layers and directions."""
    cell = call(f"{spec.module_name}Cell", "width", "H", *_options(spec))
    made = f"{'ProjectedCell(width)' if spec.proj_size else cell} for width in widths"
    below = "both directions of the layer below" if spec.bidirectional else "the states of the layer below"
    return text(
        "# The cells by hand: each takes one step of one layer",
        f"widths = [H_in] + [{features(spec, 'y')}] * (K - 1)  # what a layer reads: x, or {below}",
        call("cells = nn.ModuleList", made),
        spec.bidirectional and call("reverse_cells = nn.ModuleList", made),
    )


def inputs(spec: Spec) -> str:
    """x and the initial state."""
    made, given = "torch.zeros" if spec.h0 == "zeros" else "torch.randn", dims(spec)
    return text(
        "# The input",
        f"x = torch.randn({given['x']})" + ("  # padding is random too: it must not matter" if spec.lengths else ""),
        f"h0 = {made}({given['h0']})",
        spec.kind == "lstm" and f"c0 = {made}({given['c0']})",
    )


def _options(spec: Spec) -> list[str | bool]:
    """What the module and a cell take alike."""
    return [spec.nonlinearity == "relu" and 'nonlinearity="relu"', not spec.bias and "bias=False"]


def states(spec: Spec, of_h: str) -> str:
    """What is written of h; behind it, for an LSTM, the same of c: from "h0[k]" comes "h0[k], c0[k]"."""
    of_c = re.sub(r"\bh", "c", of_h)
    return f"{of_h}, {of_c}" if spec.kind == "lstm" else of_h


def features(spec: Spec, name: str) -> str:
    """The features of y or h: H or P, and twice as many in y with both directions."""
    return dims(spec)[name].rpartition(", ")[2]


def dims(spec: Spec) -> dict[str, str]:
    """The dims of each tensor in the script's constants: "2 * K, N, H"."""
    twice, h = "2 * " if spec.bidirectional else "", "P" if spec.proj_size else "H"
    letters = {"D·K": f"{twice}K", "H_out": h, "D·H_out": f"{twice}{h}"}
    return {each.name: ", ".join(letters.get(dim, dim) for dim in each.dims) for each in tensor_shapes(spec)}


def padding_mask(spec: Spec) -> str:
    """Which steps are no padding."""
    about = "# (L, N, 1): whether a step is real, and not padding behind a sequence's end"
    mask = "real = torch.arange(L)[:, None, None] < torch.tensor(lengths)[:, None]"
    return "" if spec.lengths is None else text(about, mask)


def walk(spec: Spec) -> str:
    """One layer over time."""
    both = spec.bidirectional
    step = f"cell(steps[t], {'(h, c)' if spec.kind == 'lstm' else 'h'})"
    kept = "  # a sequence that has ended keeps its state"
    if spec.lengths is None:
        moves = [f"        {states(spec, 'h')} = {step}"]
    elif spec.kind == "lstm":
        moves = [
            f"        new_h, new_c = {step}",
            f"        h = torch.where(real[t], new_h, h){kept}",
            "        c = torch.where(real[t], new_c, c)",
        ]
    else:
        moves = [f"        h = torch.where(real[t], {step}, h){kept}"]
    one_way = '    """One layer over time: its h after every step, and its state after the last one."""'
    each_way = '    """One direction of one layer: its h at every step, and its state after the last it walks."""'
    in_order = "        states[t] = h  # in the order of time, whichever way it walks"
    return text(
        "# The loop by hand",
        f"def walk(cell, steps, {states(spec, 'h')}{', times' if both else ''}):",
        each_way if both else one_way,
        f"    states = {'[None] * L' if both else '[]'}",
        f"    for t in {'times' if both else 'range(L)'}:",
        *moves,
        in_order if both else "        states.append(h)",
        f"    return states, {states(spec, 'h')}",
    )


def run_cells(spec: Spec) -> str:
    """All layers."""
    given, first = dims(spec), spec.batch_first and not spec.unbatched
    ins = ", ".join(f"{name}: ({given[name]})" for name in given if name in ("x", "h0", "c0"))
    outs = ", ".join(f"{name}: ({given[name]})" for name in given if name in ("y", "h", "c"))
    line, ends = f"    {ins} -> {outs}", "h and c are" if spec.kind == "lstm" else "h is"
    drops = spec.train and spec.dropout > 0 and spec.num_layers > 1
    top = "[torch.where(real[t], steps[t], 0) for t in range(L)]" if spec.lengths is not None else "steps"
    return text(
        f"def run_cells(x, {states(spec, 'h0')}):",
        '    """Layer by layer: the next one reads what this one gives at every step.',
        "",
        line if len(line) <= WIDTH else f"    {ins}\n    -> {outs}",
        '    """',
        f"    steps = x.unbind({'1)  # batch_first: time is dim 1 of x and y' if first else '0)'}",
        f"    {states(spec, 'h')} = {states(spec, 'torch.empty_like(h0)')}",
        "    for k in range(K):",
        drops and "        if k > 0:  # what goes up is dropped, y never is",
        drops and f"            steps = [nn.functional.dropout(step, {spec.dropout!r}) for step in steps]",
        *_walks(spec),
        f"    # y is the top layer at every step, {ends} every layer after its last step",
        f"    return torch.stack({top}{', 1' if first else ''}), {states(spec, 'h')}",
    )


def _walks(spec: Spec) -> list[str]:
    """The walk of a layer, or of its two directions."""

    def walked(name: str, row: str, stack: str, *times: str) -> str:
        result = f"        {name}, {states(spec, f'h[{row}]')} = walk"
        return call(result, f"{stack}[k]", "steps", states(spec, f"h0[{row}]"), *times)

    if not spec.bidirectional:
        return [walked("steps", "k", "cells")]
    return [
        "        ahead, back = 2 * k, 2 * k + 1  # the rows of the two directions in the state",
        walked("forward", "ahead", "cells", "range(L)"),
        walked("backward", "back", "reverse_cells", "range(L)[::-1]"),
        "        steps = [torch.cat(halves, -1) for halves in zip(forward, backward, strict=True)]",
    ]


def difference(spec: Spec) -> str:
    """What the check is made of."""
    names = "y, h and c" if spec.kind == "lstm" else "y and h"
    return text(
        "# The check",
        "def difference(outputs, others):",
        f'    """The greatest difference between two numbers of {names}."""',
        "    pairs = zip(outputs, others, strict=True)",
        "    return torch.cat([(a - b).abs().flatten() for a, b in pairs]).max().item()",
        "",
        "",
        "def nudged(numbers):",
        '    """Every number about one rounding of float64 away, up or down at random."""',
        "    return numbers * (1 + 2**-52 * torch.randn_like(numbers))",
    )


def check(spec: Spec) -> str:
    """Both runs, what comes out, and whether it is the same."""
    last, given, overflows = states(spec, "h"), states(spec, "h0"), spec.nonlinearity == "relu"
    module = "run_module" if has_function(spec) else "module"
    run = f"    y, {last} = {module}(x, {given})"
    found = f"difference((y, {last}), run_cells(x, {given}))"
    printed = ', " '.join(f'{each}", tuple({each}.shape)' for each in ("y", *last.split(", ")))
    nudged = f"{module}(nudged(x), {states(spec, 'nudged(h0)')})"
    return text(
        "with torch.no_grad():",
        run,
        f'    print("{printed})',
        "",
        *_ends(spec),
        "",
        *([] if spec.dtype == "float64" else _in_float64(spec, run, found)),
        f"    apart = {found}",
        "",
        "    # How much of that can be rounding? As much as the module itself moves when its numbers are",
        "    # nudged, and at least one rounding of its greatest output at each step. 32 is for safety.",
        "    moved = 0.0",
        "    for _ in range(3):",
        "        for weight in module.parameters():",
        "            weight.copy_(nudged(weight))",
        f"        moved = max(moved, difference((y, {last}), {nudged}))",
        f"    greatest = max(each.abs().max().item() for each in (y, {last}))",
        overflows and "    if not greatest < torch.inf:",
        overflows and '        raise SystemExit("relu lets the states grow without end: nothing can be compared")',
        spec.kind == "gru"
        and "    greatest = max(1.0, greatest)  # 1 - z rounds as a number near 1, however small h is",
        "    rounding = 32 * max(moved, L * 2**-53 * greatest)",
        '    print(f"float64: they differ by {apart:.3g} at most, and rounding explains {rounding:.3g}")',
        "    if rounding > 0.1 * greatest:",
        '        raise SystemExit("undecided: rounding alone moves the outputs that far")',
        "    if not apart <= rounding:  # NaN is a difference too",
        '        raise SystemExit("not the same network")',
        '    print("the same network")',
    )


def _in_float64(spec: Spec, run: str, found: str) -> list[str]:
    """The difference in the Spec's dtype, and everything made float64."""
    modules = ["module", "cells", *(["reverse_cells"] if spec.bidirectional else [])]
    has_float64 = spec.device == "cpu" or spec.device.startswith("cuda")
    double = "double()" if has_float64 else "cpu().double()"
    return [
        f'    print(f"{spec.dtype}: they differ by {{{found}:.3g}} at most")',
        "",
        f"    # Rounding in {spec.dtype} can hide a small fault. In float64 it is too small for that, so the",
        "    # verdict is float64's, with the same weights and the same input.",
        *([] if has_float64 else ['    torch.set_default_device("cpu")  # another device may have no float64']),
        *(f"    {each}.{double}" for each in modules),
        f"    x, {states(spec, 'h0')} = x.{double}, {states(spec, f'h0.{double}')}",
        run,
    ]


def _ends(spec: Spec) -> list[str]:
    """Where in y the last states of the top layer are."""

    def equal(row: int, step: int, half: str) -> str:
        index = [step] if spec.unbatched else [":", step] if spec.batch_first else [step, ":"]
        own = ["items", "ends"] if spec.batch_first else ["ends", "items"]
        halves = [half] if half else []
        place = label = f"y[{', '.join(map(str, [*index, *halves]))}]".replace(", :]", "]")
        if spec.lengths is not None and step == -1:
            place = f"y[{', '.join([*own, *halves])}]"
            label = f"{f'y[..., {half}]' if half else 'y'} at each sequence's own end"
        return f'    print("h[{row}] is {label}:", torch.equal(h[{row}], {place}))'

    items = [] if spec.lengths is None else ["    ends, items = torch.tensor(lengths) - 1, torch.arange(N)"]
    if not spec.bidirectional:
        return ["    # Where in y is the last state of the top layer?", *items, equal(-1, -1, "")]
    return [
        "    # Where in y are the last states of the top layer? Walking backward ends at step 0.",
        *items,
        equal(-2, -1, f":{features(spec, 'h')}"),
        equal(-1, 0, f"{features(spec, 'h')}:"),
    ]
