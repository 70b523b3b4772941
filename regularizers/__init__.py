"""Hyperspherical-energy regularization for any PyTorch model: the penalties, and the plug that attaches them.

Needs torch and nothing else. Start with :func:`create_regularizer`; the bare energy is :func:`hyperspherical_energy`.
"""

from .diagnostics import Diagnostics, diagnose, effective_rank
from .energies.cosines import cosines
from .energies.energy import hyperspherical_energy
from .neurons import NoNeuronsError, neurons, register_neurons
from .penalties.dso import double_soft_orthogonality
from .penalties.group_comhe import GroupProjection
from .penalties.learned import AdversarialProjection, AnglePreservingProjection
from .penalties.mc import mutual_coherence
from .penalties.mgd import mgd
from .penalties.mhe import MHE, EnergyRegularizer, HalfSpaceMHE, NoRegularizer
from .penalties.mhs import mhs
from .penalties.mma import mma
from .penalties.ocnn import ocnn
from .penalties.orthogonal import orthogonal
from .penalties.orthonormal import orthonormal
from .penalties.orthoreg import orthoreg
from .penalties.penalty import PenaltyRegularizer
from .penalties.poles import mhc, mhp
from .penalties.rp_comhe import RandomProjection
from .penalties.so import soft_orthogonality
from .penalties.srip import srip
from .penalties.uniformity import uniformity
from .registry import create_regularizer, list_regularizers, register_regularizer, regularizer_options
from .regularizer import Regularizer

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
