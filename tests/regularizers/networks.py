"""Networks of a few layers whose output layer is in question."""

from itertools import pairwise

from torch import nn

from comhe.regularizers.selection import select


def outputs(model, **selection):
    return [layer.name for layer in select(model, **selection).layers if layer.role == "output"]


def with_attributes(**modules):
    model = nn.Module()
    for name, module in modules.items():
        model.add_module(name, module)
    return model


def mlp(*widths):
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
