"""Hyperspherical-energy regularization for any PyTorch model: the penalties, and the plug that attaches them.

Needs torch and nothing else. Start with :func:`create_regularizer`; the bare energy is :func:`hyperspherical_energy`.
"""

from .diagnostics import Diagnostics, diagnose, effective_rank
from .draws import Draws
from .energies.cosines import cosines
from .energies.energy import hyperspherical_energy
from .neurons import NoNeuronsError, neurons, register_neurons
from .penalties.adv_comhe import AdversarialProjection
from .penalties.ap_comhe import AnglePreservingProjection
from .penalties.dso import DoubleSoftOrthogonality, dso
from .penalties.energy_penalty import EnergyPenalty
from .penalties.group_comhe import GroupProjection
from .penalties.hs_mhe import HalfSpaceMHE
from .penalties.mc import MutualCoherence, mc
from .penalties.mgd import GramDeterminant, mgd
from .penalties.mhc import Coverage, mhc
from .penalties.mhe import MHE
from .penalties.mhp import Polarization, mhp
from .penalties.mhs import Separation, mhs
from .penalties.mma import MinimalAngle, mma
from .penalties.none import NoPenalty
from .penalties.ocnn import OrthogonalConvolution, ocnn
from .penalties.orthogonal import Orthogonal, orthogonal
from .penalties.orthonormal import Orthonormal, orthonormal
from .penalties.orthoreg import OrthoReg, orthoreg
from .penalties.penalty import Member, Penalty
from .penalties.rp_comhe import RandomProjection
from .penalties.so import SoftOrthogonality, so
from .penalties.srip import SpectralIsometry, srip
from .penalties.uniformity import Uniformity, uniformity
from .registry import (
    check_regularizer,
    create_regularizer,
    list_regularizers,
    register_regularizer,
    regularizer_options,
)
from .regularizer import LayerPenalty, Regularizer
from .report import LayerReport, Report
from .selection import Layer, Skipped

__all__ = [
    "MHE",
    "AdversarialProjection",
    "AnglePreservingProjection",
    "Coverage",
    "Diagnostics",
    "DoubleSoftOrthogonality",
    "Draws",
    "EnergyPenalty",
    "GramDeterminant",
    "GroupProjection",
    "HalfSpaceMHE",
    "Layer",
    "LayerPenalty",
    "LayerReport",
    "Member",
    "MinimalAngle",
    "MutualCoherence",
    "NoNeuronsError",
    "NoPenalty",
    "OrthoReg",
    "Orthogonal",
    "OrthogonalConvolution",
    "Orthonormal",
    "Penalty",
    "Polarization",
    "RandomProjection",
    "Regularizer",
    "Report",
    "Separation",
    "Skipped",
    "SoftOrthogonality",
    "SpectralIsometry",
    "Uniformity",
    "check_regularizer",
    "cosines",
    "create_regularizer",
    "diagnose",
    "dso",
    "effective_rank",
    "hyperspherical_energy",
    "list_regularizers",
    "mc",
    "mgd",
    "mhc",
    "mhp",
    "mhs",
    "mma",
    "neurons",
    "ocnn",
    "orthogonal",
    "orthonormal",
    "orthoreg",
    "register_neurons",
    "register_regularizer",
    "regularizer_options",
    "so",
    "srip",
    "uniformity",
]
