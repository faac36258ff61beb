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
        does="an export fails or gives another shape at the sizes of the run, though it runs at those it was made at",
        command="rnnscope compare --kind gru --layers 1 --right exported",
        says="the right side (exported) is frozen",
        shows="The verdict is different, and no numbers are compared: the table has what it does at the sizes of the "
        "run and at those at which it was made. Why has the runtime's own sentence. Adapted says how sizes were asked "
        "to stay dynamic, and which ways the exporter refused.",
        mends="Make one export for each L, or pad to the L it was made at. Or take one that keeps L and N: rnnscope "
        "help exports lists which do. --traced-at 7,3 says at which L and N an export is made; they differ from the "
        "run's by default, since at the same sizes nothing that is frozen shows.",
    ),
    _cause(
        name="shape",
        does="an output or a gradient of the right side has another shape than the left side's",
        command="rnnscope compare --h0 zeros --right deviation:batch-and-time-swapped",
        says="the shapes of h differ",
        torch="y: (L, N, D·H_out)   h: (D·K, N, H_out)",
        theirs="y: (N, L, D·H_out)   h: (N, D·K, H_out)",
        shows="The verdict is different, and nothing else is compared: the table has both shapes of the output.",
        mends="See which dim is elsewhere: rnnscope shapes says which tensor has which shape, and why. Often N and L "
        "are swapped, h was moved with batch_first, or a dim of 1 is missing.",
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
        mends="Look at the step that First at names: rnnscope trace --values prints its numbers. With relu, states can "
        "grow without limit; float16 ends at 65504.",
    ),
    _cause(
        name="function",
        does="the sides are not the same function: in float64 they are further apart than rounding explains",
        command="rnnscope compare --right deviation:W_hh-transposed",
        says="not the same function",
        shows="The verdict is different. The page says which side does not compute torch's equations, where it parts "
        "from them first, and which known deviation computes just what it does.",
        mends="Where a line begins with Why, mend that. Where it is the weights, a table says which of them differ. "
        "Otherwise start at First at, which names the earliest layer and step, and the gate if it is one alone; --map "
        "shows where the rest is. Where only gradients differ, start at First in.",
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
        shows="The verdict is different: in the dtype in which it runs a side is further off than rounding explains. "
        "That it is rounding shows in float64, where the difference jumps when the input is moved a little. A fault of "
        "the function would move smoothly.",
        mends="Look for a tensor that is made in another dtype: .float(), torch.zeros without dtype=x.dtype, numpy, a "
        "constant. Or compare in that dtype: rounding inside to float32 is right in a network that runs in float32.",
    ),
    _cause(
        name="rounding",
        does="the sides are the same function, and nothing but rounding parts them",
        command="rnnscope compare --right cells@cpu/float64",
        says="they differ by rounding alone",
        shows="The verdict is equivalent. Differences are of the size of the dtype's last bits, and the table says how "
        "far each side is from the equations in float64 and how far rounding may move it.",
        mends="Nothing is wrong. Sums in another order round otherwise; no other implementation gives the same bits "
        "everywhere.",
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
        does="shapes differ, NaN or infinity came out, the sides are not the same function, one computes worse than "
        "its arithmetic allows, or an element is over a tolerance that was given",
        command="rnnscope compare --no-reference --right deviation:W_hh-transposed",
        says="Verdict: different",
        shows="Exit code 1. JSON has the cause: shape, nonfinite, function, precision, or rounding where only a "
        "tolerance was too narrow.",
        mends="Read the cause: each has a page of its own.",
    ),
    _verdict(
        name="undecided",
        does="rounding alone may move these numbers so far that nothing can be told",
        command=f"{_WILD}--seq-len 20 --dtype bfloat16",
        says="Verdict: undecided",
        shows="Exit code 2. A network with large weights doubles every error in a few steps, so that two correct runs "
        "part; in bfloat16 and float16 that happens soon.",
        mends="Compare in float64 or float32, over fewer steps, with smaller weights, or by --resync, which takes "
        "every step by itself.",
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

_blind_spot = partial(Entry, sort="blind spot")

BLIND_SPOTS: tuple[Entry, ...] = (
    _blind_spot(
        name="zero h0",
        does="with zeros for h0 it does not show whether the initial state is used",
        command="rnnscope compare --h0 zeros",
        says="with --h0 zeros it does not show whether the initial state is used",
        shows="A side that ignores h0, or takes c0 for it, gives the same numbers.",
        mends="Compare with --h0 random, which is the default.",
    ),
    _blind_spot(
        name="one step from zeros",
        does="one step from zeros never uses weight_hh",
        command="rnnscope compare --h0 zeros --seq-len 1",
        says="one step from --h0 zeros never uses weight_hh",
        shows="A side with a wrong weight_hh, transposed or of another layer, gives a difference of exactly 0.",
        mends="Compare two steps or more, or with --h0 random.",
    ),
    _blind_spot(
        name="one step of one item",
        does="one step of one item does not show whether batch and time are swapped",
        command="rnnscope compare --seq-len 1 --batch 1",
        says="one step of one item does not show whether batch and time are swapped",
        shows="(1, 1, H) is the same shape either way, and so are the numbers.",
        mends="Compare two steps or more, and another number of items.",
    ),
    _blind_spot(
        name="one step backward",
        does="one step does not show in which order the backward direction walks",
        command="rnnscope compare --seq-len 1 --bidirectional",
        says="one step does not show in which order the backward direction walks",
        shows="A backward direction that walks forward, or is not flipped back, gives the same numbers.",
        mends="Compare two steps or more.",
    ),
    _blind_spot(
        name="resync",
        does="a comparison that takes every step by itself does not see the loop",
        command="rnnscope compare --resync",
        says="--resync takes every step by itself, so the loop does not show",
        shows="Faults in h0, lengths, the order of time and padding do not show: each step is fed the reference's "
        "state.",
        mends="Compare without --resync too, over as few steps as keep rounding small.",
    ),
    _blind_spot(
        name="no recorded h0",
        does="where no h0 was recorded, zeros were taken, and whether the initial state is used does not show",
        command="""\
python -c "import torch; torch.save({'x': torch.randn(3, 5, 10)}, 'x.pt')"
rnnscope compare --inputs x.pt""",
        says="no h0 was recorded, so zeros were taken",
        shows="A side that ignores h0 gives the same numbers.",
        mends="Record h0, and c0 of an LSTM, beside x in the same file.",
    ),
    _blind_spot(
        name="no float64",
        does="a side that does not run in float64 is judged in its own dtype, where small faults look like rounding",
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
        mends="Let the class take its dtype from x. Otherwise the page says within which bound nothing was found.",
    ),
    _blind_spot(
        name="rounding inside",
        does="a side that rounds to another dtype inside hides faults that are smaller than that rounding",
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
        does="what a class keeps from step to step besides hx starts anew in every chunk",
        command="rnnscope compare --chunk 2 --right torch.nn:RNN",
        says="may keep from step to step besides hx starts anew in every chunk",
        shows="A class that counts steps, or keeps a state in itself, starts from nothing in each chunk: neither its "
        "faults nor its right answers over the whole sequence show.",
        mends="Compare without --chunk too, over as many steps as memory holds.",
    ),
    _blind_spot(
        name="late fault",
        does="where rounding decides the later steps, a fault of the loop behind the first ones would not be seen",
        command=f"{_CHAOTIC}--seq-len 50 --right items",
        says="steps would not be seen",
        shows="A network with large weights doubles every error in a few steps. So whole runs were compared over the "
        "first steps alone, and every step by itself: a fault that needs a long run to appear is in neither. All steps "
        "are compared with smaller weights too, where both sides take the weights that they are given. That finds a "
        "fault that sets in at a step, but none that needs these very weights.",
        mends="Compare with smaller weights, such as those before training, or over no more steps than were compared "
        "as a whole.",
    ),
    _blind_spot(
        name="output not given",
        does="an output that a side does not give is not compared",
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
        shows="A class returns y alone, or has a head behind it; one with a head on its last step gives no y.",
        mends="Return (output, h_n), or (output, (h_n, c_n)), if the last state matters.",
    ),
    _blind_spot(
        name="gradient not given",
        does="a gradient that a side does not give is not compared",
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
        does="whether a parameter of zeros is used, and how, does not show",
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
        does="in which order a parameter of one number throughout is read does not show",
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
        does="whether a matrix that is its own transpose is transposed does not show",
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
        does="whether two parameters, layers or directions are swapped does not show where they are equal",
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
        does="whether an x of zeros is used, and how, does not show",
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
        does="in which order an input of one number throughout is read does not show",
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
        does="what feeds a unit of a relu that is 0 at every step hardly shows",
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
        does="a clip or a threshold beyond the numbers that were reached, and what begins later, would not be seen",
        command="rnnscope compare --kind lstm --right torch.nn:LSTM",
        says="a clip or a threshold beyond that would not be seen",
        shows="A class that clips c at 3, clips gate sums at 10, or resets its state at step 10 gives the same numbers "
        "where no number and no step comes that far. The range is told where a class of yours is a side.",
        mends="Add --stress: it asks once more on the same input 30 times as large, over 20 steps or more.",
    ),
)
