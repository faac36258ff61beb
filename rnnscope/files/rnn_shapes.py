"""What kind and sizes the tensors of one network say it has, and whether all of them fit together.

By names and shapes alone: numbers and dtypes are looked at in checkpoints.py.
"""

from dataclasses import dataclass

from rnnscope.errors import RnnscopeError
from rnnscope.files.state_dicts import StateDict
from rnnscope.network.cells import cell_name
from rnnscope.network.dims import Shape, parameters
from rnnscope.spec.spec import Spec


@dataclass(frozen=True)
class Group:
    """The tensors that would make one network.

    Args:
        state: the state_dict that holds them.
        prefix: their path in it.
        form: module (named as in torch's modules), cell (as in their cells) or stacked (a list of cells).
        names: in the state_dict, by torch's names.
    """

    state: StateDict
    prefix: str
    form: str
    names: dict[str, str]

    @property
    def path(self) -> str:
        """Their path in the file: the container's, then the prefix."""
        return ".".join(filter(None, (self.state.container, self.prefix)))

    def shape(self, name: str) -> Shape:
        """The shape of a parameter by torch's name; none where it is reparametrised."""
        tensor = self.state.tensors.get(self.names[name])
        return () if tensor is None else tuple(tensor.shape)

    def name_of(self, name: str) -> str:
        """The name in the state_dict of a parameter, also of one that is missing."""
        own = {"module": name, "cell": name.partition("_l")[0]}.get(self.form) or cell_name(name)
        return self.names.get(name) or ".".join(filter(None, (self.prefix, own)))


def spec_of(group: Group) -> Spec:
    """Kind and sizes, by the weights of the first layer; in float32, since dtypes are not looked at.

    Raises:
        RnnscopeError: a tensor is missing or has a shape that does not fit, with what it must have.
    """
    shapes = {name: group.shape(name) for name in group.names}
    layers = {int(name.partition("_l")[2].partition("_")[0]) for name in shapes}
    missing = next(number for number in range(len(layers) + 1) if number not in layers)
    if missing < max(layers):
        raise RnnscopeError(f"{group.name_of(f'weight_ih_l{missing}')} is missing: a layer is not there")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in shapes:
            raise RnnscopeError(f"{group.name_of(name)} is missing")
        if len(shapes[name]) != 2 or 0 in shapes[name]:
            raise RnnscopeError(f"{group.names[name]} has shape {shapes[name]}, but it must have rows and columns")
    hidden, projection = _hidden_size(group, shapes)
    rows = shapes["weight_hh_l0"][0]
    kinds = {"lstm": 4} if projection else {"rnn": 1, "lstm": 4, "gru": 3}
    kind = next((kind for kind, gates in kinds.items() if rows == gates * hidden), None)
    if kind is None:
        times = "4" if projection else "1 (RNN), 3 (GRU) or 4 (LSTM)"
        raise RnnscopeError(
            f"{group.names['weight_hh_l0']} has shape {shapes['weight_hh_l0']}, but its rows must be {times} times the "
            f"hidden size {hidden}"
        )
    return Spec(
        kind=kind,
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=hidden,
        num_layers=len(layers),
        bias=any(name.startswith("bias") for name in shapes),
        bidirectional=any(name.endswith("_reverse") for name in shapes),
        proj_size=projection,
    )


def _hidden_size(group: Group, shapes: dict[str, Shape]) -> tuple[int, int]:
    """H and P: the columns of weight_hh where there is no projection, which has shape (P, H)."""
    projection = shapes.get("weight_hr_l0")
    if projection is None:
        return shapes["weight_hh_l0"][1], 0
    if len(projection) != 2 or not 0 < projection[0] < projection[1]:
        raise RnnscopeError(
            f"{group.names['weight_hr_l0']} has shape {projection}, but it must have fewer rows (the projection) than "
            "columns (the hidden size)"
        )
    return projection[1], projection[0]


def check_shapes(group: Group, spec: Spec) -> None:
    """Do nothing where every parameter of a Spec is there in its shape, and no other.

    Raises:
        RnnscopeError: the one that is not, with what it must have.
    """
    expected: dict[str, Shape] = {each.name: each.shape for each in parameters(spec)}
    for name, shape in expected.items():
        if name not in group.names:
            part = "bias" if name.startswith("bias") else "direction" if name.endswith("_reverse") else "layer"
            raise RnnscopeError(f"{group.name_of(name)} is missing: a {part} is not whole")
        if group.shape(name) != shape:
            raise RnnscopeError(
                f"{group.names[name]} has shape {group.shape(name)}, but it must have {shape} in an {spec.module_name} "
                f"of input size {spec.input_size} and hidden size {spec.hidden_size}"
            )
    if unexpected := next((own for name, own in group.names.items() if name not in expected), None):
        raise RnnscopeError(f"{unexpected} is there, but the other weights have nothing like it")
