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


class Model(nn.Module):
    """A model of a class of its own, with these attributes."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def linear(*widths):
    layers = mlp(*widths)
    return layers[0] if len(layers) == 1 else layers
