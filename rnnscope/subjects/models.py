"""Files of models, which are run: .onnx by onnxruntime, .pt2 by torch."""

from rnnscope.spec.spec import Spec
from rnnscope.subjects.foreign import Foreign, Refused


def opened(file: str, spec: Spec, made_at: tuple[int, int] | None) -> Foreign:
    """The network in a file of a model."""
    raise Refused(f"{file} cannot be run yet")
