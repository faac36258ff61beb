"""Runs a graph of ONNX in onnxruntime, on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rnnscope.errors import RnnscopeError
from rnnscope.subjects.devices import is_out_of_memory
from rnnscope.subjects.foreign import Refused, in_one_sentence

_SILENT = 4
"""The severity of what onnxruntime logs on stderr: what is fatal alone. Errors are raised, too."""

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
}


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph: a size is a number, the name of one that may vary, or None.

    dtype: None where torch has no such numbers.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: torch.dtype | None


class OnnxSession:
    """A graph, opened once and run again and again, in as many threads as torch has when it is opened.

    Args:
        path: a file, or the bytes of one.

    Raises:
        RnnscopeError: onnxruntime is not installed.
        Refused: it cannot open the file.
    """

    def __init__(self, path: str | bytes) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each code
            raise _refused(error) from error
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the graph gives, by the names of its outputs; an input that it does not have is an error.

        Raises:
            Refused: it does not take these inputs, or fails at them.
        """
        try:
            fed = {name: each.detach().cpu().contiguous().numpy() for name, each in tensors.items()}
            found = self._session.run(None, fed)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise _refused(error) from error
        return {port.name: torch.from_numpy(each) for port, each in zip(self.outputs, found, strict=True)}


def onnxruntime() -> Any:
    """The package, imported when it is first needed.

    Raises:
        RnnscopeError: it is not installed.
    """
    return needed("onnxruntime")


def needed(package: str) -> Any:
    """onnx or onnxruntime, of the extra `onnx`.

    Raises:
        RnnscopeError: it is not installed.
    """
    try:
        if package == "onnx":
            import onnx

            return onnx
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]

        return onnxruntime
    except ImportError as error:
        raise RnnscopeError(f"ONNX needs the package {package}", "install it: pip install '.[onnx]'") from error


def onnxruntime_version() -> str:
    """The package with its version, as a page tells it."""
    return f"onnxruntime {onnxruntime().__version__}"


@cache
def has_float64_kernel(operator: str) -> bool:
    """Whether this onnxruntime computes RNN, LSTM or GRU in float64, which is found out by one step of one unit."""
    from onnx import TensorProto, helper

    rows = {"LSTM": 4, "GRU": 3}.get(operator, 1)
    shapes = {"X": [1, 1, 1], "W": [1, rows, 1], "R": [1, rows, 1], "Y": [1, 1, 1, 1]}
    ports = {name: helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape) for name, shape in shapes.items()}
    node = helper.make_node(operator, ["X", "W", "R"], ["Y"], hidden_size=1)
    graph = helper.make_graph([node], operator, [ports[name] for name in "XWR"], [ports["Y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        ones = {name: torch.ones(shapes[name], dtype=torch.float64) for name in "XWR"}
        return OnnxSession(model.SerializeToString()).run(ones)["Y"].dtype == torch.float64
    except Refused:
        return False


def _port(found: Any) -> Port:
    return Port(found.name, tuple(found.shape), _DTYPES.get(found.type))


def _refused(error: Exception) -> Refused:
    return Refused(in_one_sentence(error))
