"""benedekrozemberczki/pytorch_geometric_temporal#298: BatchedDCRNN convolves the graph of the first item alone.

The nodes of all items lie behind each other in one axis, and edge_index names the nodes of one graph. So only the
first item's nodes get anything from their neighbours; the others pass through the weights as if they had none. The
report proposes edge_index + k·num_nodes for item k. It has neither figures nor a tolerance.
"""

from typing import Any

import torch
from graveyard.grave import Bug, Checked, Tensors
from torch import Tensor, nn

NODES, FEATURES, HIDDEN, L, N = 20, 2, 8, 12, 4
"""Two features of each sensor over an hour, as in the traffic data this class is shown with; 207 sensors there."""


class DConv(nn.Module):
    """A diffusion convolution of K = 2: each node, and its neighbours in both directions of the edges."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, in_channels, out_channels) / in_channels**0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, edge_index: Tensor, norm_out: Tensor, norm_in: Tensor) -> Tensor:
        row, col = edge_index
        to_col = torch.zeros_like(x).index_add(0, col, norm_out[:, None] * x[row])
        to_row = torch.zeros_like(x).index_add(0, row, norm_in[:, None] * x[col])
        here = x @ (self.weight[0, 0] + self.weight[1, 0])
        return here + to_col @ self.weight[0, 1] + to_row @ self.weight[1, 1] + self.bias


class BatchedDCRNN(nn.Module):
    """A GRU whose products are diffusion convolutions; x is (N, L, nodes, features)."""

    edge_index: Tensor
    edge_weight: Tensor

    def __init__(self, edge_index: Tensor, edge_weight: Tensor, faulty: bool) -> None:
        super().__init__()
        self.conv_x_z, self.conv_x_r, self.conv_x_h = (DConv(FEATURES + HIDDEN, HIDDEN) for _ in range(3))
        self.register_buffer("edge_index", edge_index)
        self.register_buffer("edge_weight", edge_weight)
        self.faulty = faulty

    def graph(self, batch_size: int, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
        row, col = self.edge_index
        nothing = self.edge_weight.new_zeros(num_nodes)
        norm_out = 1 / nothing.index_add(0, row, self.edge_weight)[row]
        norm_in = 1 / nothing.index_add(0, col, self.edge_weight)[col]
        if self.faulty:
            return self.edge_index, norm_out, norm_in
        items = torch.arange(batch_size).repeat_interleave(len(row))
        edge_index = self.edge_index.repeat(1, batch_size) + items * num_nodes
        return edge_index, norm_out.repeat(batch_size), norm_in.repeat(batch_size)

    def forward(self, x: Tensor) -> Tensor:
        batch_size, seq_length, num_nodes, _ = x.shape
        graph = self.graph(batch_size, num_nodes)
        h, outputs = x.new_zeros(batch_size * num_nodes, HIDDEN), []
        for t in range(seq_length):
            step = x[:, t].flatten(0, 1)
            both = torch.cat((step, h), 1)
            z, r = self.conv_x_z(both, *graph).sigmoid(), self.conv_x_r(both, *graph).sigmoid()
            h = z * h + (1 - z) * self.conv_x_h(torch.cat((step, r * h), 1), *graph).tanh()
            outputs.append(h.unflatten(0, (batch_size, num_nodes)))
        return torch.stack(outputs, 1)


def make(faulty: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    ring = torch.arange(NODES)
    edge_index = torch.stack((ring.repeat(2), torch.cat((ring.roll(-1), ring.roll(-5)))))
    return BatchedDCRNN(edge_index, torch.rand(2 * NODES) + 0.5, faulty), torch.randn(N, L, NODES, FEATURES), None


def by_hand(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensors, Tensors]:
    return {"y": module(x.flip(0)).flip(0)}, {"y": module(x)}


BUG = Bug(
    report="benedekrozemberczki/pytorch_geometric_temporal#298",
    told="a batched graph GRU has edges for the first item alone, so that the other items see no neighbours",
    half=2,
    form=Checked(make, by_hand, more={"batch_first": True}),
    named="permutation",
    place={"tensor": "y", "step": 0},
)
