"""mead-ml/mead-baseline#677: putting a batch back in its order overwrites items that are still to be moved.

The items are sorted by length for packing, and scattered back into the very tensor that they are read from. Which items
come out twice depends on the order of the lengths. With batches of 10 half of the outputs of a seq2seq model were not
those of single examples. torch refuses such a scatter by now, so the faulty side does what it did: it moves item by
item. The thread counts outputs, and has no tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

H_IN, H, LENGTHS = 12, 16, (3, 7, 2, 9, 5, 8, 1, 6, 4, 9)
B, T = len(LENGTHS), max(LENGTHS)


def unsort_batch(batch: Tensor, perm_idx: Tensor, in_place: bool) -> Tensor:
    """batch: (B, ...), sorted by perm_idx: (B)."""
    if not in_place:
        return torch.zeros_like(batch).index_copy(0, perm_idx, batch)
    for i, j in enumerate(perm_idx.tolist()):
        batch[j] = batch[i].clone()
    return batch


class LSTMEncoder(nn.Module):
    """An LSTM over (B, T, H_IN) and lengths: (B) in any order."""

    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.faulty, self.batch_first = faulty, True
        self.rnn = nn.LSTM(H_IN, H, num_layers=2, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1])
        lengths, perm_idx = lengths.sort(0, descending=True)
        packed = pack_padded_sequence(x[perm_idx], lengths.cpu(), batch_first=True)
        output, hidden = self.rnn(packed)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        output = unsort_batch(output.clone(), perm_idx, self.faulty)
        h, c = (unsort_batch(each.transpose(0, 1).clone(), perm_idx, self.faulty).transpose(0, 1) for each in hidden)
        return output, (h, c)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(677)
    return LSTMEncoder(faulty), torch.randn(B, T, H_IN), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    """A batch, and each of its items alone."""
    y, (h, c) = module(x, torch.tensor(LENGTHS))
    alone = [module(x[i : i + 1, :length], torch.tensor([length])) for i, length in enumerate(LENGTHS)]
    padded = [nn.functional.pad(each, (0, 0, 0, T - each.shape[1])) for each, _ in alone]
    expected = {
        "y": torch.cat(padded),
        "h": torch.cat([each for _, (each, _) in alone], 1),
        "c": torch.cat([each for _, (_, each) in alone], 1),
    }
    return expected, {"y": y, "h": h, "c": c}


BUG = Bug(
    report="mead-ml/mead-baseline#677",
    told="the items of a batch are put back in their order in place, so that some overwrite others",
    half=1,
    form=Checked(make, by_hand, {"batch_first": True}),
    named="padding",
    place={"tensor": "y", "step": 0},
)
