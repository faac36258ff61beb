"""The words for every deviation. What each computes stands in the verdict's table, under the same names.

Lines of code have the letters of torch's documentation. What is said of a framework was read in its documentation or
its source; the source is named in a comment.
"""

from collections.abc import Iterator
from itertools import permutations

from rnnscope.help.entries import Entry, slug
from rnnscope.network.shapes import GATES
from rnnscope.spec.sides import DEVIATION


def _deviation(name: str, does: str, flags: str, **facts: str) -> Entry:
    """The entry of a deviation; flags: those of a network that shows it."""
    command = " ".join(filter(None, ("rnnscope compare", flags, f"--right {DEVIATION}{slug(name)}")))
    return Entry(name=name, sort="deviation", does=does, command=command, says=does, **facts)


WHO_STACKS = {
    # TensorFlow 1: `i, j, f, o = array_ops.split(…)` in rnn_cell_impl.py; dm-haiku: `i, g, f, o = jnp.split(…)` in
    # haiku/_src/recurrent.py.
    "i g f o": "TensorFlow 1's BasicLSTMCell, which calls them i j f o, and Haiku's LSTM",
    # Caffe: src/caffe/layers/lstm_unit_layer.cpp; ncnn: src/layer/lstm.cpp; DyNet: dynet/nodes-lstm.cc; char-rnn:
    # `local in_gate, forget_gate, out_gate, in_transform` in model/LSTM.lua.
    "i f o g": "Caffe's LSTM, ncnn's LSTM, DyNet's VanillaLSTM, and char-rnn for Lua Torch",
    # https://onnx.ai/onnx/operators/onnx__LSTM.html; https://www.w3.org/TR/webnn/#api-mlgraphbuilder-lstmcell
    "i o f g": "ONNX's LSTM, which calls them i o f c, and WebNN's lstmCell by default",
    # `FICO, // IE` of LSTMWeightsFormat in OpenVINO's rnn_cell_base.hpp
    "f i g o": "OpenVINO's LSTMCell, which calls them f i c o",
    # PaddlePaddle: "Weight = {W_ch, W_ih, W_fh, W_oh}" in paddle/fluid/operators/fused/fusion_lstm_op.cc
    "g i f o": "PaddlePaddle's older operators lstm and fusion_lstm, which call them c i f o",
    # Keras: GRUCell in keras/src/layers/rnn/gru.py; https://onnx.ai/onnx/operators/onnx__GRU.html; OpenVINO: gru_cell
    # of openvino.runtime.opset10; WebNN: MLGruWeightLayout, above; dm-haiku: GRU in haiku/_src/recurrent.py.
    "z r n": "Keras's, ONNX's and Haiku's GRU, OpenVINO's GRUCell, and WebNN's gruCell by default",
}
"""The frameworks that are known to stack the rows of their gates in an order that is not torch's."""


def _orders() -> Iterator[Entry]:
    """Every order of the gates but torch's: 23 of an LSTM, 5 of a GRU."""
    for kind in ("lstm", "gru"):
        own = " ".join(GATES[kind])
        for order in map(" ".join, permutations(GATES[kind])):
            if order != own:
                yield _deviation(
                    f"gates {order}",
                    f"stacks its gates {order}; torch stacks {own}",
                    f"--kind {kind}",
                    torch=_unpacked(own),
                    theirs=_unpacked(order),
                    shows="In every output, from the first step on. No error of shape warns of it: each gate has as "
                    "many rows.",
                    frameworks=WHO_STACKS.get(order, ""),
                    mends=f"Unpack the rows in torch's order, {own}. If the weights come from such a framework, "
                    "reorder them once when they are loaded: the blocks of rows in both weights and both biases.",
                )


def _unpacked(order: str) -> str:
    """The line that takes W_ih apart."""
    return f"{', '.join(f'W_i{gate}' for gate in order.split())} = W_ih.chunk({len(order.split())})"


_A = "a = W_ih·x + b_ih + W_hh·h + b_hh"
_N = "n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn))"
_MIXED = "h = (1 - z)·n + z·h"
_FORGET_ROWS = "Add the 1 to the second quarter of the rows, which are those of f in torch, and to one of both biases."
_CAT = "y = torch.cat((forward, backward), -1)"

DEVIATIONS: tuple[Entry, ...] = (
    *_orders(),
    _deviation(
        "b_ih dropped",
        "leaves out b_ih; torch adds both biases",
        "",
        torch=_A,
        theirs="a = W_ih·x + W_hh·h + b_hh",
        shows="In every output, from the first step on. It hides where b_ih is zeros, as some initialize it.",
        mends="Add both biases, or b_ih + b_hh as one. In a GRU the n part of b_hh stays apart: r multiplies it.",
    ),
    _deviation(
        "b_hh dropped",
        "leaves out b_hh; torch adds both biases",
        "",
        torch=_A,
        theirs="a = W_ih·x + b_ih + W_hh·h",
        shows="In every output, from the first step on. It hides where b_hh is zeros, as some initialize it.",
        # `self._bias` of BasicLSTMCell in rnn_cell_impl.py; haiku/_src/recurrent.py; dynet/nodes-lstm.cc;
        # https://keras.io/api/layers/recurrent_layers/gru/ for the two biases of reset_after=True.
        frameworks="TensorFlow 1's LSTM cells, Haiku's LSTM and GRU, and DyNet's VanillaLSTM have one bias a gate. "
        "Keras's GRU has two with reset_after=True.",
        mends="Add both biases, or b_ih + b_hh as one. In a GRU the n part of b_hh stays apart: r multiplies it.",
    ),
    _deviation(
        "both biases dropped",
        "leaves out b_ih and b_hh; torch adds both",
        "",
        torch=_A,
        theirs="a = W_ih·x + W_hh·h",
        shows="In every output, from the first step on. It hides where both biases are zeros.",
        mends="Add both biases, or build torch's module with bias=False.",
    ),
    _deviation(
        "b_ih and b_hh swapped",
        "takes b_hh for b_ih and b_ih for b_hh",
        "--kind gru",
        torch=_N,
        theirs="n = tanh(W_in·x + b_hn + r·(W_hn·h + b_in))",
        shows="In a GRU alone, from the first step on: r multiplies one of the two. In an RNN and an LSTM only their "
        "sum counts, so that it is the same function.",
        mends="Load each bias under its own name: b_ih belongs to x, b_hh to h.",
    ),
    _deviation(
        "W_hh transposed",
        "multiplies with the transpose of W_hh; torch computes W_hh·h",
        "",
        torch="a = x @ W_ih.T + h @ W_hh.T",
        theirs="a = x @ W_ih.T + h @ W_hh",
        shows="In every output, from the first step on where h0 is random, and from the second on where it is zeros. "
        "One step from zeros never uses W_hh. A block of W_hh is square, so that no error of shape warns of it.",
        # `math_ops.matmul(array_ops.concat([inputs, h], 1), self._kernel)` in rnn_cell_impl.py; `jnp.matmul(inputs,
        # w_i)` in haiku/_src/recurrent.py; `K.dot(r * h_tm1, self.recurrent_kernel[:, 2 * self.units:])` in Keras.
        frameworks="Keras, TensorFlow 1 and Haiku compute h @ W, so that their weights are the transposes of torch's.",
        mends="Write h @ W_hh.T, or F.linear(h, W_hh). Transpose weights of such a framework once, when they are "
        "loaded.",
    ),
    _deviation(
        "layers in reverse order",
        "takes the weights of its layers of one shape from the last to the first; torch starts with the lowest",
        "--layers 3",
        torch="for k in range(K): x = walk(weights[k], x)",
        theirs="for k in reversed(range(K)): x = walk(weights[k], x)",
        shows="In every output, from the first step on. Only layers whose weights have the same shapes can be "
        "exchanged without an error: often all but the first.",
        mends="Give layer k the weights with _lk in their names.",
    ),
    _deviation(
        "h0 ignored",
        "starts from zeros; torch starts from h0",
        "",
        torch="h = h0",
        theirs="h = torch.zeros_like(h0)",
        shows="From the first step on, and less with each step. It hides where h0 is zeros, which is torch's default.",
        mends="Start from hx where it is given, and from zeros where it is None.",
    ),
    _deviation(
        "c0 ignored",
        "starts its cell state from zeros; torch starts from c0",
        "--kind lstm",
        torch="h, c = h0, c0",
        theirs="h, c = h0, torch.zeros_like(c0)",
        shows="From the first step on, and less with each step. It hides where c0 is zeros, which is torch's default.",
        mends="Take both tensors of hx: h0 and c0.",
    ),
    _deviation(
        "h0 and c0 ignored",
        "starts from zeros in h and c; torch starts from hx",
        "--kind lstm",
        torch="h, c = hx",
        theirs="h, c = torch.zeros_like(hx[0]), torch.zeros_like(hx[1])",
        shows="From the first step on, and less with each step. It hides where hx is zeros, which is torch's default.",
        mends="Start from hx where it is given, and from zeros where it is None.",
    ),
    _deviation(
        "h0 and c0 swapped",
        "takes hx for (c0, h0); torch takes (h0, c0)",
        "--kind lstm",
        torch="h, c = hx",
        theirs="c, h = hx",
        shows="From the first step on. It hides where hx is zeros. With a projection the shapes differ, and torch "
        "says so.",
        # `c, h = state` of BasicLSTMCell in rnn_cell_impl.py; `c, h = carry` of LSTMCell in flax/linen/recurrent.py.
        frameworks="TensorFlow 1's LSTMStateTuple and the carry of Flax's LSTMCell are (c, h).",
        mends="Unpack h first: h, c = hx.",
    ),
    _deviation(
        "h0 for the first layer alone",
        "starts every layer but the first from zeros; torch starts layer k from its own rows of h0",
        "",
        torch="for k in range(K): x = walk(weights[k], x, h0[k])",
        theirs="for k in range(K): x = walk(weights[k], x, h0[0] if k == 0 else None)",
        shows="From the first step on, in every layer but the first, and less with each step. It hides where h0 is "
        "zeros, and a network of one layer does not show it.",
        mends="Give each layer its own rows of h0, and of c0: with both directions layer k has the rows 2k and 2k + 1.",
    ),
    _deviation(
        "tanh and relu swapped",
        "has the other nonlinearity: relu for tanh, or tanh for relu",
        "",
        torch="h = tanh(W_ih·x + b_ih + W_hh·h + b_hh)",
        theirs="h = relu(W_ih·x + b_ih + W_hh·h + b_hh)",
        shows="In every output, from the first step on.",
        mends="A state_dict does not record the nonlinearity. Say it where the network is built: nn.RNN has tanh by "
        "default, and an LSTM and a GRU always have it.",
    ),
    _deviation(
        "tanh missing on the cell state",
        "gives o·c for h; torch gives o·tanh(c)",
        "--kind lstm",
        torch="h = o·tanh(c)",
        theirs="h = o·c",
        shows="In h and y from the first step on, in c from the second on. It is small while c is small, as tanh(c) is "
        "nearly c there.",
        mends="Apply tanh to c where h is made. The c that is carried on stays as it is.",
    ),
    _deviation(
        "output gate before tanh",
        "gives tanh(o·c) for h; torch gives o·tanh(c)",
        "--kind lstm",
        torch="h = o·tanh(c)",
        theirs="h = tanh(o·c)",
        shows="In h and y from the first step on, in c from the second on. It is small while c is small.",
        mends="Multiply with o after tanh.",
    ),
    _deviation(
        "forget bias of 1",
        "adds 1 to the forget gate; torch adds its biases alone",
        "--kind lstm",
        torch="f = sigmoid(W_if·x + b_if + W_hf·h + b_hf)",
        theirs="f = sigmoid(W_if·x + b_if + W_hf·h + b_hf + 1)",
        shows="In every output, from the first step on where c0 is random, and from the second on where it is zeros.",
        # `forget_bias=1.0` of BasicLSTMCell in rnn_cell_impl.py; `f = jax.nn.sigmoid(f + 1)` in
        # haiku/_src/recurrent.py; `forget_gate_bias(1.0)` in dynet/nodes-lstm.h.
        frameworks="TensorFlow 1's BasicLSTMCell by default, Haiku's LSTM, and DyNet's VanillaLSTM.",
        mends="Leave the 1 out of the step, and add it to the f part of one bias once, when weights are loaded.",
    ),
    _deviation(
        "forget bias of 2",
        "adds 2 to the forget gate; torch adds its biases alone",
        "--kind lstm",
        torch="f = sigmoid(W_if·x + b_if + W_hf·h + b_hf)",
        theirs="f = sigmoid(W_if·x + (b_if + 1) + W_hf·h + (b_hf + 1))",
        shows="In every output, from the first step on where c0 is random, and from the second on where it is zeros. "
        "It comes from a forget bias of 1 that is added to both biases.",
        mends="torch has two biases, and their sum counts: set one of them to 1 and the other to 0.",
    ),
    _deviation(
        "bias of 1 on the input gate",
        "adds 1 to the input gate; torch adds its biases alone",
        "--kind lstm",
        torch="i = sigmoid(W_ii·x + b_ii + W_hi·h + b_hi)",
        theirs="i = sigmoid(W_ii·x + b_ii + W_hi·h + b_hi + 1)",
        shows="In every output, from the first step on. A forget bias goes there where f is taken for the first gate.",
        mends=_FORGET_ROWS,
    ),
    _deviation(
        "bias of 1 on the cell gate",
        "adds 1 to the cell gate; torch adds its biases alone",
        "--kind lstm",
        torch="g = tanh(W_ig·x + b_ig + W_hg·h + b_hg)",
        theirs="g = tanh(W_ig·x + b_ig + W_hg·h + b_hg + 1)",
        shows="In every output, from the first step on. A forget bias goes there where f is taken for the third gate, "
        "as it is in the orders i g f o and i o f g.",
        mends=_FORGET_ROWS,
    ),
    _deviation(
        "bias of 1 on the output gate",
        "adds 1 to the output gate; torch adds its biases alone",
        "--kind lstm",
        torch="o = sigmoid(W_io·x + b_io + W_ho·h + b_ho)",
        theirs="o = sigmoid(W_io·x + b_io + W_ho·h + b_ho + 1)",
        shows="In h and y from the first step on, in c from the second on. A forget bias goes there where f is taken "
        "for the last gate.",
        mends=_FORGET_ROWS,
    ),
    _deviation(
        "coupled forget gate",
        "takes 1 - i for f; torch computes f from weights of its own",
        "--kind lstm",
        torch="c = f·c + i·g",
        theirs="c = (1 - i)·c + i·g",
        shows="In every output, from the first step on where c0 is random, and from the second on where it is zeros.",
        # `pf[i] = 1.0f - pi[i]` under input_forget_ in onnxruntime's uni_directional_lstm.cc; arXiv:1503.04069
        frameworks="ONNX's LSTM with input_forget=1 in ONNX Runtime, and the coupled gates (CIFG) of Greff et al. "
        "(arXiv:1503.04069).",
        mends="Compute f from its own rows. A coupled network has none: negate the rows of i in weights and biases for "
        "f, since 1 - sigmoid(a) = sigmoid(-a).",
    ),
    _deviation(
        "coupled input gate",
        "takes 1 - f for i; torch computes i from weights of its own",
        "--kind lstm",
        torch="c = f·c + i·g",
        theirs="c = f·c + (1 - f)·g",
        shows="In every output, from the first step on.",
        mends="Compute i from its own rows. A coupled network has none: negate the rows of f in weights and biases for "
        "i, since 1 - sigmoid(a) = sigmoid(-a).",
    ),
    _deviation(
        "peepholes of weight 1",
        "adds the old c to the sums of i and f, and the new c to that of o; torch shows c to no gate",
        "--kind lstm",
        torch="i = sigmoid(W_ii·x + b_ii + W_hi·h + b_hi)",
        theirs="i = sigmoid(W_ii·x + b_ii + W_hi·h + b_hi + c)",
        shows="In every output, from the first step on. Only peepholes of weight 1 are known here: those with trained "
        "weights, of which torch has none, are another function for each of them.",
        # `sigmoid(f + self._forget_bias + self._w_f_diag * c_prev)` of LSTMCell in rnn_cell_impl.py;
        # input P of https://onnx.ai/onnx/operators/onnx__LSTM.html
        frameworks="With weights of their own, TensorFlow 1's LSTMCell with use_peepholes=True, and ONNX's LSTM with "
        "its input P.",
        mends="Leave c out of the gates. A network that was trained with peepholes cannot be loaded into torch's LSTM.",
    ),
    _deviation(
        "cell state clipped at 1",
        "clips the new c between -1 and 1; torch does not clip it",
        "--kind lstm",
        torch="c = f·c + i·g",
        theirs="c = (f·c + i·g).clamp(-1, 1)",
        shows="In every output, from the first step on in which c would pass 1. It hides while c is small: the initial "
        "weights often keep it below 1 where c0 is zeros.",
        mends="Leave c as it is. torch's LSTM has no clipping, so weights that were trained with it may need it.",
    ),
    _deviation(
        "cell state clipped at 3",
        "clips the new c between -3 and 3; torch does not clip it",
        "--kind lstm --input-size 200 --hidden-size 1 --layers 1 --seq-len 40",
        torch="c = f·c + i·g",
        theirs="c = (f·c + i·g).clamp(-3, 3)",
        shows="In every output, from the first step on in which c would pass 3. It takes several steps and large sums "
        "to come there: most networks with initial weights do not show it. Clips at other numbers are not known here.",
        # `memory_cell_clip_value: float, optional, (default = 3)` of ElmoLstm and LstmCellWithProjection in AllenNLP;
        # `clip_ops.clip_by_value(c, -self._cell_clip, self._cell_clip)` of LSTMCell in rnn_cell_impl.py
        frameworks="AllenNLP's LstmCellWithProjection in ElmoLstm, which clips h too, and TensorFlow 1's LSTMCell with "
        "cell_clip=3.",
        mends="Leave c as it is. torch's LSTM has no clipping, so weights that were trained with it may need it.",
    ),
    _deviation(
        "hard sigmoid",
        "has hard sigmoids of slope 1/6, as nn.Hardsigmoid; torch has sigmoids",
        "--kind lstm",
        torch="i = sigmoid(a)",
        theirs="i = torch.clamp(a / 6 + 0.5, 0, 1)",
        shows="In every output, from the first step on.",
        mends="Use torch.sigmoid for every gate. Weights that were trained with hard sigmoids need them.",
    ),
    _deviation(
        "hard sigmoid of Keras 2",
        "has hard sigmoids of slope 0.2, as Keras 2; torch has sigmoids",
        "--kind lstm",
        torch="i = sigmoid(a)",
        theirs="i = torch.clamp(0.2 * a + 0.5, 0, 1)",
        shows="In every output, from the first step on. It is another line than that of nn.Hardsigmoid, whose slope is "
        "1/6.",
        # https://www.tensorflow.org/versions/r1.15/api_docs/python/tf/keras/activations/hard_sigmoid, and
        # recurrent_activation of tf.keras.layers.LSTM beside it; alpha of
        # https://onnx.ai/onnx/operators/onnx__HardSigmoid.html
        frameworks="Keras's hard_sigmoid before version 3, and ONNX's HardSigmoid with its default alpha. Before "
        "TensorFlow 2, Keras's was the default recurrent_activation of its LSTM and GRU.",
        mends="Use torch.sigmoid for every gate. Weights that were trained with hard sigmoids need them.",
    ),
    _deviation(
        "hard tanh",
        "clips between -1 and 1, as nn.Hardtanh, where torch has tanh",
        "",
        torch="h = tanh(W_ih·x + b_ih + W_hh·h + b_hh)",
        theirs="h = (W_ih·x + b_ih + W_hh·h + b_hh).clamp(-1, 1)",
        shows="In every output, from the first step on. It is small while the sums are small, as tanh(a) is nearly a "
        "there. In an LSTM it stands for the tanh of g and that of c.",
        mends="Use torch.tanh. Weights that were trained with a hard tanh need the hard one.",
    ),
    _deviation(
        "layer norm on the sums",
        "normalizes the sum of each gate over its units before its activation; torch has no layer norm",
        "--kind lstm",
        torch="i = sigmoid(a)",
        theirs="i = sigmoid(F.layer_norm(a, a.shape[-1:]))",
        shows="In every output, from the first step on. Only a layer norm without weights of its own, or whose weights "
        "are still 1 and 0, is known here. In an RNN it is on the one sum, and in a GRU on "
        "what goes into the tanh of n too.",
        # `i = self._norm(i, "input", …)` of LayerNormBasicLSTMCell in tensorflow/contrib/rnn/python/ops/rnn_cell.py
        frameworks="TensorFlow 1's LayerNormBasicLSTMCell, which normalizes c too.",
        mends="torch's modules have none: keep a class of your own, or put nn.LayerNorm between modules.",
    ),
    _deviation(
        "layer norm on h",
        "normalizes the new h over its units at every step; torch has no layer norm",
        "",
        torch="h = step(x[t], h)",
        theirs="h = F.layer_norm(step(x[t], h), h.shape[-1:])",
        shows="In every output, from the first step on. Only a layer norm without weights of its own, or whose weights "
        "are still 1 and 0, is known here.",
        mends="Normalize y after the network, not h within it; otherwise keep a class of your own.",
    ),
    _deviation(
        "layer norm on c",
        "normalizes the new c over its units at every step; torch has no layer norm",
        "--kind lstm",
        torch="c = f·c + i·g",
        theirs="c = F.layer_norm(f·c + i·g, c.shape[-1:])",
        shows="In every output, from the first step on. Only a layer norm without weights of its own, or whose weights "
        "are still 1 and 0, is known here.",
        # `new_c = self._norm(new_c, "state", …)` of the same class
        frameworks="TensorFlow 1's LayerNormBasicLSTMCell, which normalizes the sums too.",
        mends="torch's modules have none: keep a class of your own.",
    ),
    _deviation(
        "projection left out",
        "gives the first P features of o·tanh(c) for h; torch multiplies with W_hr",
        "--kind lstm --proj-size 8",
        torch="h = W_hr·(o·tanh(c))",
        theirs="h = (o·tanh(c))[:P]",
        shows="In h and y from the first step on, in c from the second on.",
        mends="Multiply with weight_hr, which has P rows, at the end of every step.",
    ),
    _deviation(
        "reset before the matmul",
        "resets h before it multiplies with W_hn; torch resets the product",
        "--kind gru",
        torch=_N,
        theirs="n = tanh(W_in·x + b_in + W_hn·(r·h) + b_hn)",
        shows="In every output, from the first step on. One step from h0 zeros hides all of it but b_hn, which torch "
        "multiplies with r.",
        # https://keras.io/api/layers/recurrent_layers/gru/, which names version 3 of arXiv:1406.1078;
        # https://onnx.ai/onnx/operators/onnx__GRU.html; `r_state = r * state` of GRUCell in rnn_cell_impl.py; "GRUCell
        # does not support reset_after" in tfjs-layers; `a_h = jnp.matmul(r * state, w_h_a)` in haiku/_src/recurrent.py;
        # resetAfter of Apple's MPSGraphGRUDescriptor, whose default is NO.
        frameworks="Keras's GRU with reset_after=False, ONNX's GRU with linear_before_reset=0 (its default), "
        "TensorFlow 1's GRUCell, TensorFlow.js, Haiku's GRU, MPSGraph by default, and version 3 of the paper of Cho "
        "et al. (arXiv:1406.1078).",
        mends="Multiply first: n = tanh(n_x + r·n_h). Weights that were trained the other way need that equation: no "
        "other weights make torch's GRU compute it.",
    ),
    _deviation(
        "b_hn outside the reset gate",
        "leaves b_hn out of what r multiplies; torch multiplies W_hn·h + b_hn with r",
        "--kind gru",
        torch=_N,
        theirs="n = tanh(W_in·x + b_in + b_hn + r·(W_hn·h))",
        shows="In every output, from the first step on. It hides where b_hn is zeros, as some initialize it.",
        mends="Add b_hn to W_hn·h before r is multiplied. So b_ih + b_hh cannot be one bias in a GRU.",
    ),
    _deviation(
        "update gate inverted",
        "gives z·n + (1 - z)·h; torch gives (1 - z)·n + z·h",
        "--kind gru",
        torch=_MIXED,
        theirs="h = z·n + (1 - z)·h",
        shows="In every output, from the first step on.",
        # `next_state = (1 - z) * state + z * a` in haiku/_src/recurrent.py; "Compute (1 - u_t)h_{t - 1} + u_t c_t" in
        # lasagne/layers/recurrent.py.
        frameworks="Haiku's GRU and Lasagne's GRULayer.",
        mends="Let z keep the old h. Weights that were trained the other way: negate the z rows of both weights and "
        "both biases, since 1 - sigmoid(a) = sigmoid(-a).",
    ),
    _deviation(
        "reset state kept",
        "mixes n with r·h; torch mixes it with h",
        "--kind gru",
        torch=_MIXED,
        theirs="h = (1 - z)·n + z·(r·h)",
        shows="In every output, from the first step on where h0 is random, and from the second on where it is zeros.",
        mends="Do not write r·h over h: the last line of the step needs the old h.",
    ),
    _deviation(
        "new hidden used too early",
        "takes the new h for the one before the step, and takes the step once more",
        "",
        torch="h = step(x[t], h)",
        theirs="h = step(x[t], h); h = step(x[t], h)",
        shows="In every output, from the first step on.",
        mends="Write the new h into a variable of its own until all gates are computed.",
    ),
    _deviation(
        "layer fed by the previous step",
        "feeds each layer the h that the layer below had a step before; torch feeds it the h of the same step",
        "",
        torch="new[k] = step(new[k - 1], h[k])",
        theirs="new[k] = step(h[k - 1], h[k])",
        shows="From the first step on, in every layer but the first: its row of h is right. A network of one layer "
        "does not show it.",
        mends="Feed layer k what layer k - 1 has just given.",
    ),
    _deviation(
        "y of the first layer",
        "returns the output of its first layer for y; torch returns that of the top one",
        "",
        torch="for k in range(K): y = walk(weights[k], x if k == 0 else y)",
        theirs="y = ys[0]        # ys: the output of each layer",
        shows="In y alone, from the first step on; h and c stay right. The last step of y is then the first row of h, "
        "not the last. A network of one layer does not show it.",
        mends="Return what the last layer of the loop gave.",
    ),
    _deviation(
        "y of the layer below the top",
        "returns the output of the layer below the top for y; torch returns that of the top one",
        "--layers 3",
        torch="y = ys[-1]        # ys: the output of each layer",
        theirs="y = ys[-2]",
        shows="In y alone, from the first step on; h and c stay right. With two layers it is y of the first layer.",
        mends="Return what the last layer of the loop gave: take y after the layer, not before it.",
    ),
    _deviation(
        "backward outputs not flipped back",
        "leaves the backward half of y in the order in which it was walked; torch puts it in the order of time",
        "--bidirectional",
        torch="y = torch.cat((forward, backward.flip(0)), -1)",
        theirs=_CAT,
        shows="In the backward half of y of one layer; h stays right there. With several layers both directions of the "
        "next one get it. One step does not show it.",
        # https://keras.io/api/layers/recurrent_layers/gru/: "process the input sequence backwards and return the
        # reversed sequence"
        frameworks="A single layer of Keras with go_backwards=True; Keras's Bidirectional flips its output back.",
        mends="Flip what the backward direction gave along time before the halves are joined.",
    ),
    _deviation(
        "backward direction fed forward",
        "walks its backward direction from the first step on; torch starts at the last",
        "--bidirectional",
        torch="for t in reversed(range(L)): h = step(x[t], h)",
        theirs="for t in range(L): h = step(x[t], h)",
        shows="In the backward half of y and the backward rows of h. One step does not show it.",
        mends="Walk the directions with _reverse in the names of their weights from the last step to the first.",
    ),
    _deviation(
        "directions swapped in y",
        "puts the backward half of y first; torch puts the forward half first",
        "--bidirectional",
        torch=_CAT,
        theirs="y = torch.cat((backward, forward), -1)",
        shows="In y at every step; h and c stay right.",
        mends="Join the forward half first.",
    ),
    _deviation(
        "directions swapped in h",
        "puts the backward row of each layer first; torch puts the forward row first",
        "--bidirectional",
        torch="h = torch.stack((h_l0, h_l0_reverse, h_l1, h_l1_reverse))",
        theirs="h = torch.stack((h_l0_reverse, h_l0, h_l1_reverse, h_l1))",
        shows="In h and c; y stays right.",
        mends="Stack the forward row of each layer before its backward row.",
    ),
    _deviation(
        "directions swapped in y and h",
        "puts the backward direction first in y and h; torch puts the forward one first",
        "--bidirectional",
        torch=_CAT,
        theirs="y = torch.cat((backward, forward), -1), and h likewise",
        shows="In y at every step, and in h and c.",
        mends="Put the forward direction first in both.",
    ),
    _deviation(
        "h ordered direction-major",
        "stacks the forward rows of h before all backward ones; torch stacks them layer by layer",
        "--bidirectional",
        torch="h = torch.stack((h_l0, h_l0_reverse, h_l1, h_l1_reverse))",
        theirs="h = torch.stack((h_l0, h_l1, h_l0_reverse, h_l1_reverse))",
        shows="In h and c; y stays right. The first row and the last are where they belong, and one layer does not "
        "show it.",
        mends="Stack the rows of one layer side by side; h.view(K, D, N, H_out) is then layer by direction.",
    ),
    _deviation(
        "h and c swapped",
        "returns (c, h); torch returns (h, c)",
        "--kind lstm",
        torch="return y, (h, c)",
        theirs="return y, (c, h)",
        shows="In h and c; y stays right. With a projection their shapes differ, and that is found.",
        # `LSTMStateTuple(new_c, new_h)` of BasicLSTMCell in rnn_cell_impl.py; `c, h = carry` of LSTMCell in
        # flax/linen/recurrent.py.
        frameworks="TensorFlow 1's LSTMStateTuple and the carry of Flax's LSTMCell are (c, h).",
        mends="Return h first: y, (h, c).",
    ),
    _deviation(
        "items of h in reverse",
        "gives the items of h from the last to the first; torch leaves them in the order of the batch",
        "",
        torch="h = torch.stack([state[n] for n in range(N)], 1)",
        theirs="h = torch.stack([state[n] for n in reversed(range(N))], 1)",
        shows="In h and c; y stays right. A batch of one item does not show it.",
        mends="Put the items back in the order in which they came, in h and c as in y.",
    ),
    _deviation(
        "items of h sorted by length",
        "leaves the items of h sorted by length; torch puts them back in the order of the batch",
        "--lengths 2,3,1",
        torch="y, h = y[:, unsorted], h[:, unsorted]",
        theirs="y = y[:, unsorted]",
        shows="In h and c; y stays right. It hides where the items come from the longest to the shortest.",
        mends="Index h and c with the inverse of the sorting too, or pack with enforce_sorted=False: torch then "
        "does it.",
    ),
    _deviation(
        "batch and time swapped",
        "walks along N instead of L",
        "--seq-len 4 --batch 4",
        torch="for t in range(L): h = step(x[t], h)        # x: (L, N, H_in)",
        theirs="for t in range(N): h = step(x[t], h)        # x: (N, L, H_in)",
        shows="In every output. Where L is not N, h has another shape; where they are equal, nothing warns of it. The "
        "first step of the first item is right.",
        # https://keras.io/api/layers/recurrent_layers/gru/: inputs of shape (batch, timesteps, features)
        frameworks="Keras has the batch first; torch has time first unless batch_first=True.",
        mends="Say batch_first=True, or transpose x and y; h and c stay (D·K, N, H_out) either way.",
    ),
    _deviation(
        "lengths ignored",
        "walks on through the padding; torch stops at each item's own end",
        "--lengths 3,2,1",
        torch="h = torch.where(t < lengths, new, h)",
        theirs="h = new",
        shows="In the rows of h and c of every item that is shorter than the longest, and after its end in y. A "
        "backward direction starts in the padding, so that its y is wrong everywhere in such an item.",
        mends="Pack the input with pack_padded_sequence, or keep the state of an item where it has ended.",
    ),
    _deviation(
        "lengths ignored but in y",
        "walks on through the padding and sets y to zeros there; torch stops at each item's own end",
        "--lengths 3,2,1",
        torch="h = torch.where(t < lengths, new, h)",
        theirs="h = new        # and at the end: y = torch.where(real, y, 0)",
        shows="In the rows of h and c of every item that is shorter than the longest. In one direction y is right, "
        "and so is its padding. A backward direction starts in the padding, so that its y is wrong in such an item. A "
        "class that unpacks its input and packs what it gives does it.",
        mends="Keep the state of an item where it has ended, or pass the packed input on to torch's module.",
    ),
    _deviation(
        "lengths ignored backward",
        "starts its backward direction in the padding; torch starts it at each item's own end",
        "--lengths 3,2,1 --bidirectional",
        torch="backward = walk(flip each item within its own length)",
        theirs="backward = walk(x.flip(0))",
        shows="In the backward half of y and the backward rows of h and c, for every item that is shorter than the "
        "longest. The forward ones stay right in one layer, and y is zeros after the ends.",
        mends="Flip each item within its own length, or pack the input with pack_padded_sequence.",
    ),
)
