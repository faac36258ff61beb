"""What makes a result show itself: `print` of rich and notebooks ask it, and it hands over its page.

Everything else knows facts alone. rich is imported when something is shown.
"""

from importlib import import_module
from typing import Any


class Shown:
    """A result whose page is shown by `rich.print(result)`, and by a notebook as the last line of a cell."""

    def __rich__(self) -> Any:
        # By name, since pages are made of results and stand below them.
        return import_module("rnnscope.pages.render").shown(self)

    def _repr_mimebundle_(self, include: Any = (), exclude: Any = (), **options: Any) -> dict[str, str]:
        from rich.jupyter import JupyterMixin

        return JupyterMixin._repr_mimebundle_(self, include, exclude, **options)  # type: ignore[arg-type]
