"""Entry points of ``torch.hub.load(REPOSITORY, "gcn", weights="cora-rp-comhe")``: every model of the zoo."""

from functools import partial
from pathlib import Path

import comhe

# The hub puts this folder on the path, where `comhe` is found; its four folders stand beside it.
if (_root := str(Path(__file__).parent)) not in comhe.__path__:
    comhe.__path__.append(_root)

from comhe.zoo import create_model, get_weights, list_models, list_weights, load_weights  # noqa: F401

dependencies = ["torch", "torchvision", "torch_geometric", "numpy", "PIL", "plyfile", "safetensors"]
globals().update({name: partial(create_model, name) for name in list_models()})
