"""Reads a file of torch.export.save, and runs its program, call by call.

torch.export.load evaluates texts of the file and may unpickle what is in it, so it is never called. The program is
JSON: a list of calls of torch's operators, each by name. Here a call is made only where its name stands in CALLS, or
is that of an operator of ATen that computes numbers and does nothing else; no text is evaluated, and tensors are read
as bytes, or with weights_only.

Sources: torch/_export/serde/schema.py and torch/export/pt2_archive of torch 2.13, by which the file is written.
"""

import io
import json
import operator
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.subjects.calls_of_files import check_call
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.subjects.foreign import Refused, in_one_sentence

_ATEN = frozenset(
    re.findall(
        r"\w+",
        """
    _assert_scalar _assert_tensor_metadata _local_scalar_dense _log_softmax _native_batch_norm_legit_no_training
    _pack_padded_sequence _pad_packed_sequence _softmax _to_copy _unsafe_view _weight_norm _weight_norm_interface
    adaptive_avg_pool2d addbmm addmv addr adjoint atleast_1d atleast_2d atleast_3d baddbmm batch_norm bilinear
    block_diag broadcast_tensors broadcast_to cdist chunk column_stack concat concatenate contiguous conv1d conv2d
    conv_transpose1d copy cosine_similarity cross cummax cummin cumprod detach detach_ diag diag_embed diff dot
    dropout dsplit dstack einsum empty_like expand_as eye fill flatten fliplr flipud glu group_norm gru gru_cell
    hardswish hsplit hstack index_add index_copy index_fill inner instance_norm is_nonzero isclose isin isreal item
    kron layer_norm lift lift_fresh lift_fresh_copy linalg_matmul linalg_norm linalg_vecdot linalg_vector_norm linear
    linspace log_sigmoid log_sigmoid_forward log_softmax logcumsumexp logsumexp lstm lstm_cell mH mT matmul matrix_H
    max_pool1d meshgrid moveaxis movedim mv narrow new_empty new_full new_ones new_zeros norm numel numpy_T one_hot
    ones ones_like outer pad prelu ravel repeat_interleave reshape reshape_as resolve_conj resolve_neg rms_norm
    rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 row_stack scaled_dot_product_attention size softmax split
    squeeze_copy stack std std_mean sum_to_size swapaxes swapdims sym_constrain_range sym_constrain_range_for_size t
    t_copy take take_along_dim tensor_split tensordot tile to trace transpose transpose_copy tril triu type_as unbind
    unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze_copy vander var_mean vdot view_as
    view_copy vsplit vstack zeros zeros_like
    """,
    )
)
"""What an RNN, and what stands around one, is exported to, besides what torch calls its core and the elementwise."""

CALLS: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pos"),
        *("eq", "ne", "lt", "le", "gt", "ge", "getitem", "and_", "or_"),
    )
} | {
    "math.trunc": int,
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}
"""What may be called besides operators of ATen: arithmetic of sizes."""

_WRITING = (torch.ops.aten.batch_norm.default, torch.ops.aten.instance_norm.default)
"""What writes to its running statistics in training mode, though its schema hides it; they may be a part of x."""

_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_SYMBOL = re.compile(r"(?:Symbol\('(\w+)'(?:, \w+=True)*\)|([a-z]+\d+))")
_GUARD = re.compile(r"L\['(\w+)'\]\.size\(\)\[(\d+)\] == (\d+|L\['(\w+)'\]\.size\(\)\[(\d+)\])")

_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_LAYOUTS = {7: torch.strided}
_FORMATS = {1: torch.contiguous_format, 4: torch.preserve_format}
_OLDEST, _NEWEST = 5, 8
"""Versions of the schema that are known: those of torch 2.5 to 2.13."""

LARGEST_PROGRAM = 2**28
"""Bytes of JSON that are read: a program of a million calls."""

Json = dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A program of torch.export and what stands beside it.

    state: parameters and buffers by their names. constants: other tensors.
    """

    file: str
    content: Json
    state: dict[str, Tensor]
    constants: dict[str, Tensor]

    @cached_property
    def graph(self) -> Json:
        return dict(self.content["graph_module"]["graph"])

    @cached_property
    def inputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """What must be given, by name, each with its dims: a number, the name of a size that may vary, or None."""
        found: dict[str, tuple[int | str | None, ...]] = {}
        for spec in self.content["graph_module"]["signature"]["input_specs"]:
            if "user_input" in spec:
                argument = spec["user_input"]["arg"]
                if "as_tensor" not in argument:
                    raise RnnscopeError(
                        f"{self.file} takes something that is no tensor", "export it with tensors alone"
                    )
                name = argument["as_tensor"]["name"]
                found[name] = _dims(self.graph["tensor_values"][name])
        return found

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """What comes out, by name."""
        specs = self.content["graph_module"]["signature"]["output_specs"]
        if odd := next((name for spec in specs for name in spec if name != "user_output"), None):
            raise RnnscopeError(f"{self.file} changes its own state ({odd})", "export it in evaluation mode")
        return tuple(
            each["user_output"]["arg"]["as_tensor"]["name"]
            for each in specs
            if "as_tensor" in each["user_output"]["arg"]
        )

    @cached_property
    def batch_first(self) -> bool | None:
        """What the first call of a whole RNN says of its layout; None where there is none."""
        for node in self.graph["nodes"]:
            if (found := _TARGET.fullmatch(node["target"])) and found[1] in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
                said = {each["name"]: each["arg"] for each in node["inputs"]}
                return bool(said.get("batch_first", {}).get("as_bool", False))
        return None

    def dims_of(self, name: str) -> tuple[int | str | None, ...]:
        """The dims of a tensor in the program, as those of its inputs."""
        meta = self.graph["tensor_values"].get(name)
        return () if meta is None else _dims(meta)

    def dtype_of(self, name: str) -> torch.dtype | None:
        """The dtype of a tensor in the program."""
        meta = self.graph["tensor_values"].get(name)
        return None if meta is None else _DTYPES.get(meta["dtype"])

    def run(self, given: Mapping[str, Tensor], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
        """What the program gives, by name, with its weights in a dtype and on a device.

        Raises:
            Refused: it was made for other sizes, or fails.
        """
        try:
            self._check_sizes(given)
            return self._run(given, dtype, device)
        except RnnscopeError:
            raise
        except Exception as error:  # of an operator, or of JSON that fits no schema
            if is_out_of_memory(error):
                raise
            raise Refused(in_one_sentence(error)) from error

    def _run(self, given: Mapping[str, Tensor], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
        known: dict[str, Any] = dict(given)
        for spec in self.content["graph_module"]["signature"]["input_specs"]:
            kind, said = next(iter(spec.items()))
            if kind != "user_input":
                tensor = self._kept(kind, said)
                to = dtype if tensor.is_floating_point() else None
                # Buffers are copied: batch_norm writes to its own in training mode, though its schema hides it.
                placed = tensor.detach().to(device, to, copy=kind != "parameter")
                # As parameters are, since torch rounds otherwise where no weight could learn.
                learns = kind == "parameter" and placed.is_floating_point()
                known[said["arg"]["name"]] = placed.requires_grad_(learns)
        with torch.no_grad():
            for node in self.graph["nodes"]:
                _call(node, known, device)
        return {name: known[name] for name in self.outputs}

    def _kept(self, kind: str, said: Json) -> Tensor:
        names = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind not in names:
            raise RnnscopeError(f"{self.file} takes a {kind}, which is no tensor", "export it with tensors alone")
        name = said[names[kind]]
        found = self.state.get(name, self.constants.get(name))
        if found is None:
            raise RnnscopeError(f"{self.file} has no numbers for {name}", "export it anew")
        return found

    def _check_sizes(self, given: Mapping[str, Tensor]) -> None:
        """Raise Refused where a size is another than the program was made for, as torch's own guards do."""
        sizes: dict[str, int] = {}
        ranges = self.content.get("range_constraints", {})
        for name, dims in self.inputs.items():
            shape = tuple(given[name].shape)
            if len(shape) != len(dims):
                raise Refused(f"{name} has {len(shape)} dims, and it was made for {len(dims)}")
            for place, (size, dim) in enumerate(zip(shape, dims, strict=True)):
                wanted: int | None = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
                if wanted is not None and size != wanted:
                    raise Refused(f"dim {place} of {name} is {size}, and it was made for {wanted}")
                least, most = (ranges.get(dim, {}).get(each) for each in ("min_val", "max_val"))
                if (least is not None and least > 2 and size < least) or (most is not None and size > most):
                    raise Refused(f"dim {place} of {name} is {size}, and it was made for {least} to {most}")
        for guard in self.content.get("guards_code", ()):
            if found := _GUARD.fullmatch(guard):
                name, dim_place, value, other, other_place = found.groups()
                if name in given and (other is None or other in given):
                    size = given[name].shape[int(dim_place)]
                    said = int(value) if other is None else given[other].shape[int(other_place)]
                    if size != said:
                        raise Refused(f"dim {dim_place} of {name} is {size}, and it was made for {said}")


def read_program(file: str) -> Program:
    """Read a program of torch.export, with every call in it checked. Nothing is run.

    Raises:
        RnnscopeError: the file cannot be read, is damaged or holds no program; or it calls what is not in CALLS, or
            holds something other than tensors.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = _read(file, _Archive(file, archive))
        for name in (*found.inputs, *found.outputs):  # so that what fits no schema is told here
            found.dims_of(name), found.dtype_of(name), found.batch_first
        return found
    except RnnscopeError:
        raise
    except OSError as error:
        raise RnnscopeError(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # nothing holds of the bytes of a stranger
        if is_out_of_memory(error):
            raise
        raise _damaged(file) from error


def _damaged(file: str) -> RnnscopeError:
    return RnnscopeError(f"{file} is damaged, cut short or no program of torch.export", "save it anew")


class _Archive:
    """The files in an archive, by their names below its own folder. Each stands there once, and uncompressed."""

    def __init__(self, file: str, archive: zipfile.ZipFile) -> None:
        self._file, self._archive = file, archive
        self._places: dict[str, zipfile.ZipInfo] = {}
        infos = archive.infolist()
        roots = {each.filename.partition("/")[0] for each in infos if "/" in each.filename}
        root = f"{next(iter(roots))}/" if len(roots) == 1 and all("/" in each.filename for each in infos) else ""
        for each in infos:
            name = each.filename.removeprefix(root)
            if name in self._places or each.compress_type != zipfile.ZIP_STORED:
                raise _damaged(file)
            self._places[name] = each

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def bytes_of(self, name: str) -> bytes:
        return self._archive.read(self._places[name])  # which checks the checksum

    def json_of(self, name: str) -> Json:
        place = self._places.get(name)
        if place is None:
            raise _damaged(self._file)
        if place.file_size > LARGEST_PROGRAM:
            raise RnnscopeError(f"{self._file} has a program of {place.file_size} bytes, which is too long to be read")
        found = json.loads(self.bytes_of(name))
        if not isinstance(found, dict):
            raise _damaged(self._file)
        return found

    def tensors_of(self, name: str) -> Any:
        """What torch.save wrote: tensors in dicts and tuples, read with weights_only."""
        raw = self.bytes_of(name)
        if not raw:
            return {}
        try:
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            what = f"{self._file}: {name} holds more than tensors, and opening it could run code"
            raise RnnscopeError(what, "export the module without it") from error


def _read(file: str, archive: _Archive) -> Program:
    if any(name.startswith("data/aotinductor/") for name in archive._places):
        raise RnnscopeError(f"{file} holds compiled code", "save the program itself, by torch.export.save")
    if "byteorder" in archive and archive.bytes_of("byteorder").decode("ascii", "replace") != sys.byteorder:
        raise RnnscopeError(f"{file} was written on a machine of the other byte order", "save it on this one")
    is_old = "serialized_exported_program.json" in archive
    content = archive.json_of("serialized_exported_program.json" if is_old else "models/model.json")
    version = content.get("schema_version")
    version = version if isinstance(version, dict) else {}
    if not _OLDEST <= int(version.get("major", 0)) <= _NEWEST:
        known = f"{_OLDEST} to {_NEWEST}"
        raise RnnscopeError(
            f"{file} is written by version {version.get('major')} of the schema of torch.export, and known are {known}",
            "save it by another torch",
        )
    _check_graph(file, content["graph_module"]["graph"])
    if is_old:
        state, constants = (archive.tensors_of(f"serialized_{name}.pt") for name in ("state_dict", "constants"))
    else:
        state, constants = (_payload(file, archive, name) for name in ("weights", "constants"))
    example = "serialized_example_inputs.pt" if is_old else "data/sample_inputs/model.pt"
    if is_old or example in archive:
        archive.tensors_of(example)  # not needed, but a file in which something else stands is refused
    for kept in (state, constants):
        if not isinstance(kept, dict) or any(not isinstance(each, Tensor) for each in kept.values()):
            raise RnnscopeError(f"{file} holds more than tensors", "export the module without it")
    return Program(file, content, state, constants)


def _payload(file: str, archive: _Archive, kind: str) -> dict[str, Tensor]:
    """The tensors of a folder of an archive: their bytes, laid out as its JSON says."""
    old = f"data/{kind}/model.pt"
    if old in archive:
        found = archive.tensors_of(old)
        return found if isinstance(found, dict) else {}
    tensors: dict[str, Tensor] = {}
    for name, meta in archive.json_of(f"data/{kind}/model_{kind}_config.json")["config"].items():
        if meta["use_pickle"] or meta["tensor_meta"] is None:
            what = f"{file}: {name} is no plain tensor, and opening it could run code"
            raise RnnscopeError(what, "export the module without it")
        tensors[str(name)] = _laid_out(archive.bytes_of(f"data/{kind}/{meta['path_name']}"), meta["tensor_meta"])
    return tensors


def _laid_out(raw: bytes, meta: Json) -> Tensor:
    """A tensor with strides over its bytes. Raises where it would reach beyond them."""
    sizes, strides = ([_whole(each) for each in meta[name]] for name in ("sizes", "strides"))
    offset, dtype = _whole(meta["storage_offset"]), _DTYPES[meta["dtype"]]
    if 0 in sizes:
        return torch.zeros(sizes, dtype=dtype)
    numbers = torch.frombuffer(bytearray(raw), dtype=dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if last >= numbers.numel():
        raise ValueError("a tensor reaches beyond its bytes")
    return numbers.as_strided(sizes, strides, offset).clone()  # where torch would have it: bytes lie anywhere


def _whole(said: Json) -> int:
    found = said["as_int"]
    if not isinstance(found, int) or found < 0:
        raise ValueError("a size is no whole number")
    return found


def _dims(meta: Json) -> tuple[int | str | None, ...]:
    return tuple(_dim(each) for each in meta["sizes"])


def _dim(said: Json) -> int | str | None:
    if "as_int" in said:
        return int(said["as_int"])
    found = _SYMBOL.fullmatch(said["as_expr"]["expr_str"])
    return (found[1] or found[2]) if found else None


def _check_graph(file: str, graph: Json) -> None:
    """Raise unless every call is one of CALLS, or an operator of ATen that does nothing but compute."""
    for node in graph["nodes"]:
        if _function(node["target"]) is None:
            raise RnnscopeError(
                f"{file} calls {str(node['target'])[:80]}, which is not among the operators that are run here",
                "export it without, or by run_decompositions()",
            )


def _function(target: Any) -> Callable[..., Any] | None:
    if not isinstance(target, str):
        return None
    if target in CALLS:
        return CALLS[target]
    found = _TARGET.fullmatch(target)
    return _operator_of_aten(found[1], found[2]) if found else None


@cache
def _operator_of_aten(name: str, overload: str) -> Callable[..., Any] | None:
    """An operator that computes tensors and numbers from such ones and does nothing else; None where it is none.

    It writes to none of its arguments, by its schema. It stands in the list, or torch itself counts its name among its
    core or the elementwise ones, and it draws no random numbers. What is private to torch, or part of a backward pass,
    may check less of what it is given, and an RNN needs none of it. from_file, which makes a file, is none of them.
    """
    packet: Any = getattr(torch.ops.aten, name, None)
    is_operator = isinstance(packet, torch._ops.OpOverloadPacket)
    if not is_operator or overload not in packet.overloads():
        return None
    function: torch._ops.OpOverload = getattr(packet, overload)
    if function._schema.is_mutable and name != "detach_":  # which changes no number
        return None
    if name in _ATEN:
        return function
    if not any("Tensor" in str(each.type) for each in (*function._schema.arguments, *function._schema.returns)):
        return None  # between Python's numbers, texts and lists; some end the process where they divide by 0
    if name in ("gcd", "lcm") or "_polynomial_" in name:  # some values divide by 0, or take years
        return None
    if name.startswith("_") or name.endswith("_backward") or torch.Tag.nondeterministic_seeded in function.tags:
        return None
    tags = {tag for each in packet.overloads() for tag in getattr(packet, each).tags}
    return function if {torch.Tag.core, torch.Tag.pointwise} & tags else None


def _call(node: Json, known: dict[str, Any], device: str) -> None:
    """Make a call, and keep what it gives under the names that the program has for it."""
    function = _function(node["target"])
    assert function is not None  # checked when the file was read
    positional, named = [], {}
    for each in node["inputs"]:
        value = _argument(each["arg"], known, device)
        if function in _WRITING and isinstance(value, Tensor):
            value = value.clone()
        is_named = each["name"] and (each.get("kind") == 2 or _is_keyword(function, each["name"]))
        if is_named and isinstance(function, torch._ops.OpOverload):
            named[each["name"]] = value
        else:
            positional.append(value)
    check_call(function, positional, named)
    found = function(*positional, **named)
    _keep(node["outputs"], found, known)


def _is_keyword(function: Callable[..., Any], name: str) -> bool:
    if not isinstance(function, torch._ops.OpOverload):
        return False
    return any(each.name == name and each.kwarg_only for each in function._schema.arguments)


def _keep(outputs: list[Json], found: Any, known: dict[str, Any]) -> None:
    many = found if isinstance(found, (tuple, list)) and not (len(outputs) == 1 and _is_one(outputs[0])) else (found,)
    if len(outputs) == 1 and "as_tensors" in outputs[0]:
        outputs = [{"as_tensor": each} for each in outputs[0]["as_tensors"]]
    for output, each in zip(outputs, many, strict=False):
        kind, said = next(iter(output.items()))
        if kind == "as_tensor":
            known[said["name"]] = each
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in said:
            known[said["as_name"]] = each
        elif kind == "as_tensors":
            _keep([output], each, known)


def _is_one(output: Json) -> bool:
    return "as_tensors" not in output


_PLAIN = {
    "as_int",
    "as_ints",
    "as_float",
    "as_floats",
    "as_bool",
    "as_bools",
    "as_string",
    "as_strings",
}


def _argument(said: Json, known: Mapping[str, Any], device: str) -> Any:
    """What an argument of a call stands for."""
    kind, value = next(iter(said.items()))
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return known[value["name"]]
    if kind in ("as_tensors", "as_optional_tensors"):
        names = [each.get("as_tensor", each) if "as_none" not in each else None for each in value]
        return [None if each is None else known[each["name"]] for each in names]
    if kind == "as_optional_tensor":
        return None if "as_none" in value else known[value["as_tensor"]["name"]]
    if kind in _PLAIN:
        return _number(value)
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return _size(value, known)
    if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
        return [_size(each, known) for each in value]
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_layout":
        return _LAYOUTS[value]
    if kind == "as_memory_format":
        return _FORMATS[value]
    if kind == "as_device":
        return torch.device(device)
    raise RnnscopeError(f"an argument of the kind {kind} is not known", "export it by run_decompositions()")


def _number(value: Any) -> Any:
    """A number of JSON, in which infinity is a text."""
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _size(said: Json, known: Mapping[str, Any]) -> Any:
    return known[said["as_name"]] if "as_name" in said else next(iter(said.values()))
