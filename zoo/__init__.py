"""Networks by name, one folder per domain, and pretrained weights by name.

>>> create_model("gcn", in_channels=1433, num_classes=7)
>>> create_model("gcn", weights="cora-rp-comhe")
"""

from .cards import Weights, get_weights, list_weights
from .registry import create_model, list_models, model_domain, register_model
from .state import read_state
from .weights import Loaded, load_weights

__all__ = [
    "Loaded",
    "Weights",
    "create_model",
    "get_weights",
    "list_models",
    "list_weights",
    "load_weights",
    "model_domain",
    "read_state",
    "register_model",
]
