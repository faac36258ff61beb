"""ARM-software/CMSIS-NN#219: an LSTM in C, batch first, reads the initial h of later items from elsewhere.

Item b of x stands b·L rows from the first one, and the same distance was taken for the initial hidden state, which has
one row for each item. So item 1 reads row L: behind the state, where the arena of a device mostly has zeros. Later
steps read what was written into y, where the distance is right. The thread also tells that the states of a call before
are wiped, which hid this; here they are not. It gives no figure and no tolerance. The library has int8, this has float.
"""

import subprocess
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

PROGRAM = r"""
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *header, *numbers;

static float *tensor(const char *name, long layer, long *shape) {
    char key[64];
    snprintf(key, sizeof key, layer < 0 ? "\"%s\":{" : "\"%s_l%ld\":{", name, layer);
    char *at = strstr(header, key);
    if (!at) return NULL;
    for (char *dim = strstr(at, "\"shape\":[") + 9; *dim != ']'; dim += *dim == ',') *shape++ = strtol(dim, &dim, 10);
    return (float *)(numbers + strtol(strstr(at, "\"data_offsets\":[") + 16, NULL, 10));
}

static void load(const char *path) {
    uint64_t size;
    FILE *file = fopen(path, "rb");
    if (!file || fread(&size, 8, 1, file) != 1) exit(1);
    fseek(file, 0, SEEK_END);
    long rest = ftell(file) - 8 - size;
    fseek(file, 8, SEEK_SET);
    header = calloc(size + 1, 1);
    numbers = malloc(rest);
    if (fread(header, 1, size, file) + fread(numbers, 1, rest, file) != size + rest) exit(1);
    if (strstr(header, "F64")) {
        fputs("this library has no double\n", stderr);
        exit(1);
    }
}

static int entry(char *text, const char *name, const char *shape, long from, long to) {
    return sprintf(text, "\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%ld,%ld]}", name, shape, from, to);
}

static float sigmoid(float a) { return 1 / (1 + expf(-a)); }

typedef struct { long layer, items, steps, width, size; float *W, *U, *b, *d; } params;

/* One step of every item; x, h_in and h_out of the next item are so many rows further on. */
static void lstm_step(const params *p, const float *x, const float *h_in, float *h_out, float *cell, long x_offset,
                      long h_offset) {
    for (long n = 0; n < p->items; n++) {
        const float *in = x + n * x_offset * p->width, *h = h_in + n * h_offset * p->size;
        for (long i = 0; i < p->size; i++) {
            float sums[4];
            for (long gate = 0; gate < 4; gate++) {
                long row = gate * p->size + i;
                float sum = p->b ? p->b[row] + p->d[row] : 0;
                for (long j = 0; j < p->width; j++) sum += p->W[row * p->width + j] * in[j];
                for (long j = 0; j < p->size; j++) sum += p->U[row * p->size + j] * h[j];
                sums[gate] = sum;
            }
            float *c = cell + n * p->size + i;
            *c = sigmoid(sums[1]) * *c + sigmoid(sums[0]) * tanhf(sums[2]);
            h_out[n * x_offset * p->size + i] = sigmoid(sums[3]) * tanhf(*c);
        }
    }
}

static float *lstm_unidirectional(const params *p, const float *x, float *hidden_state, float *cell_state) {
    float *y = malloc(p->items * p->steps * p->size * sizeof *y);
    float *arena = calloc(p->items * p->steps * p->size, sizeof *arena);
    memcpy(arena, hidden_state, p->items * p->size * sizeof *arena);
    const float *hidden_in = arena;
    for (long t = 0; t < p->steps; t++) {
        float *hidden_out = y + t * p->size;
        long stride = t || FAULTY ? p->steps : 1;
        lstm_step(p, x + t * p->width, hidden_in, hidden_out, cell_state, p->steps, stride);
        hidden_in = hidden_out;
    }
    for (long n = 0; n < p->items; n++)
        memcpy(hidden_state + n * p->size, hidden_in + n * p->steps * p->size, p->size * sizeof *y);
    return y;
}

int main(int argc, char **argv) {
    if (argc != 3) return 1;
    load(argv[1]);
    long x_shape[3], h_shape[3], ignored[3];
    float *y = tensor("x", -1, x_shape), *h = tensor("h0", -1, h_shape), *c = tensor("c0", -1, h_shape);
    params p = {0, x_shape[0], x_shape[1], x_shape[2], h_shape[2], 0, 0, 0, 0};
    long state = p.items * p.size, all = h_shape[0] * state;
    for (; p.layer < h_shape[0]; p.layer++) {
        p.W = tensor("weight_ih", p.layer, ignored);
        p.U = tensor("weight_hh", p.layer, ignored);
        p.b = tensor("bias_ih", p.layer, ignored);
        p.d = tensor("bias_hh", p.layer, ignored);
        y = lstm_unidirectional(&p, y, h + p.layer * state, c + p.layer * state);
        p.width = p.size;
    }
    char text[1024], shape[64];
    long end = 4 * state * p.steps, used = sprintf(text, "{");
    sprintf(shape, "[%ld,%ld,%ld]", p.items, p.steps, p.size);
    used += entry(text + used, "y", shape, 0, end);
    sprintf(shape, "[%ld,%ld,%ld]", h_shape[0], p.items, p.size);
    used += sprintf(text + used, ",");
    used += entry(text + used, "h", shape, end, end + 4 * all);
    used += sprintf(text + used, ",");
    used += entry(text + used, "c", shape, end + 4 * all, end + 8 * all);
    uint64_t size = used + sprintf(text + used, "}");
    FILE *file = fopen(argv[2], "wb");
    if (!file) return 1;
    fwrite(&size, 8, 1, file);
    fwrite(text, 1, size, file);
    fwrite(y, 1, end, file);
    fwrite(h, 4, all, file);
    fwrite(c, 4, all, file);
    return fclose(file) != 0;
}
"""


def right(faulty: bool, folder: Path) -> str:
    source, program = folder / "lstm.c", folder / f"lstm_{'faulty' if faulty else 'right'}"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-O1", f"-DFAULTY={int(faulty)}", "-o", str(program), str(source), "-lm"], check=True)
    return f"command:{program} {{in.safetensors}} {{out.safetensors}}"


BUG = Bug(
    report="ARM-software/CMSIS-NN#219",
    told="an LSTM that has x batch first reads the initial h of an item at the distance that items of x have",
    half=1,
    form=Sides(Spec(kind="lstm", num_layers=1, batch_first=True, seq_len=4, batch_size=2), right),
    needs="cc",
    named="function",
    place={"step": 0, "layer": 0, "batch": 1},
)
