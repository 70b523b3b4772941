"""Hyperspherical-energy regularization for any PyTorch model: the penalties, and the plug that attaches them.

Needs torch and nothing else. Start with :func:`create_regularizer`; the bare energy is :func:`hyperspherical_energy`.
"""

from .comhe_group import GroupProjection
from .comhe_learned import AdversarialProjection, AnglePreservingProjection
from .comhe_random import RandomProjection
from .cosines import cosines
from .diagnostics import Diagnostics, diagnose, effective_rank
from .double_soft_orthogonality import double_soft_orthogonality
from .energy import hyperspherical_energy
from .mgd import mgd
from .mhe import MHE, EnergyRegularizer, HalfSpaceMHE, NoRegularizer
from .mhs import mhs
from .mma import mma
from .mutual_coherence import mutual_coherence
from .neurons import NoNeuronsError, neurons, register_neurons
from .ocnn import ocnn
from .orthogonal import orthogonal
from .orthonormal import orthonormal
from .orthoreg import orthoreg
from .penalty import PenaltyRegularizer
from .poles import mhc, mhp
from .registry import create_regularizer, list_regularizers, register_regularizer, regularizer_options
from .regularizer import Regularizer
from .soft_orthogonality import soft_orthogonality
from .srip import srip
from .uniformity import uniformity

__all__ = [
    "MHE",
    "AdversarialProjection",
    "AnglePreservingProjection",
    "Diagnostics",
    "EnergyRegularizer",
    "GroupProjection",
    "HalfSpaceMHE",
    "NoNeuronsError",
    "NoRegularizer",
    "PenaltyRegularizer",
    "RandomProjection",
    "Regularizer",
    "cosines",
    "create_regularizer",
    "diagnose",
    "double_soft_orthogonality",
    "effective_rank",
    "hyperspherical_energy",
    "list_regularizers",
    "mgd",
    "mhc",
    "mhp",
    "mhs",
    "mma",
    "mutual_coherence",
    "neurons",
    "ocnn",
    "orthogonal",
    "orthonormal",
    "orthoreg",
    "register_neurons",
    "register_regularizer",
    "regularizer_options",
    "soft_orthogonality",
    "srip",
    "uniformity",
]
