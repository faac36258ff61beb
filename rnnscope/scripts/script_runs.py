"""The parts of a script of bare torch that compute: the loop by hand, and the check that it is torch's network."""

from rnnscope.scripts.parts import call_module, h_width, shapes, states
from rnnscope.scripts.script_text import WIDTH, call, text
from rnnscope.spec.spec import Spec


def real_steps(spec: Spec) -> str:
    """Which steps are no padding."""
    return text(
        spec.lengths is not None and "# (L, N, 1): whether a step is real, and not padding behind a sequence's end",
        spec.lengths is not None and "real = torch.arange(L)[:, None, None] < torch.tensor(lengths)[:, None]",
    )


def walk(spec: Spec) -> str:
    """One layer over time."""
    lstm, both = spec.kind == "lstm", spec.bidirectional
    step = f"cell(steps[t], {'(h, c)' if lstm else 'h'})"
    ended = "  # a sequence that has ended keeps its state"
    if spec.lengths is None:
        moves = [f"        {states(spec, '{}')} = {step}"]
    elif lstm:
        moves = [
            f"        new_h, new_c = {step}",
            f"        h = torch.where(real[t], new_h, h){ended}",
            "        c = torch.where(real[t], new_c, c)",
        ]
    else:
        moves = [f"        h = torch.where(real[t], {step}, h){ended}"]
    return text(
        "# The loop by hand",
        f"def walk(cell, steps, {states(spec, '{}')}{', times' if both else ''}):",
        both and '    """One direction of one layer: its h at every step, and its state after the last it walks."""',
        not both and '    """One layer over time: its h after every step, and its state after the last one."""',
        f"    states = {'[None] * L' if both else '[]'}",
        f"    for t in {'times' if both else 'range(L)'}:",
        *moves,
        both and "        states[t] = h  # in the order of time, whichever way it walks",
        not both and "        states.append(h)",
        f"    return states, {states(spec, '{}')}",
    )


def run_cells(spec: Spec) -> str:
    """All layers."""
    given, first = shapes(spec), spec.batch_first and not spec.unbatched
    ins = ", ".join(f"{name}: ({given[name]})" for name in given if name in ("x", "h0", "c0"))
    outs = ", ".join(f"{name}: ({given[name]})" for name in given if name in ("y", "h", "c"))
    all_layers = "h and c are" if spec.kind == "lstm" else "h is"
    shape = f"    {ins} -> {outs}"
    drops = spec.train and spec.dropout > 0 and spec.num_layers > 1
    steps = "x.unbind(1)" if first else "x.unbind(0)"
    top = "[torch.where(real[t], steps[t], 0) for t in range(L)]" if spec.lengths is not None else "steps"
    return text(
        f"def run_cells(x, {states(spec, '{}0')}):",
        '    """Layer by layer: the next one reads what this one gives at every step.',
        "",
        *([shape] if len(shape) <= WIDTH else [f"    {ins}", f"    -> {outs}"]),
        '    """',
        f"    steps = {steps}" + ("  # batch_first: time is dim 1 of x and y" if first else ""),
        f"    {states(spec, '{}')} = {states(spec, 'torch.empty_like({}0)')}",
        "    for k in range(K):",
        drops and "        if k > 0:  # what goes up is dropped, y never is",
        drops and f"            steps = [nn.functional.dropout(step, {spec.dropout!r}) for step in steps]",
        *(_both_directions(spec) if spec.bidirectional else [_one_direction(spec)]),
        f"    # y is the top layer at every step, {all_layers} every layer after its last step",
        f"    return torch.stack({top}{', 1' if first else ''}), {states(spec, '{}')}",
    )


def _one_direction(spec: Spec) -> str:
    return f"        steps, {states(spec, '{}[k]')} = walk(cells[k], steps, {states(spec, '{}0[k]')})"


def _both_directions(spec: Spec) -> list[str]:
    def line(name: str, row: str, cells: str, times: str) -> str:
        given = [f"{cells}[k]", "steps", states(spec, f"{{}}0[{row}]"), times]
        return call(f"        {name}, {states(spec, f'{{}}[{row}]')} = walk", given)

    return [
        "        ahead, back = 2 * k, 2 * k + 1  # the rows of the two directions in the state",
        line("forward", "ahead", "cells", "range(L)"),
        line("backward", "back", "reverse_cells", "range(L)[::-1]"),
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
    last, given, overflows = states(spec, "{}"), states(spec, "{}0"), spec.nonlinearity == "relu"
    run = f"    y, {last} = {call_module(spec, f'x, {given}')}"
    found = f"difference((y, {last}), run_cells(x, {given}))"
    shown = ', " '.join(f'{each}", tuple({each}.shape)' for each in ("y", *last.split(", ")))
    nudged = call_module(spec, f"nudged(x), {states(spec, 'nudged({}0)')}")
    return text(
        "with torch.no_grad():",
        run,
        f'    print("{shown})',
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
    return [
        f'    print(f"{spec.dtype}: they differ by {{{found}:.3g}} at most")',
        "",
        f"    # Rounding in {spec.dtype} can hide a small fault. In float64 it is too small for that, so the",
        "    # verdict is float64's, with the same weights and the same input.",
        *(f"    {each}.double()" for each in modules),
        f"    x, {states(spec, '{}0')} = x.double(), {states(spec, '{}0.double()')}",
        run,
    ]


def _ends(spec: Spec) -> list[str]:
    """Where in y the last states of the top layer are."""
    half, packed = h_width(spec), spec.lengths is not None
    own = "items, ends" if spec.batch_first else "ends, items"

    def equal(row: str, step: str, part: list[str]) -> str:
        index = [step] if spec.unbatched else [":", step] if spec.batch_first else [step, ":"]
        place = label = f"y[{', '.join([*index, *part]).removesuffix(', :')}]"
        if packed and step == "-1":
            place = f"y[{', '.join([own, *part])}]"
            label = f"{'y[..., ' + part[0] + ']' if part else 'y'} at each sequence's own end"
        return f'    print("h[{row}] is {label}:", torch.equal(h[{row}], {place}))'

    items = "    ends, items = torch.tensor(lengths) - 1, torch.arange(N)"
    if spec.bidirectional:
        return [
            "    # Where in y are the last states of the top layer? Walking backward ends at step 0.",
            *([items] if packed else []),
            equal("-2", "-1", [f":{half}"]),
            equal("-1", "0", [f"{half}:"]),
        ]
    return ["    # Where in y is the last state of the top layer?", *([items] if packed else []), equal("-1", "-1", [])]
