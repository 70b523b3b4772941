"""Hyperspherical-energy regularization for any PyTorch model; it needs torch alone. See :func:`create_regularizer`."""

from . import views as views  # registers the layers of other libraries
from .diagnostics import Diagnostics, diagnose, effective_rank
from .draws import Draws
from .energies.cosines import cosines
from .energies.energy import hyperspherical_energy
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

__all__ = [
    "MHE", "AdversarialProjection", "AnglePreservingProjection", "Diagnostics", "Draws", "GroupProjection",
    "HalfSpaceMHE", "NoNeuronsError", "NoPenalty", "Penalty", "RandomProjection", "Regularizer",
    "check_regularizer", "cosines", "create_regularizer", "diagnose", "dso", "effective_rank",
    "hyperspherical_energy", "list_regularizers", "mc", "mgd", "mhc", "mhp", "mhs", "mma", "neurons", "ocnn",
    "orthogonal", "orthonormal", "orthoreg", "register_neurons", "register_regularizer", "regularizer_options",
    "so", "srip", "uniformity",
]  # fmt: skip
