"""The parts of a script of bare torch, each as text made from a Spec, and each with only what that Spec needs.

They are put in order in scripts.py, and are read by somebody who is learning what y and h are.
"""

import textwrap

from rnnscope.network.dims import tensor_shapes
from rnnscope.scripts.script_text import WIDTH, call, command, literal, numbers, text
from rnnscope.spec.spec import Spec

CELLS = {"rnn": "nn.RNNCell", "lstm": "nn.LSTMCell", "gru": "nn.GRUCell"}


def title(spec: Spec, rerun: str) -> str:
    """What the script shows, and the command that wrote it."""
    where = "every layer and direction" if spec.bidirectional else "every layer"
    last = f"h and c, the two states of {where}" if spec.kind == "lstm" else f"h, the state of {where}"
    prose = (
        "torch's module walks over time and layers by itself. A cell takes one step of one layer and leaves the walk "
        "to you. With the same weights and the same input both give the same y, the state of the top layer after "
        f"every step, and the same {last} after the last step."
    )
    line = command(rerun)
    quotes = 'r"""' if "\\" in line else '"""'
    cell = "cells with a projection" if spec.proj_size else CELLS[spec.kind]
    return text(
        f"{quotes}{spec.module_name} and a loop of {cell} by hand: one network, computed twice.",
        "",
        textwrap.fill(prose, WIDTH),
        "",
        "Written by:",
        "",
        line,
        '"""',
    )


def sizes(spec: Spec) -> str:
    """The sizes as constants, in torch's letters."""
    packed, state = spec.lengths is not None, "h and c" if spec.kind == "lstm" else "h"
    return text(
        "# Sizes, in the letters of torch's documentation",
        packed and numbers("lengths", spec.lengths or (), "steps of each sequence"),
        packed and "L = max(lengths)  # steps of the longest one; the others are padded to it",
        packed and "N = len(lengths)  # sequences in the batch",
        not packed and f"L = {spec.seq_len}  # steps of {'the' if spec.unbatched else 'each'} sequence",
        not packed and not spec.unbatched and f"N = {spec.batch_size}  # sequences in the batch",
        f"H_in = {spec.input_size}  # input_size: features of x at each step",
        f"H = {spec.hidden_size}  # hidden_size: features of {'c' if spec.proj_size else state}",
        spec.proj_size > 0 and f"P = {spec.proj_size}  # proj_size: features of h, onto which H are projected",
        f"K = {spec.num_layers}  # num_layers: each reads what the one below gives",
    )


def settings(spec: Spec) -> str:
    """The seed, and what the Spec says of dtype, device, threads and back ends."""
    device = '"cuda" if torch.cuda.is_available() else "cpu"' if spec.device == "auto" else literal(spec.device)
    exact = "  # so that rounding is too small to hide a fault" if spec.dtype == "float64" else ""
    return text(
        f"torch.manual_seed({spec.seed})",
        spec.dtype != "float32" and f"torch.set_default_dtype(torch.{spec.dtype}){exact}",
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
    options = [
        *_options(spec),
        *(["batch_first=True"] if spec.batch_first else []),
        *([f"dropout={spec.dropout!r}"] if drops else []),
        *(["bidirectional=True"] if spec.bidirectional else []),
        *(["proj_size=P"] if spec.proj_size else []),
    ]
    return text(
        "# torch's module: one call walks over every step of every layer",
        spec.dropout > 0 and not drops and "# dropout acts between layers, and there is only one",
        drops and spec.train and "# dropout acts between layers in training, as here: all that goes up is zeroed",
        drops and not spec.train and "# dropout acts between layers in training alone: eval() switches it off",
        call(f"module = {spec.module_name}", ["H_in", "H", "K", *options], "" if spec.train else ".eval()"),
    )


def run_module(spec: Spec) -> str:
    """A function that calls the module, where that takes more than a line."""
    if not has_function(spec):
        return ""
    first, packed = "batch_first=True, " if spec.batch_first else "", spec.lengths is not None
    state, hx = ("(h, c)", "(h0, c0)") if spec.kind == "lstm" else ("h", "h0")
    return text(
        f"def run_module(x, {states(spec, '{}0')}):",
        packed and '    """x is packed, so that the module knows where each sequence ends, and y is unpacked."""',
        not packed and '    """The module takes and gives the two states as a pair."""',
        packed and f"    packed = pack_padded_sequence(x, lengths, {first}enforce_sorted=False)",
        f"    y, {state} = module({'packed' if packed else 'x'}, {hx})",
        packed and f"    y, _ = pad_packed_sequence(y, {first}total_length=L)",
        f"    return y, {states(spec, '{}')}",
    )


def has_function(spec: Spec) -> bool:
    """Whether the module is called in a function of its own."""
    return spec.kind == "lstm" or spec.lengths is not None


def call_module(spec: Spec, given: str) -> str:
    """The module's y, h and c, given x, h0 and c0."""
    return f"{'run_module' if has_function(spec) else 'module'}({given})"


def cell_class(spec: Spec) -> str:
    """A cell with a projection, which torch does not have."""
    if not spec.proj_size:
        return ""
    biases = [f"        self.bias_{each} = nn.Parameter(torch.empty(4 * H))" for each in ("ih", "hh") if spec.bias]
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
        *biases,
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
    cell = "ProjectedCell(width" if spec.proj_size else ", ".join((f"{CELLS[spec.kind]}(width, H", *_options(spec)))
    made = [f"{cell}) for width in widths"]
    below = "both directions of the layer below" if spec.bidirectional else "the states of the layer below"
    return text(
        "# The cells by hand: each takes one step of one layer",
        f"widths = [H_in] + [{y_width(spec)}] * (K - 1)  # what a layer reads: x, or {below}",
        call("cells = nn.ModuleList", made),
        spec.bidirectional and call("reverse_cells = nn.ModuleList", made),
    )


def inputs(spec: Spec) -> str:
    """x and the initial state."""
    made = "torch.zeros" if spec.h0 == "zeros" else "torch.randn"
    given = shapes(spec)
    return text(
        "# The input",
        f"x = torch.randn({given['x']})" + ("  # padding is random too: it must not matter" if spec.lengths else ""),
        f"h0 = {made}({given['h0']})",
        spec.kind == "lstm" and f"c0 = {made}({given['c0']})",
    )


def _options(spec: Spec) -> list[str]:
    """What the module and a cell take alike."""
    relu = ['nonlinearity="relu"'] if spec.nonlinearity == "relu" else []
    return [*relu, *([] if spec.bias else ["bias=False"])]


def states(spec: Spec, form: str) -> str:
    """h, and c of an LSTM, in some form: "h0, c0"."""
    return ", ".join(form.format(each) for each in ("h", "c")[: 2 if spec.kind == "lstm" else 1])


def y_width(spec: Spec) -> str:
    """The features of y: H, P or twice as many."""
    return f"{'2 * ' if spec.bidirectional else ''}{h_width(spec)}"


def h_width(spec: Spec) -> str:
    """The features of h."""
    return "P" if spec.proj_size else "H"


def shapes(spec: Spec) -> dict[str, str]:
    """The dims of each tensor in the script's constants: "2 * K, N, H"."""
    letters = {"D·K": "2 * K" if spec.bidirectional else "K", "H_out": h_width(spec), "D·H_out": y_width(spec)}
    return {each.name: ", ".join(letters.get(dim, dim) for dim in each.dims) for each in tensor_shapes(spec)}
