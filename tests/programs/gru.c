/* A GRU in C, as somebody writes one for a small device: one direction, any number of layers, (L, N, H_in).
 *
 *     cc -O2 -o gru gru.c -lm && rnnscope compare --kind gru --right 'command:./gru {in.safetensors} {out.safetensors}'
 *
 * It computes in float; -DREAL=double makes it compute in double. -DFAULT takes the gates in the order z r n.
 * A .safetensors file is 8 bytes with the length of a header, the header in JSON, and the numbers.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
#define DTYPE (sizeof(REAL) == 4 ? "F32" : "F64")
#ifdef FAULT
enum { Z, R, NEW };
#else
enum { R, Z, NEW };
#endif

static char *header;  /* of the file that was read */
static char *numbers; /* behind it */

static void fail(const char *why, const char *what) {
    fprintf(stderr, "gru: %s%s\n", why, what);
    exit(1);
}

/* The numbers of a tensor by its name, and the sizes of its dims; NULL where there is none. */
static REAL *tensor(const char *name, long *shape) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":{", name);
    char *at = strstr(header, key);
    if (!at) return NULL;
    if (strncmp(strstr(at, "\"dtype\":\"") + 9, DTYPE, 3)) fail("this runtime computes in ", DTYPE);
    char *dim = strstr(at, "\"shape\":[") + 9;
    while (*dim != ']') {
        *shape++ = strtol(dim, &dim, 10);
        if (*dim == ',') dim++;
    }
    char *place = strstr(at, "\"data_offsets\":[") + 16;
    return (REAL *)(numbers + strtol(place, NULL, 10));
}

static void load(const char *path) {
    uint64_t size;
    FILE *file = fopen(path, "rb");
    if (!file || fread(&size, 8, 1, file) != 1) fail("cannot read ", path);
    fseek(file, 0, SEEK_END);
    long rest = ftell(file) - 8;
    fseek(file, 8, SEEK_SET);
    header = malloc(rest + 1);
    if (fread(header, 1, rest, file) != (size_t)rest) fail("cut short: ", path);
    fclose(file);
    numbers = malloc(rest - size); /* aligned, which the place in the file may not be */
    memcpy(numbers, header + size, rest - size);
    header[size] = 0;
}

static void save(const char *path, REAL *y, long L, long N, long H, REAL *h, long K) {
    char text[512];
    long end = L * N * H * sizeof *y, all = end + K * N * H * sizeof *h;
    uint64_t size = snprintf(text, sizeof text,
        "{\"y\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld],"
        "\"data_offsets\":[0,%ld]},"
        "\"h\":{\"dtype\":\"%s\",\"shape\":[%ld,%ld,%ld],"
        "\"data_offsets\":[%ld,%ld]}}",
        DTYPE, L, N, H, end, DTYPE, K, N, H, end, all);
    FILE *file = fopen(path, "wb");
    if (!file) fail("cannot write ", path);
    fwrite(&size, 8, 1, file);
    fwrite(text, 1, size, file);
    fwrite(y, 1, end, file);
    fwrite(h, 1, all - end, file);
    if (fclose(file)) fail("cannot write ", path);
}

/* One row of W x + b; b may be missing. */
static REAL row(const REAL *W, const REAL *b, long at, const REAL *x, long size) {
    REAL sum = b ? b[at] : 0;
    for (long j = 0; j < size; j++) sum += W[at * size + j] * x[j];
    return sum;
}

static REAL sigmoid(REAL a) { return 1 / (1 + exp(-a)); }

int main(int argc, char **argv) {
    long x_shape[3], h_shape[3], W_shape[2];
    if (argc != 3) fail("gru IN OUT", "");
    load(argv[1]);
    REAL *x = tensor("x", x_shape), *h = tensor("h0", h_shape), *y = NULL;
    long L = x_shape[0], N = x_shape[1], width = x_shape[2], K = h_shape[0], H = h_shape[2];
    for (long k = 0; k < K; k++) {
        const char *names[] = {"weight_ih_l%ld", "weight_hh_l%ld", "bias_ih_l%ld", "bias_hh_l%ld"};
        REAL *parts[4], *old = malloc(H * sizeof *old);
        for (int part = 0; part < 4; part++) {
            char name[32];
            snprintf(name, sizeof name, names[part], k);
            parts[part] = tensor(name, W_shape);
        }
        y = malloc(L * N * H * sizeof *y);
        for (long t = 0; t < L; t++)
            for (long n = 0; n < N; n++) {
                REAL *in = x + (t * N + n) * width, *now = h + (k * N + n) * H;
                memcpy(old, now, H * sizeof *old);
                for (long i = 0; i < H; i++) {
                    REAL a[3], u[3];
                    for (int gate = 0; gate < 3; gate++) {
                        a[gate] = row(parts[0], parts[2], gate * H + i, in, width);
                        u[gate] = row(parts[1], parts[3], gate * H + i, old, H);
                    }
                    REAL r = sigmoid(a[R] + u[R]), z = sigmoid(a[Z] + u[Z]);
                    now[i] = (1 - z) * tanh(a[NEW] + r * u[NEW]) + z * old[i];
                }
                memcpy(y + (t * N + n) * H, now, H * sizeof *now);
            }
        x = y;
        width = H;
    }
    save(argv[2], y, L, N, H, h, K);
    return 0;
}
