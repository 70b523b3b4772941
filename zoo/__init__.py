"""Networks by name, one folder per domain, and pretrained weights by name."""

from comhe.errors import needs

with needs("zoo", __name__):
    from .cards import Weights, get_weights, list_weights
    from .catalog import list_models, model_domain, model_options
    from .factory import create_model, load_weights
    from .registry import register_model
    from .saving import push_to_hub, save_pretrained
    from .state import read_state
    from .weights import Loaded

__all__ = [
    "Loaded",
    "Weights",
    "create_model",
    "get_weights",
    "list_models",
    "list_weights",
    "load_weights",
    "model_domain",
    "model_options",
    "push_to_hub",
    "read_state",
    "register_model",
    "save_pretrained",
]
