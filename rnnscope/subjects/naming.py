"""Which parameter of somebody's own network is which of torch's, by their names."""

from collections.abc import Iterable
from difflib import get_close_matches

from torch import nn

from rnnscope.network.cells import cell_name
from rnnscope.network.dims import parameters
from rnnscope.network.weights import Weights
from rnnscope.spec.spec import Spec

MOST_NAMED = 8
"""Of so many parameters the names are listed in a message."""


def nearest_names(own: Iterable[str], spec: Spec) -> dict[str, str]:
    """torch's name of each parameter that a network should have, by the name that would be its own.

    The names are torch's or StackedCells', or those of a list of cells or of a single one, and may have a prefix in
    common: those of which the network has most.
    """
    expected = [each.name for each in parameters(spec)]
    forms = [{name: name for name in expected}]
    if not spec.proj_size:
        forms.append({cell_name(name): name for name in expected})
        if spec.directions == 1:
            forms.append({cell_name(name).removeprefix("cells."): name for name in expected})
        if spec.num_layers == spec.directions == 1:
            forms.append({name.removesuffix("_l0"): name for name in expected})
    prefixes = sorted(
        {name[: -len(each)] for name in own for form in forms for each in form if name.endswith(f".{each}")}
    )
    every = [{prefix + each: name for each, name in form.items()} for form in forms for prefix in ("", *prefixes)]
    return max(every, key=lambda names: len(names.keys() & set(own)))


def parameters_by_name(network: nn.Module, spec: Spec) -> Weights:
    """Its parameters by torch's names, those that learn; none where they have other names."""
    own = dict(network.named_parameters(remove_duplicate=False))
    names = nearest_names(own, spec)
    if names.keys() - own.keys():
        return {}
    return {name: own[each] for each, name in names.items() if own[each].requires_grad}


def listed(word: str, names: set[str], others: set[str]) -> str:
    """Names for a message, each with the nearest of the others."""
    shown = []
    for name in sorted(names)[:MOST_NAMED]:
        near = get_close_matches(name, sorted(others), n=1, cutoff=0.7)
        shown.append(f"{name} (near: {near[0]})" if near else name)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{word} {', '.join(shown)}{more}"
