"""Hyperspherical-energy regularization for any PyTorch model; it needs torch alone. See :func:`create_regularizer`.

What is no weight of a layer has an energy, too. Features of a batch: rows that crowd together have a high one, and
descending it spreads them over the sphere.

>>> import torch
>>> from torch import nn
>>> from comhe.regularizers import create_regularizer, hyperspherical_energy, register_neurons
>>> features = nn.Sequential(nn.Linear(10, 8))(torch.randn(32, 10))
>>> loss = 0.1 * hyperspherical_energy(features, s=0)

Class prototypes, as a matrix that no layer of torch owns: a view makes their module a layer like any other.

>>> class Prototypes(nn.Module):
...     def __init__(self, classes, dim):
...         super().__init__()
...         self.directions = nn.Parameter(torch.randn(classes, dim))
...     def forward(self, features):
...         return nn.functional.normalize(features) @ nn.functional.normalize(self.directions).mT
>>> @register_neurons(Prototypes)
... def view(module):
...     return module.directions
>>> model = nn.Sequential(nn.Linear(10, 8), Prototypes(5, 8))
>>> [(layer.name, layer.role) for layer in create_regularizer("mhe", model).layers]
[('0', 'hidden'), ('1', 'output')]
>>> regularizer = create_regularizer("mhe", model[1])  # of the prototypes alone

Embeddings are skipped unless they are asked for; ``sample`` bounds the cost of a large vocabulary.

>>> vocabulary = nn.Embedding(2000, 16)
>>> regularizer = create_regularizer("mhe", vocabulary, kinds="embedding", sample=256, output=None)
>>> loss = 1.0 + regularizer()
"""

from . import views as views  # registers the layers of other libraries
from .combine import CombinedRegularizer, combine
from .diagnostics import Diagnostics, diagnose, effective_rank
from .draws import Draws
from .energies.cosines import cosines
from .energies.energy import hyperspherical_energy
from .flow import output_layers
from .neurons import NoNeuronsError, neurons, register_neurons
from .penalties.adv_comhe import AdversarialProjection
from .penalties.ap_comhe import AnglePreservingProjection
from .penalties.dso import dso
from .penalties.group_comhe import GroupProjection
from .penalties.hs_mhe import HalfSpaceMHE
from .penalties.mc import mc
from .penalties.mgd import mgd
from .penalties.mhc import mhc
from .penalties.mhe import MHE
from .penalties.mhp import mhp
from .penalties.mhs import mhs
from .penalties.mma import mma
from .penalties.none import NoPenalty
from .penalties.ocnn import ocnn
from .penalties.orthogonal import orthogonal
from .penalties.orthonormal import orthonormal
from .penalties.orthoreg import orthoreg
from .penalties.penalty import Penalty
from .penalties.rp_comhe import RandomProjection
from .penalties.so import so
from .penalties.srip import srip
from .penalties.uniformity import uniformity
from .registry import (
    check_regularizer,
    create_regularizer,
    list_regularizers,
    register_regularizer,
    regularizer_options,
)
from .regularizer import Regularizer
from .structure import RegularizerWarning

__all__ = [
    "MHE", "AdversarialProjection", "AnglePreservingProjection", "CombinedRegularizer", "Diagnostics", "Draws",
    "GroupProjection", "HalfSpaceMHE", "NoNeuronsError", "NoPenalty", "Penalty", "RandomProjection", "Regularizer",
    "RegularizerWarning",
    "check_regularizer", "combine", "cosines", "create_regularizer", "diagnose", "dso", "effective_rank",
    "hyperspherical_energy", "list_regularizers", "mc", "mgd", "mhc", "mhp", "mhs", "mma", "neurons", "ocnn",
    "orthogonal", "orthonormal", "orthoreg", "output_layers", "register_neurons", "register_regularizer",
    "regularizer_options", "so", "srip", "uniformity",
]  # fmt: skip
