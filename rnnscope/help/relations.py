"""The words for relations: what a recurrent module keeps by itself, with no second one to compare.

Their names are those of JSON. A line of code says what is equal, and the line beside it what people take for equal.
"""

from functools import partial

from rnnscope.help.entries import Entry

_relation = partial(Entry, sort="relation")

# https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html says it of torch's modules under "Outputs".
RELATIONS: tuple[Entry, ...] = (
    _relation(
        name="repeatable",
        does="the same input gives the same, whatever random numbers are drawn",
        command="""\
cat > noisy.py <<'PYTHON'
from torch import nn
class Noisy(nn.RNN):
    def forward(self, x, hx):
        return super().forward(nn.functional.dropout(x, 0.1), hx)
PYTHON
rnnscope compare --right noisy.py:Noisy""",
        says="gives something else each time it is run",
        torch="y = nn.functional.dropout(y, p, self.training)",
        theirs="y = nn.functional.dropout(y, p)",
        shows="A class of yours is called up to 16 times on the first steps, with the same and with other random "
        "numbers. JSON has what it gives otherwise in calls. Where chance is rare, it may hide longer.",
        mends="Hand self.training to dropout, and draw nothing else in evaluation mode.",
    ),
    _relation(
        name="stateless",
        does="what a call gives does not depend on the calls before it",
        command="""\
cat > keeps.py <<'PYTHON'
from torch import nn
class Keeps(nn.RNN):
    h = None
    def forward(self, x, hx):
        y, self.h = super().forward(x, hx if self.h is None else self.h)
        return y, self.h
PYTHON
rnnscope compare --right keeps.py:Keeps""",
        says="keeps state from call to call",
        torch="y, h = rnn(x, hx)",
        theirs="y, self.h = rnn(x, self.h)",
        shows="The first call is right, and a later one with the same input is not. A class of yours is called up to "
        "16 times on the first steps, once with another input in between. A cache that changes nothing that comes out "
        "is no finding. JSON has it in keeps_state and calls.",
        mends="Take the state from hx and give it back, and let the caller hand it on. Change no weight in forward: a "
        "step of an optimizer, a norm or a statistic belongs behind `if self.training`.",
    ),
    _relation(
        name="last_state",
        does="y at the last step of a direction is that direction's row of h of the top layer",
        command="rnnscope trace --bidirectional",
        says="backward: ends at step 0",
        torch="y[-1, :, :H] == h[-2] and y[0, :, H:] == h[-1]",
        theirs="y[-1] == torch.cat((h[-2], h[-1]), -1)",
        shows="The backward direction ends at step 0, so that y[-1] has only its first state. With lengths each item "
        "ends at a step of its own.",
        mends="Take h[-1], or h[-2] and h[-1] of both directions, where a sequence is to be summed up.",
    ),
    _relation(
        name="batch_first",
        does="batch_first puts N first in x and y, and never moves h and c",
        command="rnnscope trace --batch-first",
        says="batch_first does not move h",
        torch="y: (N, L, D·H_out)   h: (D·K, N, H_out)",
        theirs="y: (N, L, D·H_out)   h: (N, D·K, H_out)",
        shows="Where N is D·K, no error of shape warns of it.",
        # https://keras.io/api/layers/recurrent_layers/gru/: a state of shape (batch, units) for each layer
        frameworks="Keras has the batch first in states too.",
        mends="Give hx as (D·K, N, H_out) whatever batch_first says, and index h by its first dim.",
    ),
    _relation(
        name="packed",
        does="a packed batch gives each item what it gives by itself: its state stops at its own last step",
        command="rnnscope trace --lengths 3,2,1",
        says="item 1 ends at step 1",
        torch="h[-1, i] == y[lengths[i] - 1, i]",
        theirs="h[-1, i] == y[-1, i]",
        shows="y[-1] of a shorter item is padding.",
        mends="Pack with pack_padded_sequence, and take h; or index y by lengths - 1.",
    ),
    _relation(
        name="padding",
        does="y is 0 behind the end of an item, and what x has there changes nothing",
        command="rnnscope compare --lengths 3,2,1",
        says="padding (3, 3, 20)",
        torch="y[lengths[i]:, i] == 0",
        theirs="y[lengths[i]:, i] == y[lengths[i] - 1, i]",
        shows="In y behind the end of each item, and in everything where x has NaN there.",
        mends="Mask the state, not y alone: torch.where(t < lengths, new, state).",
    ),
    _relation(
        name="item_isolation",
        does="what an item gives does not depend on the other items of its batch",
        command="rnnscope compare --right items",
        says="items against module",
        torch="h = step(x[t], h)",
        theirs="h = step(x[t], h); h = (h - h.mean(0)) / h.std(0)",
        shows="An item gives other numbers in another batch. A comparison of whole batches does not show it.",
        mends="Look for what is computed along dim N: a normalization, a maximum, a cumulated sum, a wrong view.",
    ),
    _relation(
        name="batch_of_one",
        does="an item gives the same as a batch of one",
        command="rnnscope compare --right items",
        says="items against module",
        torch="h[-1]",
        theirs="h[-1].squeeze()",
        shows="With N = 1 a shape is short of a dim, or numbers are broadcast.",
        mends="Name the dim that is left out: h.squeeze(0). Look for code that asks whether N is 1.",
    ),
    _relation(
        name="chunked",
        does="a sequence in pieces, each from the state after the one before, gives what it gives in one run",
        command="rnnscope compare --chunk 2",
        says="each from the state after the one before",
        torch="y, hx = rnn(chunk, hx)",
        theirs="y, _ = rnn(chunk)",
        shows="From the second piece on. A backward direction has no state to carry on.",
        mends="Hand hx of each piece to the next one, and give all of it: h and c.",
    ),
    _relation(
        name="stepwise",
        does="a module gives what a loop over its cells gives, step by step",
        command="rnnscope compare --left cells --right module",
        says="module against cells",
        torch="for t in range(L): h = cell(x[t], h)",
        theirs="for t in range(L): h = cell(x[t], h0)",
        shows="From the second step on.",
        mends="Hand the h of each step to the next one. rnnscope code prints such a loop.",
    ),
    _relation(
        name="precision",
        does="in its own dtype a module is as near to the equations in float64 as rounding allows",
        command="rnnscope compare --dtype bfloat16 --right equations",
        says="Against the equations in float64",
        shows="In the table of errors and bounds: each side against the equations, at the number that is nearest to "
        "its bound.",
        mends="Look for a tensor that is made in a coarser dtype. On a GPU, --no-tf32 leaves TF32 out.",
    ),
)
