"""kraiskil/onnx2c#95: C code of a bidirectional LSTM turns features around in its backward lane, and not steps.

The backward lane reads x at the same step as the forward one, and there the features from the last to the first, while
the weights stand in order. The report was about wrong outputs of bidirectional LSTMs. Its test has 2 features, 3 items
and a hidden size of 4. It has one step, where features alone show; here there are five. The thread has no tolerance.
"""

import subprocess
import sys
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

L, N, H_IN, H = 5, 3, 2, 4

LSTM_C = """
#include <math.h>
#include <string.h>
static REAL sigmoid(REAL a) { return 1 / (1 + exp(-a)); }
/* gates in torch's order; Y has both lanes side by side, and h and c come in as initial_h and initial_c */
void lstm(int forward, int ls, int bs, int ds, int hs, const REAL *X, const REAL *W, const REAL *R, const REAL *B,
          REAL *h, REAL *c, REAL *Y) {
  for (int t = 0; t < ls; t++) {
    int s = forward ? t : BACKWARD_STEP;
    for (int b = 0; b < bs; b++) {
      REAL gate[4 * hs];
      for (int g = 0; g < 4 * hs; g++) {
        gate[g] = B[g];
        for (int i = 0; i < ds; i++) gate[g] += X[(s * bs + b) * ds + (forward ? i : BACKWARD_FEATURE)] * W[g * ds + i];
        for (int k = 0; k < hs; k++) gate[g] += h[b * hs + k] * R[g * hs + k];
      }
      for (int k = 0; k < hs; k++) {
        REAL *ct = c + b * hs + k;
        *ct = sigmoid(gate[hs + k]) * *ct + sigmoid(gate[k]) * tanh(gate[2 * hs + k]);
        h[b * hs + k] = sigmoid(gate[3 * hs + k]) * tanh(*ct);
      }
      memcpy(Y + ((s * bs + b) * 2 + !forward) * hs, h + b * hs, hs * sizeof(REAL));
    }
  }
}
"""
RUN = """
import ctypes, sys
import numpy as np

given = dict(np.load(sys.argv[1]))
kernel = ctypes.CDLL(f"{sys.argv[3]}_{given['x'].dtype}.so").lstm
x, h, c = given["x"], given["h0"], given["c0"]
pointer = lambda each: each.ctypes.data_as(ctypes.c_void_p)
for layer in range(len(h) // 2):
    y = np.zeros((*x.shape[:2], 2 * h.shape[2]), x.dtype)
    for lane, suffix in enumerate((f"_l{layer}", f"_l{layer}_reverse")):
        W, R, b, d = (np.ascontiguousarray(given[name + suffix])
                      for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        b, row = b + d, 2 * layer + lane
        kernel(1 - lane, *x.shape, h.shape[2], *map(pointer, (x, W, R, b, h[row], c[row], y)))
    x = y
np.savez(sys.argv[2], y=x, h=h, c=c)
"""


def right(faulty: bool, folder: Path) -> str:
    name = folder / ("faulty" if faulty else "right")
    step, feature = ("t", "ds - 1 - i") if faulty else ("ls - 1 - t", "i")
    source = name.with_suffix(".c")
    source.write_text(LSTM_C.replace("BACKWARD_STEP", step).replace("BACKWARD_FEATURE", feature))
    for real, dtype in (("float", "float32"), ("double", "float64")):
        library = f"{name}_{dtype}.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", f"-DREAL={real}", source, "-o", library, "-lm"], check=True)
    program = folder / "run.py"
    program.write_text(RUN)
    return f"command:{sys.executable} {program} {{in}} {{out}} {name}"


BUG = Bug(
    report="kraiskil/onnx2c#95",
    told="the backward lane of an LSTM in C walks forward, and reads the features of x in reverse",
    half=2,
    form=Sides(
        Spec(
            kind="lstm",
            input_size=H_IN,
            hidden_size=H,
            num_layers=1,
            bidirectional=True,
            seq_len=L,
            batch_size=N,
        ),
        right,
    ),
    needs="gcc",
    named="function",
    place={"step": L - 1, "layer": 0, "direction": 1},
)
