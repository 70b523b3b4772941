"""Maximum hyperspherical polarization and coverage: penalties that look at the neurons from a learned pole."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from comhe.regularizers.draws import random_matrix
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.energies.energy import check_neurons, exact, single
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .penalty import PenaltyRegularizer

COVERAGE = 10.0  # g of the coverage's soft minimum


def mhp(w: Tensor, pole: Tensor) -> Tensor:
    r"""Mean inverse squared distance of the neurons' directions from a pole.

    .. math:: \frac{1}{N} \sum_i \frac{1}{2 - 2 \langle v, u_i \rangle}

    Shapes: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...]. Source: Liu et al., *Learning with
    Hyperspherical Uniformity*, AISTATS 2021.
    """
    squared = _squared_distances(w, pole)
    floor = _floor(squared)
    # Below the floor 1 / x goes on along its tangent, so that a neuron at the pole is still pushed away.
    tangent = (2 - squared / floor) / floor
    return torch.where(squared > floor, squared.clamp_min(floor).reciprocal(), tangent).mean(-1)


def mhc(w: Tensor, pole: Tensor) -> Tensor:
    r"""Soft minimum of the squared distances of the neurons' directions from a pole.

    .. math:: -\frac{1}{g} \log \frac{1}{N} \sum_i e^{-g (2 - 2 \langle v, u_i \rangle)}, \qquad g = 10

    Shapes: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...]. Source: Liu et al., AISTATS 2021.
    """
    squared = _squared_distances(w, pole)
    return -((-COVERAGE * squared).logsumexp(-1) - math.log(squared.shape[-1])) / COVERAGE


def _floor(squared: Tensor) -> float:
    return 8 * torch.finfo(squared.dtype).eps


def _squared_distances(w: Tensor, pole: Tensor) -> Tensor:
    check_neurons(w)
    w = single(w)
    if pole.shape[-1] != w.shape[-1]:
        raise ValueError(f"the pole must have d = {w.shape[-1]} entries, not {pole.shape[-1]}")
    return 2 - 2 * (directions(w) @ directions(pole.to(w.dtype))[..., None])[..., 0]


class PoleRegularizer(PenaltyRegularizer):
    """A penalty with a pole for each layer, which takes ``steps`` gradient steps of its own before each call.

    Args:
        steps: gradient steps on the pole per call.
        rate: their learning rate; the pole is put back on the sphere after each.
    """

    ascends = False
    ordered = True

    def __init__(self, model: nn.Module, *, steps: int = 1, rate: float = 0.1, **options) -> None:
        super().__init__(model, **options)
        if steps < 1 or not rate > 0:
            raise ValueError(f"steps must be at least 1 and rate positive, not {steps} and {rate}")
        self.steps, self.rate = steps, rate
        for layer in self.layers:
            self.register_buffer(_key(layer), self._start(layer))

    def prepare(self) -> None:
        for layer in self.own:
            w = single(layer.neurons().detach())
            pole = self._buffers[_key(layer)]
            # A model that was on the meta device when the regularizer was attached has its weights only now.
            pole = self._start(layer) if pole.is_meta else pole.to(w.device)
            with torch.no_grad(), exact(w):
                u = directions(w)
                for _ in range(self.steps):
                    slope = (self.pull(2 - 2 * (u @ pole[..., None])[..., 0])[..., None] * -2 * u).sum(-2)
                    slope = slope - pole * (slope * pole).sum(-1, keepdim=True)  # along the sphere
                    pole = directions(pole + (self.rate if self.ascends else -self.rate) * slope)
            self.carry(_key(layer), pole)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        """Derivative of the penalty with respect to each neuron's squared distance from the pole, [..., N]."""
        raise NotImplementedError("a PoleRegularizer defines pull()")

    def _start(self, layer: Layer) -> Tensor:
        w = layer.neurons().detach()
        shape = (*w.shape[:-2], w.shape[-1])
        start = directions(random_matrix(shape, "gaussian", "cpu", self.seed, layer.name))
        return start.to(w.device, single(w[..., :0, :0]).dtype)

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        return self.function(w, self._buffers[_key(layer)])


@register_regularizer("mhp")
class Polarization(PoleRegularizer):
    """:func:`mhp` of every layer; the pole seeks the emptiest place, as the neurons flee it. Weight: ours."""

    function = staticmethod(mhp)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return -squared.clamp_min(_floor(squared)).square().reciprocal() / squared.shape[-1]


@register_regularizer("mhc")
class Coverage(PoleRegularizer):
    r"""The largest hole between the neurons: :math:`\max_v` :func:`mhc`, which the neurons lessen. Weight: ours."""

    ascends = True
    function = staticmethod(mhc)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return (-COVERAGE * squared).softmax(-1)


def _key(layer: Layer) -> str:
    return f"pole:{layer.name.replace('.', '/')}"
