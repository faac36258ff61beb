"""What an exporter or a runtime says of an error, which may be pages long, in one sentence without a full stop."""

import re

LONGEST = 220
"""Signs that a reason may have."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")
_PLACES = re.compile(r"(/[\w.+-]+)+\.(py|cc|cpp|h)(:\d+)? ?")
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed: ?)?")
_INVALID = re.compile(r"^This is an invalid model\. In Node, .*, Error (?=\w)")
_MENDS = re.compile(r" Please fix either the inputs/outputs or the model\.?$")
_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'[^']*' Status Message: ")
_WHERE = re.compile(r"onnxruntime::[\w:<>~]+\([^)]*\) ?")
_DOUBTS = re.compile(r"^[^.]* was false\. ")
_BULLETS = (
    re.compile(r"Constraints violated .*? - You marked .*? as dynamic but (.*?)(?=\. | - |$)"),
    re.compile(r"Found the following conflicts .*? but (tracing inferred a static shape of \d+)"),
)
"""What torch.export says below its headings; of several that say the same, the first."""

_ENDS = re.compile(r"(?<=[a-z\d)\]}'\"])\. (?=[A-Z(])|\.$| {2,}(?=[A-Z])")


def in_one_sentence(error: BaseException | str) -> str:
    """The first sentence of an error: no escape sequences, no lines, no places in somebody's source.

    >>> in_one_sentence("\\x1b[31mCannot view a tensor. It has other strides.\\x1b[0m\\n\\nSuggested fixes:")
    'Cannot view a tensor'
    """
    text = _ESCAPES.sub("", str(error)).strip()
    if "TorchScript" in text:  # where it says what failed behind where that stands
        text = text.splitlines()[-1].removeprefix("RuntimeError: ")
    paragraphs = [each for each in re.split(r"\n\s*\n", text) if each.strip()]
    plain = _CODE.sub("", " ".join((paragraphs or [type(error).__name__])[0].split()))
    plain = _MENDS.sub("", _INVALID.sub("", plain))
    if bullet := next(filter(None, (each.search(" ".join(text.split())) for each in _BULLETS)), None):
        return _cut(bullet[1].rstrip("."))
    if node := _NODE.search(plain):
        told = _DOUBTS.sub("", _WHERE.sub("", _PLACES.sub("", plain[node.end() :])))
        return _cut(f"{node[1]}: {told.strip()}".rstrip("."))
    return _cut(_ENDS.split(_PLACES.sub("", plain).strip())[0].rstrip(" .:"))


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1].rstrip()}…"
