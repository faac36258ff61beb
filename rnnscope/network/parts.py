"""What the parts of y, h and c hold, in words, and what about a Spec is easily overlooked.

From a Spec alone; nothing is run and torch is not imported. That a part of y is a row of h is a formula here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rnnscope.network.dims import Shape
from rnnscope.spec.spec import Spec


@dataclass(frozen=True)
class Part:
    """A part of an output: how it is indexed in Python, its shape and what it holds."""

    name: str
    shape: Shape
    meaning: str


def halves(spec: Spec) -> Iterator[Part]:
    """The two halves of y, where there are two: (L, N, H_out) each, laid out as y is."""
    if not spec.bidirectional:
        return
    sequence = (spec.seq_len,) if spec.unbatched else (spec.seq_len, spec.batch_size)
    shape = (*(reversed(sequence) if spec.batch_first else sequence), spec.output_size)
    for direction, word in enumerate(("forward", "backward")):
        yield Part(f"y[..., {_half(spec, direction)}]", shape, f"{word} states of the top layer, in the order of time")


def rows(spec: Spec, layer: int) -> Iterator[Part]:
    """The rows of h that a layer has, one a direction: (N, H_out) each. c has the same rows, (N, H) each."""
    shape = (spec.output_size,) if spec.unbatched else (spec.batch_size, spec.output_size)
    for direction in range(spec.directions):
        name = f"h[{spec.row_of(layer, direction)}]"
        words = f"layer {layer}" + (f", {'backward' if direction else 'forward'}" if spec.bidirectional else "")
        if spec.lengths is None:
            words += f", after step {0 if direction else spec.seq_len - 1}"
        else:
            words += ", after step 0" if direction else ", after each item's own last step"
        if layer == spec.num_layers - 1:
            words += f": {last_of_y(spec, direction)}"
        yield Part(name, shape, words)


def all_parts(spec: Spec) -> Iterator[Part]:
    """The halves of y and every row of h."""
    yield from halves(spec)
    for layer in range(spec.num_layers):
        yield from rows(spec, layer)


def last_of_y(spec: Spec, direction: int) -> str:
    """The part of y that is the last state of the top layer in a direction."""
    own_end = spec.lengths is not None and not direction
    step = "0" if direction else "length - 1" if own_end else "-1"
    item = "item" if own_end else ":"
    index = [step] if spec.unbatched else [item, step] if spec.batch_first else [step, item]
    if spec.bidirectional:
        index.append(_half(spec, direction))
    elif index[-1] == ":":
        index.pop()
    return f"y[{', '.join(index)}]"


def look_for(spec: Spec) -> str:
    """The one line that people look for: where the last state of the top layer is."""
    if not spec.bidirectional:
        where = " of each item" if spec.lengths is not None else ""
        return f"the last state{where} of the top layer is h[-1], which is {last_of_y(spec, 0)}"
    return (
        f"the top layer ends in h[-2], which is {last_of_y(spec, 0)}, and h[-1], which is {last_of_y(spec, 1)}: "
        "the backward direction ends at step 0"
    )


def notes(spec: Spec) -> Iterator[str]:
    """What a reader of the Spec could overlook."""
    if spec.dropout and spec.num_layers == 1:
        yield f"--dropout {spec.dropout:g} does nothing: it acts between layers, and there is one"
    elif spec.dropout and not spec.train:
        yield f"--dropout {spec.dropout:g} acts between layers, and only in training: add --train"
    if spec.unbatched:
        return
    first, second = ("N", "L") if spec.batch_first else ("L", "N")
    if spec.seq_len == spec.batch_size and spec.seq_len > 1:
        yield f"L = N = {spec.seq_len}: x laid out as ({second}, {first}, H_in) would fit too, and nothing would tell"
    elif spec.h0 == "zeros" and spec.lengths is None:
        yield f"without an h0, x laid out as ({second}, {first}, H_in) would be taken too, and nothing would tell"


def _half(spec: Spec, direction: int) -> str:
    return f"{spec.output_size}:" if direction else f":{spec.output_size}"
