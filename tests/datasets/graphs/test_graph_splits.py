"""Splits of graphs are fixed, full or drawn from a seed."""

import torch

from comhe.datasets import load_graph


def test_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_graph("citations-random3")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = load_graph("citations-random3")
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.test, again.test)


def test_seeds_differ_and_full_keeps_the_test_nodes():
    fixed, full, zero, one = (load_graph(f"citations{split}") for split in ("", "-full", "-random0", "-random1"))
    assert not torch.equal(zero.train, one.train)
    assert not torch.equal(zero.test, one.test)
    assert torch.equal(fixed.val, full.val)
    assert torch.equal(fixed.test, full.test)
    assert len(full.train) + len(full.val) + len(full.test) == full.num_nodes
    assert torch.equal(zero.edge_index, one.edge_index)
