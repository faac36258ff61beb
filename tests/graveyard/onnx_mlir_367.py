"""onnx/onnx-mlir#367: one fused loop computes the gates of a unit and overwrites its h before the next unit reads h.

So the product with W_hh has the new h for the units below, and the old one for the unit itself and those above it. The
first unit of the first step is right. The repair has two loops: first all gates, then all states. The thread has no
tolerance.
"""

import shlex
import subprocess
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *header, *numbers;

static REAL *tensor(const char *name, long k, long *shape) {
    char key[64], format[64];
    snprintf(format, sizeof format, "\"%s\":{", name);
    snprintf(key, sizeof key, format, k);
    char *at = strstr(header, key), *dim = strstr(at, "\"shape\":[") + 9;
    while (*dim != ']') {
        *shape++ = strtol(dim, &dim, 10);
        if (*dim == ',') dim++;
    }
    return (REAL *)(numbers + strtol(strstr(at, "\"data_offsets\":[") + 16, NULL, 10));
}

static void load(const char *path) {
    uint64_t size;
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    long rest = ftell(file) - 8;
    rewind(file);
    if (fread(&size, 8, 1, file) != 1) exit(1);
    header = calloc(size + 1, 1);
    numbers = malloc(rest - size);
    if (fread(header, 1, size, file) != size || fread(numbers, 1, rest - size, file) != rest - size) exit(1);
    fclose(file);
}

static REAL sigmoid(REAL a) { return 1 / (1 + exp(-a)); }

static REAL dot(const REAL *w, const REAL *v, long size) {
    REAL sum = 0;
    for (long j = 0; j < size; j++) sum += w[j] * v[j];
    return sum;
}

int main(int argc, char **argv) {
    long xs[3], hs[3], unused[3];
    load(argv[1]);
    REAL *x = tensor("x", 0, xs), *h = tensor("h0", 0, hs), *c = tensor("c0", 0, hs), *y = NULL;
    long L = xs[0], N = xs[1], I = xs[2], K = hs[0], H = hs[2];
    REAL(*gates)[4] = malloc(H * sizeof *gates);
    for (long k = 0; k < K; k++, x = y, I = H) {
        REAL *W = tensor("weight_ih_l%ld", k, unused), *R = tensor("weight_hh_l%ld", k, unused);
        REAL *Wb = tensor("bias_ih_l%ld", k, unused), *Rb = tensor("bias_hh_l%ld", k, unused);
        y = malloc(L * N * H * sizeof *y);
        for (long t = 0; t < L; t++)
            for (long n = 0; n < N; n++) {
                REAL *xt = x + (t * N + n) * I, *ht = h + (k * N + n) * H, *ct = c + (k * N + n) * H;
                for (long j = 0; j < H; j++) {
                    for (long g = 0, row = j; g < 4; g++, row += H)
                        gates[j][g] = dot(W + row * I, xt, I) + dot(R + row * H, ht, H) + Wb[row] + Rb[row];
#ifndef FUSED
                }
                for (long j = 0; j < H; j++) {
#endif
                    REAL *a = gates[j];
                    ct[j] = sigmoid(a[1]) * ct[j] + sigmoid(a[0]) * tanh(a[2]);
                    ht[j] = sigmoid(a[3]) * tanh(ct[j]);
                }
                memcpy(y + (t * N + n) * H, ht, H * sizeof *ht);
            }
    }
    const char *dtype = sizeof(REAL) == 4 ? "F32" : "F64";
    long steps = L * N * H * sizeof(REAL), state = K * N * H * sizeof(REAL);
    char text[512];
    uint64_t size = snprintf(text, sizeof text,
        "{\"y\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld],\"data_offsets\":[0,%ld]},"
        "\"h\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld],\"data_offsets\":[%ld,%ld]},"
        "\"c\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld],\"data_offsets\":[%ld,%ld]}}",
        dtype, L, N, H, steps, dtype, K, N, H, steps, steps + state, dtype, K, N, H, steps + state, steps + 2 * state);
    FILE *file = fopen(argv[2], "wb");
    fwrite(&size, 8, 1, file);
    fwrite(text, 1, size, file);
    fwrite(y, 1, steps, file);
    fwrite(h, 1, state, file);
    fwrite(c, 1, state, file);
    return fclose(file);
}
"""

BY_DTYPE = """
cd "$(dirname "$0")"
if head -c 4000 "$1" | grep -aq '"F64"'; then ./lstm_double "$1" "$2"; else ./lstm_float "$1" "$2"; fi
"""


def program(faulty: bool, folder: Path) -> str:
    source, script = folder / "lstm.c", folder / "lstm.sh"
    source.write_text(SOURCE)
    script.write_text(BY_DTYPE)
    for real in ("float", "double"):
        fused = ["-DFUSED"] if faulty else []
        words = ["gcc", "-O1", f"-DREAL={real}", *fused, "-o", str(folder / f"lstm_{real}"), str(source), "-lm"]
        subprocess.run(words, check=True)
    return f"command:bash {shlex.quote(str(script))} {{in.safetensors}} {{out.safetensors}}"


BUG = Bug(
    report="onnx/onnx-mlir#367",
    told="a fused loop overwrites h unit by unit while the gates of later units still read it",
    half=2,
    form=Sides(Spec(kind="lstm", input_size=5, hidden_size=8, num_layers=1, seq_len=4, batch_size=5), program),
    needs="gcc",
    named="function",
    place={"step": 0, "layer": 0},
)
