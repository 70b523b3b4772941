"""Lists of edges against the sparse matrices that they stand for."""

import torch

from comhe.zoo.graphs import EdgeMatrix, gcn_norm
from comhe.zoo.graphs.edges import self_looped


def test_repeated_edges_are_summed_and_dropout_keeps_the_expectation():
    matrix = EdgeMatrix(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), torch.tensor([1.0, 2.0, 4.0]), 2)
    d = torch.eye(2)
    assert matrix.mm(d).tolist() == [[0, 3], [4, 0]]
    assert matrix.dropout(0.0) is matrix.dropout(0.5, training=False) is matrix
    torch.manual_seed(0)
    mean = torch.stack([matrix.dropout(0.5).mm(d) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, matrix.mm(d), atol=0.3, rtol=0)


def test_every_node_gets_one_self_loop():
    edges = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 2]])
    assert self_looped(edges, 4, None, torch.float32).mm(torch.eye(4)).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]
    weighted = self_looped(edges, 4, torch.tensor([3.0, 5.0, 4.0, 0.5]), torch.float64).mm(torch.eye(4).double())
    assert weighted.diagonal().tolist() == [1, 5, 0.5, 1]
    assert (weighted[1, 0], weighted[0, 1]) == (3, 4)


def test_the_operator_of_an_exported_program_is_that_of_the_network():
    class Norm(torch.nn.Module):
        def forward(self, d, edges, weight):
            return gcn_norm(edges, len(d), weight).mm(d)

    edges, weight = torch.tensor([[0, 1, 1, 2, 2], [1, 1, 0, 3, 3]]), torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    program = torch.export.export(Norm(), (torch.eye(5), edges, weight)).module()
    torch.testing.assert_close(program(torch.eye(5), edges, weight), gcn_norm(edges, 5, weight).to_dense())
