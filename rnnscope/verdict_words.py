"""What a verdict says, in a sentence that a person can act on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its module imports torch
    from rnnscope.verdicts import Comparison, Reference

_ARITHMETIC = {"tf32": "TF32"}


def verdict_in_words(comparison: "Comparison") -> str:
    """The verdict and why, in one or two sentences."""
    return f"{comparison.verdict}: {_why(comparison)}."


def side_in_words(comparison: "Comparison", side: str) -> str:
    """A side by its place and its subject: "the right side (cells)"."""
    return f"the {side} side ({comparison.left if side == 'left' else comparison.right})"


def arithmetic_in_words(arithmetic: str) -> str:
    """The name of an arithmetic as people write it."""
    return _ARITHMETIC.get(arithmetic, arithmetic)


def _why(comparison: "Comparison") -> str:
    if comparison.cause == "shape":
        return "the shapes differ, so no numbers were compared"
    if comparison.cause == "nonfinite":
        return "NaN or infinity came out, which is never the same"
    if comparison.reference is None:
        return _by_tolerance(comparison)
    if comparison.cause == "function":
        return _other_function(comparison, comparison.reference)
    if comparison.cause == "precision":
        return _worse(comparison, comparison.reference)
    if comparison.verdict == "different":
        return "same function, and they differ by rounding alone, but elements are over the tolerance"
    if comparison.verdict == "undecided":
        return _undecided(comparison, comparison.reference)
    if comparison.verdict == "identical":
        return "same function, and every bit agrees"
    return _rounding(comparison, comparison.reference)


def _by_tolerance(comparison: "Comparison") -> str:
    if comparison.verdict == "identical":
        return "every bit agrees"
    if comparison.verdict == "equivalent":
        return "every element is within the tolerance; whether they are the same function was not asked"
    return "elements are over the tolerance; without --no-reference it is told whether that is rounding"


def _other_function(comparison: "Comparison", reference: "Reference") -> str:
    worst = reference.function.worst
    apart = f"in float64 {worst.name} is {worst.error:.2g} apart, and rounding explains {worst.bound:.2g}"
    if len(reference.other) == 2:
        return f"not the same function: {apart}. Neither side computes what torch's equations say"
    if comparison.side is None:
        return f"not the same function: {apart}"
    off = side_in_words(comparison, comparison.side)
    return f"not the same function: {apart}. It is {off} that does not compute what torch's equations say"


def _worse(comparison: "Comparison", reference: "Reference") -> str:
    side = comparison.side or "left"
    check = reference.left if side == "left" else reference.right
    name, worst = side_in_words(comparison, side), check.worst
    if reference.about_float32:
        return (
            f"{name} computes in about float32 inside, or a weight is off by as little: in float64 {worst.name} is "
            f"{worst.error:.2g} off, and rounding in float64 explains {worst.bound:.2g}"
        )
    return (
        f"same function, but {name} computes worse than {arithmetic_in_words(check.arithmetic)} allows: "
        f"{worst.name} is {worst.error:.2g} off, and rounding explains {worst.bound:.2g}"
    )


def _undecided(comparison: "Comparison", reference: "Reference") -> str:
    function = reference.function
    if not function.decided:
        worst = function.worst
        return (
            f"rounding in float64 alone may move {worst.name} by {worst.bound:.2g}, even step by step, so that nothing "
            "can be told; try another input"
        )
    check = reference.right if reference.left.decided else reference.left
    worst, arithmetic = check.worst, arithmetic_in_words(check.arithmetic)
    return (
        f"same function in float64, but in {arithmetic} rounding alone may move {worst.name} by {worst.bound:.2g}: "
        "how well the sides compute is not decidable in this precision"
    )


def _rounding(comparison: "Comparison", reference: "Reference") -> str:
    sides = {"left": reference.left.arithmetic, "right": reference.right.arithmetic}
    tf32 = [side for side, arithmetic in sides.items() if arithmetic == "tf32"]
    if tf32 and reference.without_tf32 is not None:
        who = "both sides compute" if len(tf32) == 2 else f"{side_in_words(comparison, tf32[0])} computes"
        return f"same function; {who} in TF32; --no-tf32 brings it to {reference.without_tf32:.2g}"
    if sides["left"] == sides["right"] and _through_onednn(comparison):
        return (
            f"same function; the module computes through oneDNN, which rounds {sides['left']} in its own way; "
            "--no-onednn leaves it out"
        )
    used = " and ".join(dict.fromkeys(map(arithmetic_in_words, sides.values())))
    return f"same function; they differ by rounding alone, and each side is as exact as {used} allows"


def _through_onednn(comparison: "Comparison") -> bool:
    """Whether oneDNN takes nn.LSTM over in half precision, and with it most of the difference."""
    half = set(comparison.dtypes) <= {"bfloat16", "float16"}
    on = dict(comparison.back_ends).get("onednn", False)
    module = "module" in (comparison.left.partition("@")[0], comparison.right.partition("@")[0])
    return half and on and module and comparison.spec.kind == "lstm" and comparison.left != comparison.right
