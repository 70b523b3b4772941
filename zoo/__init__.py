"""Networks by name, one folder per domain.

>>> create_model("gcn", in_channels=1433, num_classes=7)
"""

from .registry import create_model, list_models, model_domain, register_model
from .weights import load_weights

__all__ = ["create_model", "list_models", "load_weights", "model_domain", "register_model"]
