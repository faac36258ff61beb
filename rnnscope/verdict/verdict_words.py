"""What a verdict says, in a sentence that a person can act on."""

from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # their modules import torch
    from rnnscope.verdict.margins import Check, Margin
    from rnnscope.verdict.result import Comparison, Reference

_TENSORS = {"y": "y", "h": "h", "c": "c", "y padding": "the padding of y"}


def verdict_in_words(comparison: "Comparison") -> str:
    """The verdict and why, in one or two sentences."""
    return f"{comparison.verdict}: {_why(comparison)}."


def side_in_words(comparison: "Comparison", side: str) -> str:
    """A side by its place and its subject: "the right side (cells)"."""
    return f"the {side} side ({comparison.left if side == 'left' else comparison.right})"


def sentence_case(text: str) -> str:
    """With a capital at its start; the rest, which may name a class, as it is."""
    return text[:1].upper() + text[1:]


def arithmetic_in_words(arithmetic: str) -> str:
    """The name of an arithmetic as people write it."""
    return "TF32" if arithmetic == "tf32" else arithmetic


def tensor_in_words(name: str) -> str:
    """An output by its name; a gradient as one, or x would be taken for the input."""
    return _TENSORS.get(name, f"the gradient of {name}")


def _why(comparison: "Comparison") -> str:
    reference = comparison.reference
    if comparison.cause == "shape":
        names = [each.name for each in comparison.differences if each.shape != each.right_shape]
        return f"the shapes of {' and '.join(names)} differ"
    if comparison.cause == "nonfinite":
        return _nonfinite(comparison)
    if reference is None:
        return _by_tolerance(comparison)
    if not reference.function.within:
        return _other_function(comparison, reference)
    if comparison.cause == "precision":
        return _worse(comparison, reference)
    far = " as far as can be told" if reference.function.whole_steps is not None else ""
    same = "same function" + (" as far as a recorded run can tell" if comparison.recorded else far)
    same += ", though not torch's" if reference.other else ""
    same += ", though their weights differ" if comparison.weights else ""
    if not reference.decided:
        over = ", and elements are over the tolerance" if comparison.verdict == "different" else ""
        return _undecided(reference) + over
    if comparison.verdict == "different":
        return f"{same}, and they differ by rounding alone, but elements are over the tolerance"
    if comparison.verdict == "identical":
        return f"{same}, and every bit agrees"
    return f"{same}; {_rounding(comparison, reference)}"


def _nonfinite(comparison: "Comparison") -> str:
    sides = " and ".join(side_in_words(comparison, side) for side in comparison.nonfinite)
    return f"NaN or infinity came out of {sides}" if sides else "in float64 NaN or infinity came out"


def _by_tolerance(comparison: "Comparison") -> str:
    if comparison.verdict == "identical":
        return "every bit agrees"
    if comparison.verdict == "equivalent":
        return "every element is within the tolerance; whether they are the same function was not asked"
    return "elements are over the tolerance; without --no-reference it is told whether that is rounding"


def _other_function(comparison: "Comparison", reference: "Reference") -> str:
    if reference.about_float32:
        check = reference.left if reference.about_float32[0] == "left" else reference.right
        sides = " and ".join(side_in_words(comparison, side) for side in reference.about_float32)
        verb = "computes" if len(reference.about_float32) == 1 else "compute"
        return (
            f"{sides} {verb} in about float32 inside, or a weight is off by as little: in float64 {_off(check.worst)}"
        )
    check = reference.function
    apart = (
        f"in {arithmetic_in_words(check.arithmetic)} {tensor_in_words(check.worst.name)} is {check.worst.error:.2g} "
        f"apart, and rounding explains {check.worst.bound:.2g}"
    )
    return f"not the same function: {apart}{_who(comparison, reference)}{_of_a_recording(comparison, reference)}"


def _who(comparison: "Comparison", reference: "Reference") -> str:
    """Which side is off, or whether it is the weights."""
    own = " with its own weights" if comparison.weights else ""
    if len(reference.other) == 2:
        return f". Neither side computes what torch's equations say{own}"
    if comparison.side is not None:
        off = side_in_words(comparison, comparison.side)
        return f". It is {off} that does not compute what torch's equations say{own}"
    return ". It is the weights: both sides compute what torch's equations say of their own" if own else ""


def _of_a_recording(comparison: "Comparison", reference: "Reference") -> str:
    if comparison.recorded is None or comparison.recorded not in reference.other:
        return ""
    if reference.about_coarser:
        names = "TF32 or float16" if reference.about_coarser == "tf32" else reference.about_coarser
        return (
            f". It is as near as {names} would be: it may have been computed in that, or a weight is off by as little"
        )
    return ". A recorded run has no float64, so that it may be worse precision too"


def _worse(comparison: "Comparison", reference: "Reference") -> str:
    check = reference.left if comparison.side == "left" else reference.right
    name, arithmetic = side_in_words(comparison, comparison.side or ""), arithmetic_in_words(check.arithmetic)
    return f"same function, but {name} computes worse than {arithmetic} allows: {_off(check.worst)}"


def _off(worst: "Margin") -> str:
    return f"{tensor_in_words(worst.name)} is {worst.error:.2g} off, and rounding explains {worst.bound:.2g}"


def _undecided(reference: "Reference") -> str:
    if not reference.function.decided:
        return f"rounding in float64 alone may move {_moved(reference.function)}, so that nothing can be told"
    check = reference.right if reference.left.decided else reference.left
    arithmetic = arithmetic_in_words(check.arithmetic)
    return (
        f"same function in float64, but in {arithmetic} rounding alone may move {_moved(check)}: how well the sides "
        "compute is not decidable in this precision"
    )


def _moved(check: "Check") -> str:
    """What is moved too far, and how far."""
    widest = max((each for each in check.margins if not each.decided), key=lambda each: each.bound)
    far = f"by {widest.bound:.2g}" if isfinite(widest.bound) else "without limit"
    steps = "even in a single step" if check.single_steps else "over all steps, and single ones cannot be taken"
    return f"{tensor_in_words(widest.name)} {far} {steps}"


def _rounding(comparison: "Comparison", reference: "Reference") -> str:
    sides = {"left": reference.left.arithmetic, "right": reference.right.arithmetic}
    tf32 = [side for side, arithmetic in sides.items() if arithmetic == "tf32"]
    if tf32 and reference.without_tf32 is not None:
        who = "both sides compute" if len(tf32) == 2 else f"{side_in_words(comparison, tf32[0])} computes"
        return f"{who} in TF32; --no-tf32 brings it to {reference.without_tf32:.2g}"
    if _through_onednn(comparison):
        half = comparison.dtypes[0]
        return f"the module computes through oneDNN, which rounds {half} in its own way; --no-onednn leaves it out"
    used = list(dict.fromkeys(map(arithmetic_in_words, sides.values())))
    allow = "allows" if len(used) == 1 else "allow"
    return f"they differ by rounding alone, and each side is as exact as {' and '.join(used)} {allow}"


def _through_onednn(comparison: "Comparison") -> bool:
    """Whether oneDNN takes nn.LSTM over in bfloat16, and with it most of the difference."""
    spec, module = comparison.spec, "module" in (comparison.left, comparison.right)
    taken = spec.kind == "lstm" and not spec.proj_size and spec.lengths is None and module
    same_place = comparison.device_name == "cpu" and set(comparison.dtypes) == {"bfloat16"}
    return taken and same_place and dict(comparison.back_ends).get("onednn", False)
