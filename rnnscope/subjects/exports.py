"""torch's own exports of its module: made in a process of their own, and run."""

from rnnscope.spec.spec import Spec
from rnnscope.subjects.foreign import Foreign, Refused


def export_of(subject: str, spec: Spec, traced_at: tuple[int, int] | None) -> Foreign:
    """The export of torch's module that a name stands for."""
    raise Refused(f"{subject} cannot be made yet")
