"""The words for what a comparison finds: its causes and its verdicts, the relations that break, and what it cannot see.

A cause says why two sides are not identical. A relation is what a recurrent module keeps by itself, with no second one
to compare. A blind spot is a fault that would not show in a comparison as it was asked for, whatever its verdict.
"""

from functools import partial

from rnnscope.help.entries import Entry

_SCALED = """\
python -c "from torch import manual_seed, nn, save
manual_seed(0)
wild = nn.RNN(10, 128, 2).state_dict()
save({}, 'wild.pt')"
rnnscope compare --weights wild.pt """

_WILD = _SCALED.format("{name: 30 * wild[name] for name in wild}")

_CHAOTIC = _SCALED.format("{k: 30 * v if 'hh' in k else v for k, v in wild.items()}")
"""Where x moves little, errors grow on every machine."""

_cause = partial(Entry, sort="cause")

CAUSES: tuple[Entry, ...] = (
    _cause(
        name="frozen",
        does="an export fails or gives another shape at the sizes of the run, though it runs at those where it was "
        "made",
        command="rnnscope compare --kind gru --layers 1 --right exported",
        says="the right side (exported) is frozen",
        shows="The verdict is different, and no numbers are compared. The table shows what it does at the sizes of "
        "the run, and at those where it was made. Why has the runtime's own sentence. Adapted says how sizes were "
        "declared dynamic, and which ways the exporter refused.",
        mends="Make one export for each L, or pad to the L where it was made. Or take one that keeps L and N dynamic: "
        "`rnnscope help exports` lists them. --traced-at 7,3 says at which L and N an export is made. By default they "
        "differ from the run's, since nothing frozen shows at the same sizes.",
    ),
    _cause(
        name="shape",
        does="an output or a gradient of the right side has another shape than the left side's",
        command="rnnscope compare --h0 zeros --right deviation:batch-and-time-swapped",
        says="the shapes of h differ",
        torch="y: (L, N, D·H_out)   h: (D·K, N, H_out)",
        theirs="y: (N, L, D·H_out)   h: (N, D·K, H_out)",
        shows="The verdict is different, and nothing else is compared: the table has both shapes of the output.",
        mends="See which dim is in another place: `rnnscope shapes` says which tensor has which shape, and why. Often "
        "N and L are swapped, h was moved with batch_first, or a dim of 1 is missing.",
    ),
    _cause(
        name="nonfinite",
        does="NaN or infinity came out of a side, or of the equations in float64",
        command="""\
python -c "from torch import manual_seed, nn, save
manual_seed(0)
growing = nn.RNN(10, 20).state_dict()
save({name: abs(9 * growing[name]) for name in growing}, 'growing.pt')"
rnnscope compare --weights growing.pt --nonlinearity relu --seq-len 50""",
        says="NaN or infinity came out",
        shows="The verdict is different, even where both sides give NaN in the same places. First at says in which "
        "layer, step, item and unit it came out first.",
        mends="Look at the step that First at names: `rnnscope trace --values` prints its numbers. With relu, states "
        "can grow without limit; float16 ends at 65504.",
    ),
    _cause(
        name="function",
        does="the sides are not the same function: in float64 they are further apart than rounding explains",
        command="rnnscope compare --right deviation:W_hh-transposed",
        says="not the same function",
        shows="The verdict is different. The page says which side does not compute torch's equations, where it first "
        "differs from them, and which known deviation computes the same.",
        mends="If there is a line Why, fix what it names. If it is the weights, a table says which of them differ. "
        "Otherwise start at First at. It names the earliest layer and step, and the gate if it is one alone; --map "
        "shows where the rest is. If only gradients differ, start at First in.",
    ),
    _cause(
        name="precision",
        does="the sides are the same function, but one computes worse than its arithmetic allows",
        command="""\
cat > rough.py <<'PYTHON'
from torch import nn
class Rough(nn.RNN):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return y.bfloat16().to(x.dtype), h
PYTHON
rnnscope compare --right rough.py:Rough""",
        says="computes in bfloat16 inside",
        torch="y = torch.stack(states)",
        theirs="y = torch.stack(states).bfloat16()",
        shows="The verdict is different: in its own dtype a side is further off than rounding explains. In float64 it "
        "shows that this is rounding: the difference jumps when the input is moved a little. A fault of the function "
        "would move smoothly. What is further off than even bfloat16 would be is hardly rounding: look for a "
        "branch for that dtype.",
        mends="Look for a tensor that is made in another dtype: .float(), torch.zeros without dtype=x.dtype, numpy, a "
        "constant. Or compare in that dtype: rounding to float32 inside is right in a network that runs in float32. If "
        "only gradients are off, start at First in.",
    ),
    _cause(
        name="rounding",
        does="the sides are the same function, and differ by rounding alone",
        command="rnnscope compare --right cells@cpu/float64",
        says="they differ by rounding alone",
        shows="The verdict is equivalent. Differences are of the size of the dtype's last bits. The table says how "
        "far each side is from the equations in float64, and how far rounding may move it.",
        mends="Nothing is wrong. A sum in another order rounds differently; no other implementation gives the same "
        "bits everywhere.",
    ),
)

_verdict = partial(Entry, sort="verdict")

VERDICTS: tuple[Entry, ...] = (
    _verdict(
        name="identical",
        does="the two sides are the same function, and every bit agrees",
        command="rnnscope compare --right module",
        says="Verdict: identical",
        shows="Exit code 0. Every difference is 0.",
    ),
    _verdict(
        name="equivalent",
        does="the two sides are the same function, and they differ by rounding alone",
        command="rnnscope compare --no-reference --right cells@cpu/float64",
        says="Verdict: equivalent",
        shows="Exit code 0. With --no-reference it says less: every element is within the tolerance.",
    ),
    _verdict(
        name="different",
        does="shapes or functions differ, NaN or infinity came out, a side computes worse than its arithmetic allows, "
        "or an element is over a given tolerance",
        command="rnnscope compare --no-reference --right deviation:W_hh-transposed",
        says="Verdict: different",
        shows="Exit code 1. JSON has the cause: shape, nonfinite, function, precision, or rounding where only a "
        "tolerance was too narrow.",
        mends="Read the cause: each has a page of its own.",
    ),
    _verdict(
        name="undecided",
        does="rounding alone may move these numbers so far that there is no answer",
        command=f"{_WILD}--seq-len 20 --dtype bfloat16",
        says="Verdict: undecided",
        shows="Exit code 2. A network with large weights doubles every error in a few steps, so that two correct runs "
        "drift apart. In bfloat16 and float16 that happens soon.",
        mends="Compare in float64 or float32, over fewer steps, with smaller weights, or with --resync, which "
        "compares every step by itself.",
    ),
)

_relation = partial(Entry, sort="relation")

# Their names are those of JSON. A line of code says what is equal, and the line beside it what people take for equal.
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
        shows="A class of your own is called up to 16 times on the first steps, with the same and with other random "
        "numbers. JSON has in calls what differs. Where chance is rare, it may hide longer.",
        mends="Pass self.training to dropout, and draw nothing else in evaluation mode.",
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
        shows="The first call is right, and a later one with the same input is not. A class of your own is called up "
        "to 16 times on the first steps, once with another input in between. A cache that changes no output is no "
        "finding. JSON has it in keeps_state and calls.",
        mends="Take the state from hx and return it, and let the caller carry it on. Change no weight in forward: a "
        "step of an optimizer, a norm or a statistic belongs under `if self.training`.",
    ),
    _relation(
        name="inputs_kept",
        does="x and the state are after a call what they were before it",
        command="""\
cat > writes.py <<'PYTHON'
from torch import nn
class Writes(nn.GRU):
    def forward(self, x, hx=None):
        x *= 0.5
        return super().forward(x, hx)
PYTHON
rnnscope check writes.py:Writes --only inputs_kept""",
        says="it is written into",
        torch="x = x * scale",
        theirs="x *= scale",
        shows="The first call may be right. The next call with the same x, of another module or of this one, gets "
        "other numbers.",
        mends="Make a new tensor, or write into x.clone(). A slice, a transpose and a view are x itself.",
    ),
    _relation(
        name="zero_state",
        does="a call without a state gives what a call from zeros gives, or from the state from which the module says "
        "that it starts",
        command="""\
cat > ones.py <<'PYTHON'
from torch import nn
class Ones(nn.RNN):
    def forward(self, x, hx=None):
        if hx is None:
            hx = x.new_ones(self.num_layers, x.shape[1], self.hidden_size)
        return super().forward(x, hx)
PYTHON
rnnscope check ones.py:Ones --only zero_state""",
        says="without a state it gives another result than from zeros",
        torch="hx = x.new_zeros(K, N, H) if hx is None else hx",
        theirs="hx = x.new_ones(K, N, H) if hx is None else hx",
        shows="Where hx is left out, and most in short sequences. An initial state that is learned is no fault: name "
        "its parameter h0, or give it by a method init_hidden(batch_size).",
        mends="Start from zeros of x's dtype and device, or say from what it starts.",
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
        name="layout",
        does="how x and the state lie in memory does not matter: views give what their copies give",
        command="""\
cat > memory.py <<'PYTHON'
import torch
from torch import nn
class Memory(nn.RNN):
    def forward(self, x, hx=None):
        strides = x.shape[1] * x.shape[2], x.shape[2], 1
        return super().forward(torch.as_strided(x, x.shape, strides), hx)
PYTHON
rnnscope check memory.py:Memory --only layout""",
        says="x with its dims transposed in memory gives another result",
        torch="x.reshape(L * N, H_in)",
        theirs="x.view(L * N, H_in)",
        shows="With a transposed x, such as one that was (N, L, H_in), with an expanded one, and with a slice of "
        "every other number. There view raises an error, and code that counts in strides gives other numbers.",
        mends="Use reshape instead of view, and x.contiguous() before code that reads memory.",
    ),
    _relation(
        name="item_isolation",
        does="what an item gives does not depend on the other items of its batch",
        command="""\
cat > normed.py <<'PYTHON'
from torch import nn
class Normed(nn.RNN):
    def forward(self, x, hx=None):
        return super().forward(x - x.mean(1, keepdim=True), hx)
PYTHON
rnnscope check normed.py:Normed --only item_isolation""",
        says="item 1 changes when item 0 does",
        torch="h = step(x[t], h)",
        theirs="h = step(x[t], h); h = (h - h.mean(0)) / h.std(0)",
        shows="An item gives other numbers in another batch. Against torch it shows as another function, and against "
        "itself not at all.",
        mends="Look for what is computed along dim N: a normalization, a maximum, a cumulative sum, a wrong view.",
    ),
    _relation(
        name="permutation",
        does="items in another order give the same results in that order",
        command="""\
cat > places.py <<'PYTHON'
import torch
from torch import nn
class Places(nn.RNN):
    def forward(self, x, hx=None):
        place = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        return super().forward(x + place, hx)
PYTHON
rnnscope check places.py:Places --only permutation""",
        says="what it gives depends on its place in the batch",
        torch="x + of_steps[:, None]  # (L, 1, H_in)",
        theirs="x + of_steps  # (L, H_in), where L is N",
        shows="No item changes another one, but each gives something else at another place. Often what belongs to "
        "steps is added to items, where N and L are equal or swapped.",
        mends="Look for what has N numbers and does not come from x: a buffer, torch.arange, an embedding of places.",
    ),
    _relation(
        name="batch_of_one",
        does="an item gives the same in a batch of one, and in one of any size",
        command="""\
cat > squeezes.py <<'PYTHON'
from torch import nn
class Squeezes(nn.RNN):
    def forward(self, x, hx=None):
        y, h = super().forward(x, hx)
        return y.squeeze(), h
PYTHON
rnnscope check squeezes.py:Squeezes --only batch_of_one""",
        says="something depends on N, such as a squeeze() or a mean over the batch",
        torch="h[-1]",
        theirs="h[-1].squeeze()",
        shows="With N = 1 a shape lacks a dim, or numbers are broadcast. Items are run alone, two at a time, and in a "
        "larger batch.",
        mends="Name the dim that is left out: h.squeeze(0). Look for code that tests whether N is 1, or divides by it.",
    ),
    _relation(
        name="unbatched",
        does="x without N gives what a batch of one gives",
        command="""\
cat > turned.py <<'PYTHON'
from torch import nn
class Turned(nn.RNN):
    def forward(self, x, hx=None):
        return super().forward(x.flip(0) if x.dim() == 2 else x, hx)
PYTHON
rnnscope check turned.py:Turned --only unbatched""",
        says="x without N gives another result than a batch of one",
        torch="y, h = rnn(x.unsqueeze(1)); y = y.squeeze(1)",
        theirs="y, h = rnn(x.unsqueeze(0)); y = y.squeeze(0)",
        shows="Only with x of shape (L, H_in). If dim N is added in front, each step becomes an item, and nothing is "
        "carried from step to step.",
        mends="Add N where it belongs: after L, or before it with batch_first. Then remove it from y and from the "
        "state.",
    ),
    _relation(
        name="causality",
        does="y at a step does not depend on x at later steps",
        command="""\
cat > ahead.py <<'PYTHON'
from torch import nn
class Ahead(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x + x.roll(-1, 0), hx)
PYTHON
rnnscope check ahead.py:Ahead --only causality""",
        says="it looks 1 step ahead",
        torch="nn.functional.pad(x, (2, 0))  # for a convolution over L of 3",
        theirs="nn.functional.pad(x, (1, 1))",
        shows="The module learns well, but cannot run while a sequence comes in. In the check, x changes from each "
        "step on. The page names an earlier step whose y changes, and says how far ahead it looks. A module that says "
        "bidirectional is not checked. Where only a part of it says so, and walks over time, --only causality checks "
        "it.",
        mends="Look for a convolution that is padded on both sides, a mask of attention, or a flip or roll over dim "
        "L. Look also for what is computed over all steps: a normalization or a softmax.",
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
        mends="Use h[-1], or h[-2] and h[-1] of both directions, as the summary of a sequence.",
    ),
    _relation(
        name="chunked",
        does="a sequence in chunks, each from the state after the one before, gives what it gives in one run",
        command="""\
cat > drops.py <<'PYTHON'
from torch import nn
class Drops(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x)
PYTHON
rnnscope check drops.py:Drops --only chunked""",
        says="the state that is handed on is not used",
        torch="y, hx = rnn(chunk, hx)",
        theirs="y, _ = rnn(chunk)",
        shows="From the second chunk on. A backward direction has no state to carry on. `rnnscope compare --chunk 2` "
        "carries the state of both sides.",
        mends="Pass hx of each chunk to the next one. Return all of it: h and c, a counter of steps, what a "
        "convolution has seen.",
    ),
    _relation(
        name="stepwise",
        does="step by step, each from the state after the one before, a module gives what it gives in one run",
        command="""\
cat > single.py <<'PYTHON'
from torch import nn
class Single(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x if len(x) > 1 else x / 2, hx)
PYTHON
rnnscope check single.py:Single --only stepwise --seq-len 8""",
        says="a single step is special to it",
        torch="for t in range(L): h = cell(x[t], h)",
        theirs="for t in range(L): h = cell(x[t], h0)",
        shows="Where a sequence comes in step by step, as when text is generated. `rnnscope compare --left cells "
        "--right module` compares a loop over cells with a module.",
        mends="Pass the h of each step to the next one; `rnnscope code` prints such a loop. Look for code that tests "
        "whether L is 1.",
    ),
    _relation(
        name="packed",
        does="a packed batch gives each item what it gives by itself: its state stops at its own last step",
        command="""\
cat > runs_on.py <<'PYTHON'
from torch import nn
from torch.nn.utils.rnn import pad_packed_sequence as pad
class RunsOn(nn.GRU):
    def forward(self, x, hx=None):
        x = pad(x)[0] if hasattr(x, 'batch_sizes') else x
        return super().forward(x, hx)
PYTHON
rnnscope check runs_on.py:RunsOn --only packed --lengths 3,2,1,1,1""",
        says="gives another result than alone in state",
        torch="h[-1, i] == y[lengths[i] - 1, i]",
        theirs="h[-1, i] == y[-1, i]",
        shows="y[-1] of a shorter item is padding, and a state that runs on is that of padding. `rnnscope trace "
        "--lengths 3,2,1` draws where each item ends.",
        mends="Pack with pack_padded_sequence, and take h; or index y by lengths - 1.",
    ),
    _relation(
        name="padding",
        does="y is 0 after the end of an item, and what x has there changes nothing",
        command="""\
cat > reads.py <<'PYTHON'
from torch import nn
class Reads(nn.GRU):
    def forward(self, x, lengths=None):
        return super().forward(x)
PYTHON
rnnscope check reads.py:Reads --only padding""",
        says="it reads the padding",
        torch="y[lengths[i]:, i] == 0",
        theirs="y[lengths[i]:, i] == y[lengths[i] - 1, i]",
        shows="In h of each shorter item, and in everything where x has NaN there. A module that takes lengths or a "
        "mask is given other numbers after the end of each item. `rnnscope compare --lengths 3,2,1` has a row for the "
        "padding of y.",
        mends="Mask the state, not y alone: torch.where(t < lengths, new, state).",
    ),
    _relation(
        name="precision",
        does="in its own dtype a module is as near to what it gives in float64 as rounding allows",
        command="""\
cat > cancels.py <<'PYTHON'
from torch import nn
class Cancels(nn.GRU):
    def forward(self, x, hx=None):
        y, h = super().forward(x, hx)
        return (y + 1e6) - 1e6, h
PYTHON
rnnscope check cancels.py:Cancels --only precision""",
        says="in float32 it is further from float64 than rounding explains",
        torch="(x - mean).square().mean()",
        theirs="x.square().mean() - mean.square()",
        shows="In float32, and in the dtype of --dtype. If the class is one of torch's networks, `rnnscope compare` "
        "says to which dtype it rounds inside.",
        mends="Look for the difference of two large numbers that are nearly the same, and for a tensor that is made "
        "in a coarser dtype. On a GPU, --no-tf32 switches TF32 off.",
    ),
    _relation(
        name="gradient_reach",
        does="a gradient arrives at every step of x, at the state, and at each parameter that moves the output",
        command="""\
cat > cut.py <<'PYTHON'
import torch
from torch import nn
class Cut(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)
    def forward(self, x, h=None):
        y = []
        for step in x:
            h = self.cell(step, None if h is None else h.detach())
            y.append(h)
        return torch.stack(y), h
PYTHON
rnnscope check cut.py:Cut --layers 1 --only gradient_reach""",
        says="no gradient arrives at",
        torch="h = cell(x[t], h)",
        theirs="h = cell(x[t], h.detach())",
        shows="Every output is right, but training learns nothing from earlier steps. x at a step changes y at later "
        "steps, and no gradient shows it.",
        mends="Look for detach(), .data, torch.no_grad, .item(), numpy and torch.tensor(...) in forward. To cut off "
        "the past, detach the state between two calls.",
    ),
    _relation(
        name="gradient",
        does="the gradients of autograd are the slopes of the outputs",
        command="""\
cat > halved.py <<'PYTHON'
import torch
from torch import nn
class Double(torch.autograd.Function):
    @staticmethod
    def forward(context, y):
        return 2 * y
    @staticmethod
    def backward(context, gradient):
        return gradient
class Halved(nn.GRU):
    def forward(self, x, hx=None):
        y, h = super().forward(x, hx)
        return Double.apply(y), h
PYTHON
rnnscope check halved.py:Halved --only gradient""",
        says="gradient is wrong for",
        torch="return 2 * gradient  # backward of 2 * y",
        theirs="return gradient",
        shows="Every output is right, but training takes another way. In float64 the slope along some random "
        "directions is measured by finite differences, and compared with autograd's.",
        mends="Look at each torch.autograd.Function of yours, and at what is written in place through .data. For two "
        "sides, `rnnscope compare --grad` names the first gradient that is off.",
    ),
    _relation(
        name="state_dict",
        does="its state_dict, loaded into a module that is built anew, makes that one give the same",
        command="""\
cat > forgets.py <<'PYTHON'
import torch
from torch import nn
class Forgets(nn.GRU):
    def __init__(self, *sizes, **more):
        super().__init__(*sizes, **more)
        self.scale = torch.rand(self.input_size)
    def forward(self, x, hx=None):
        return super().forward(x * self.scale.to(x), hx)
PYTHON
rnnscope check forgets.py:Forgets --only state_dict""",
        says="the state_dict lacks scale",
        torch="self.register_buffer('scale', torch.rand(H_in))",
        theirs="self.scale = torch.rand(H_in)",
        shows="It is right until it is saved and loaded. A plain tensor on self is in no state_dict, and moves to no "
        "other device or dtype.",
        mends="Make it a parameter, or a buffer by register_buffer, without persistent=False. Put a list of modules "
        "into an nn.ModuleList.",
    ),
    _relation(
        name="copies",
        does="copy.deepcopy and pickle make a module that gives the same, and shares nothing with the first one",
        command="""\
cat > scales.py <<'PYTHON'
from torch import nn
class Scales(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size)
        self.scale = lambda x: x / 2
    def forward(self, x, hx=None):
        return self.rnn(self.scale(x), hx)
PYTHON
rnnscope check scales.py:Scales --layers 1 --only copies""",
        says="pickle is refused",
        torch="def scale(self, x): return x / 2",
        theirs="self.scale = lambda x: x / 2",
        shows="Where a module is saved as a whole, sent to another process, or averaged with its past. pickle cannot "
        "copy a lambda, file or generator, and deepcopy no output that has a gradient. A tensor that both share "
        "changes both.",
        mends="Use methods instead of functions on self. Make what cannot be copied anew in __setstate__. detach() "
        "what you keep of a call.",
    ),
)

_blind_spot = partial(Entry, sort="blind spot")

BLIND_SPOTS: tuple[Entry, ...] = (
    _blind_spot(
        name="zero h0",
        does="whether the initial state is used, where h0 is zeros",
        command="rnnscope compare --h0 zeros",
        says="with --h0 zeros it does not show whether the initial state is used",
        shows="A side that ignores h0, or takes c0 for it, gives the same numbers.",
        mends="Compare with --h0 random, which is the default.",
    ),
    _blind_spot(
        name="one step from zeros",
        does="whether weight_hh is right, in one step from zeros",
        command="rnnscope compare --h0 zeros --seq-len 1",
        says="one step from --h0 zeros never uses weight_hh",
        shows="A side with a wrong weight_hh, transposed or of another layer, gives a difference of exactly 0.",
        mends="Compare two steps or more, or with --h0 random.",
    ),
    _blind_spot(
        name="one step of one item",
        does="whether batch and time are swapped, in one step of one item",
        command="rnnscope compare --seq-len 1 --batch 1",
        says="one step of one item does not show whether batch and time are swapped",
        shows="(1, 1, H) is the same shape either way, and so are the numbers.",
        mends="Compare two steps or more, and another number of items.",
    ),
    _blind_spot(
        name="one step backward",
        does="in which order the backward direction walks, in one step",
        command="rnnscope compare --seq-len 1 --bidirectional",
        says="one step does not show in which order the backward direction walks",
        shows="A backward direction that walks forward, or is not flipped back, gives the same numbers.",
        mends="Compare two steps or more.",
    ),
    _blind_spot(
        name="resync",
        does="faults of the loop, where every step is compared by itself",
        command="rnnscope compare --resync",
        says="--resync takes every step by itself, so the loop does not show",
        shows="Faults in h0, lengths, the order of time and padding do not show: each step starts from the "
        "reference's state.",
        mends="Compare without --resync too, over as few steps as keep rounding small.",
    ),
    _blind_spot(
        name="no recorded h0",
        does="whether the initial state is used, where no h0 was recorded and zeros were taken",
        command="""\
python -c "import torch; torch.save({'x': torch.randn(3, 5, 10)}, 'x.pt')"
rnnscope compare --inputs x.pt""",
        says="no h0 was recorded, so zeros were taken",
        shows="A side that ignores h0 gives the same numbers.",
        mends="Record h0, and c0 of an LSTM, beside x in the same file.",
    ),
    _blind_spot(
        name="no float64",
        does="small faults of a side that does not run in float64: in its own dtype they look like rounding",
        command="""\
cat > single.py <<'PYTHON'
from torch import float32, nn
class Single(nn.RNN):
    def forward(self, x, hx):
        assert x.dtype == float32
        return super().forward(x, hx)
PYTHON
rnnscope compare --right single.py:Single""",
        says="does not run in float64, so that it was judged in float32",
        shows="In float64 rounding is 10^-16 and a fault of 10^-9 shows. In float32 a fault must be over 10^-6 or so.",
        mends="Let the class take its dtype from x. Otherwise the page says within which bound no fault was found.",
    ),
    _blind_spot(
        name="rounding inside",
        does="faults that are smaller than the rounding of a side that rounds to another dtype inside",
        command="""\
cat > single.py <<'PYTHON'
from torch import nn
class Single(nn.RNN):
    def forward(self, x, hx):
        y, h = super().forward(x, hx)
        return y.float().to(x.dtype), h.float().to(x.dtype)
PYTHON
rnnscope compare --right single.py:Single""",
        says="rounds inside would not be seen",
        shows="In float64 rounding is 10^-16, and a fault of 10^-9 shows. Rounded to float32 it must be over 10^-6 or "
        "so.",
        mends="Let the class compute in the dtype of x, at least where it is compared in float64.",
    ),
    _blind_spot(
        name="memory of its own",
        does="what a class keeps from step to step besides hx, since it starts anew in every chunk",
        command="rnnscope compare --chunk 2 --right torch.nn:RNN",
        says="may keep from step to step besides hx starts anew in every chunk",
        shows="A class that counts steps, or keeps a state in itself, starts anew in each chunk. How it behaves over "
        "the whole sequence does not show, right or wrong.",
        mends="Compare without --chunk too, over as many steps as memory holds.",
    ),
    _blind_spot(
        name="late fault",
        does="a fault of the loop after the first steps, where rounding decides the later ones",
        command=f"{_CHAOTIC}--seq-len 50 --right items",
        says="steps would not be seen",
        shows="A network with large weights doubles every error in a few steps. So whole runs were compared over the "
        "first steps alone, and then every step by itself. A fault that needs a long run to appear shows in neither. "
        "All steps are compared with smaller weights too, where both sides take the weights that they are given. That "
        "finds a fault that begins at a step, but none that needs these very weights.",
        mends="Compare with smaller weights, such as those before training, or over no more steps than were compared "
        "as a whole.",
    ),
    _blind_spot(
        name="output not given",
        does="an output that a side does not give",
        command="""\
cat > tagger.py <<'PYTHON'
from torch import nn
class Tagger(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 3)
    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y)
PYTHON
rnnscope compare --kind gru --layers 1 --right tagger.py:Tagger""",
        says="h is not compared",
        shows="A class returns y alone, or has a head after it. A class with a head on its last step gives no y.",
        mends="Return (output, h_n), or (output, (h_n, c_n)), if the last state matters.",
    ),
    _blind_spot(
        name="gradient not given",
        does="a gradient that a side does not give",
        command="""\
cat > frozen.py <<'PYTHON'
from torch import nn
class Frozen(nn.RNN):
    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.bias_hh_l0.requires_grad_(False)
PYTHON
rnnscope compare --grad --right frozen.py:Frozen""",
        says="gives no gradient of bias_hh_l0",
        shows="A parameter has another name than torch's, does not learn, or is cut off by detach or no_grad.",
        mends="Name parameters as torch or StackedCells do, and let them learn.",
    ),
    _blind_spot(
        name="zero weights",
        does="whether a parameter of zeros is used, and how",
        command="""\
python -c "from torch import nn, save
weights = nn.GRU(10, 20).state_dict()
weights['bias_hh_l0'].zero_()
save(weights, 'from_keras.pt')"
rnnscope compare --weights from_keras.pt""",
        says="bias_hh_l0 is zeros: whether it is used, and how, does not show",
        shows="A side that drops the parameter, or adds it in another place, gives the same numbers. Weights that were "
        "converted from Keras often have such a bias_hh, and weights before training such biases.",
        mends="Compare on random weights too: leave --weights out.",
    ),
    _blind_spot(
        name="alike weights",
        does="in which order a parameter is read that has one number throughout",
        command="""\
python -c "from torch import full_like, nn, save
weights = nn.LSTM(10, 20).state_dict()
save({name: full_like(weights[name], 0.1) for name in weights}, 'tenths.pt')"
rnnscope compare --weights tenths.pt""",
        says="weight_ih_l0, weight_hh_l0, bias_ih_l0 and bias_hh_l0 have one number throughout",
        shows="A transposed matrix, gates in another order and reversed units give the same numbers.",
        mends="Compare on random weights too: leave --weights out.",
    ),
    _blind_spot(
        name="symmetric weights",
        does="whether a matrix is transposed that is its own transpose",
        command="""\
python -c "from torch import eye, nn, save
save(nn.RNN(10, 20).state_dict() | {'weight_hh_l0': eye(20)}, 'irnn.pt')"
rnnscope compare --weights irnn.pt""",
        says="weight_hh_l0 is its own transpose",
        shows="h @ W and h @ W.T give the same numbers. The identity, with which some RNNs begin, is such a matrix.",
        mends="Compare on random weights too: leave --weights out.",
    ),
    _blind_spot(
        name="equal weights",
        does="whether two parameters, layers or directions are swapped, where they are equal",
        command="""\
python -c "from torch import nn, save
weights = nn.GRU(10, 20).state_dict()
weights['bias_hh_l0'].copy_(weights['bias_ih_l0'])
save(weights, 'equal.pt')"
rnnscope compare --weights equal.pt""",
        says="equal weights in bias_ih_l0 and bias_hh_l0: whether swapped does not show",
        shows="A GRU with both biases swapped, layers in reverse order and directions swapped give the same numbers.",
        mends="Compare on random weights too: leave --weights out.",
    ),
    _blind_spot(
        name="zero input",
        does="whether an x of zeros is used, and how",
        command="""\
python -c "import torch
torch.save({'x': torch.zeros(3, 5, 10), 'h0': torch.randn(2, 5, 20)}, 'x.pt')"
rnnscope compare --inputs x.pt""",
        says="x is zeros: whether it is used, and how, does not show",
        shows="A side that ignores x, or has a wrong weight_ih in layer 0, gives the same numbers.",
        mends="Compare on a random x: leave --inputs out, or draw it with torch.randn.",
    ),
    _blind_spot(
        name="alike input",
        does="in which order an input is read that has one number throughout",
        command="""\
python -c "import torch
torch.save({'x': torch.ones(3, 5, 10), 'h0': torch.randn(2, 5, 20)}, 'x.pt')"
rnnscope compare --inputs x.pt""",
        says="x has one number throughout",
        shows="A side that takes the steps, items or features of x in another order gives the same numbers.",
        mends="Compare on a random x: leave --inputs out, or draw it with torch.randn.",
    ),
    _blind_spot(
        name="dead units",
        does="what feeds a unit of a relu, where the unit is 0 at every step",
        command="""\
python -c "from torch import nn, save
weights = nn.RNN(10, 20).state_dict()
weights['bias_ih_l0'][3] = -9
save(weights, 'dead.pt')"
rnnscope compare --weights dead.pt --nonlinearity relu""",
        says="0 at every step: unit",
        shows="A wrong number in the unit's rows of weight_ih, weight_hh and the biases gives the same, as long as the "
        "unit stays at 0. So does one in the columns that read it.",
        mends="Compare over more steps and items, or with other seeds.",
    ),
    _blind_spot(
        name="reached range",
        does="a clip or a threshold beyond the numbers that were reached, and what begins at later steps",
        command="rnnscope compare --kind lstm --right torch.nn:LSTM",
        says="a clip or a threshold beyond that would not be seen",
        shows="A class may clip c at 3, clip gate sums at 10, or reset its state at step 10. It gives the same "
        "numbers if no number and no step comes that far. The page says the range where a class of your own is a side.",
        mends="Add --stress: it compares once more on the same input 30 times as large, over 20 steps or more.",
    ),
)
