"""What it costs to judge one more L and N of an export that is made already: `python tests/benchmarks/exports.py`.

The least times of a few runs, over those of the bare calls: the module and the export once each. The export is made
before the clock starts, at other sizes, by the first comparison. The reference is the equations, the bounds, and the
runs in float64; what is beyond it, --no-reference takes. There at most LIMIT is wanted. The whole is shown besides, and
both between two modules, neither of which is an export.
"""

import warnings
from functools import partial

warnings.simplefilter("ignore")

import torch  # noqa: E402
from verdict_cost import least  # noqa: E402

from rnnscope import Spec, compare  # noqa: E402
from rnnscope.network.weights import draw_input, draw_weights  # noqa: E402
from rnnscope.subjects import exports  # noqa: E402
from rnnscope.subjects.builtin import prepare_module  # noqa: E402
from rnnscope.subjects.devices import running  # noqa: E402
from rnnscope.subjects.exporter import arguments_of  # noqa: E402

SPEC = Spec(kind="lstm", input_size=128, hidden_size=128, num_layers=2, seq_len=100, batch_size=16)

LIMIT = 1.5

RUNS = 15


def bare(subject: str) -> float:
    """Seconds of one call of the module and one of the export, each laid out before."""
    kept = next(each for (name, spec), each in exports._kept.items() if name == subject and spec.dtype == "float32")
    with running(SPEC) as placed:
        given, program = draw_input(placed), kept[0].program
        arguments = arguments_of(placed, given, None)
        module = prepare_module(placed, draw_weights(placed), given).call

        def both() -> None:
            module()
            program.call(kept[0].spec, arguments)

        both()
        return least(both, RUNS)


def cost(subject: str) -> None:
    """Print the ratios of a subject."""
    compare(SPEC, "module", subject)  # makes the export
    base = bare(subject)
    print(f"{subject:12} the module and the export, once each   {1000 * base:8.1f} ms")
    for right in (subject, "module"):
        for reference, times, limit in ((False, 15, f"   (at most {LIMIT})"), (True, 5, "")):
            seconds = least(partial(compare, SPEC, "module", right, reference=reference), times)
            what = "with the reference" if reference else "beyond the reference"
            print(f"{right:12} one more L and N, {what:20} {seconds / base:8.2f} x{limit}", flush=True)


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, L=100 N=16 H=128 K=2, LSTM")
    for name in ("onnx@legacy", "scripted"):
        cost(name)
