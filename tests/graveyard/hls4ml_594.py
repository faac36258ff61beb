"""fastmachinelearning/hls4ml#594: a GRU for an FPGA writes zeros for its recurrent bias.

The parser had read both biases of Keras; the Vivado back end then put zeros in the place of the second one. With biases
of zeros, as Keras starts from, nothing shows. Sizes and tolerance are those of the test that came with the mend,
hls4ml#598. There the FPGA computes in fixed point, which needs such a tolerance; here it computes in floating point.
"""

import subprocess
from pathlib import Path

from graveyard.grave import Bug, Sides

from rnnscope import Spec

FIRMWARE = r"""
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

static std::string header, numbers;

template <class T> std::vector<T> load(const char *name) {
    size_t at = header.find("\"" + std::string(name) + "\":{");
    const char *place = std::strstr(header.c_str() + at, "\"data_offsets\":[") + 16;
    char *end;
    size_t first = std::strtoul(place, &end, 10), last = std::strtoul(end + 1, nullptr, 10);
    std::vector<T> data((last - first) / sizeof(T));
    std::memcpy(data.data(), numbers.data() + first, last - first);
    return data;
}

template <class T> T sigmoid(T x) { return 1 / (1 + std::exp(-x)); }

template <class T> std::vector<T> dense(const T *data, const std::vector<T> &w, const std::vector<T> &b) {
    std::vector<T> res(b);
    size_t n_in = w.size() / b.size();
    for (size_t i = 0; i < res.size(); i++)
        for (size_t j = 0; j < n_in; j++) res[i] += data[j] * w[i * n_in + j];
    return res;
}

template <class T> void gru(const char *out) {
    auto x = load<T>("x"), h = load<T>("h0"), w = load<T>("weight_ih_l0"), wr = load<T>("weight_hh_l0"),
         b = load<T>("bias_ih_l0"), br = load<T>("bias_hh_l0");
#ifdef FAULT
    br.assign(br.size(), 0);  // np.zeros(...) is what the back end wrote
#endif
    size_t n_state = b.size() / 3, n_in = w.size() / b.size(), items = h.size() / n_state;
    std::vector<T> y;
    for (size_t step = 0; step < x.size() / (items * n_in); step++) {
        for (size_t n = 0; n < items; n++) {
            T *state = &h[n * n_state];
            auto a = dense(&x[(step * items + n) * n_in], w, b), ar = dense(state, wr, br);
            for (size_t i = 0; i < n_state; i++) {
                T r = sigmoid(a[i] + ar[i]), z = sigmoid(a[n_state + i] + ar[n_state + i]);
                T candidate = std::tanh(a[2 * n_state + i] + r * ar[2 * n_state + i]);
                state[i] = z * state[i] + (1 - z) * candidate;
            }
        }
        y.insert(y.end(), h.begin(), h.end());
    }
    std::ostringstream text;
    const char *type = sizeof(T) == 4 ? "F32" : "F64";
    size_t end = y.size() * sizeof(T), all = end + h.size() * sizeof(T);
    text << "{\"y\":{\"dtype\":\"" << type << "\",\"shape\":[" << y.size() / h.size() << "," << items << "," << n_state
         << "],\"data_offsets\":[0," << end << "]},\"h\":{\"dtype\":\"" << type << "\",\"shape\":[1," << items << ","
         << n_state << "],\"data_offsets\":[" << end << "," << all << "]}}";
    std::string head = text.str();
    uint64_t size = head.size();
    std::ofstream file(out, std::ios::binary);
    file.write((char *)&size, 8) << head;
    file.write((char *)y.data(), end).write((char *)h.data(), all - end);
}

int main(int, char **argv) {
    std::ifstream file(argv[1], std::ios::binary);
    uint64_t size;
    file.read((char *)&size, 8);
    header.resize(size);
    file.read(&header[0], size);
    std::stringstream rest;
    rest << file.rdbuf();
    numbers = rest.str();
    header.find("\"F64\"") == std::string::npos ? gru<float>(argv[2]) : gru<double>(argv[2]);
}
"""


def right(faulty: bool, folder: Path) -> str:
    source, program = folder / "firmware.cpp", folder / ("faulty" if faulty else "repaired")
    source.write_text(FIRMWARE)
    subprocess.run(["g++", "-O1", *(["-DFAULT"] if faulty else []), "-o", program, source], check=True)
    return f"command:{program} {{in.safetensors}} {{out.safetensors}}"


BUG = Bug(
    report="fastmachinelearning/hls4ml#594",
    told="a GRU for an FPGA has zeros in the place of its recurrent bias",
    half=2,
    form=Sides(Spec(kind="gru", input_size=8, hidden_size=32, num_layers=1, seq_len=5, batch_size=50), right),
    needs="g++",
    named="b_hh-dropped",
    place={"step": 0, "layer": 0},
    tolerance=(0.0, 3e-2),
)
