"""Entry points of ``torch.hub.load(REPOSITORY, "gcn", weights="cora-rp-comhe")``: every model of the zoo."""

from functools import partial

from zoo import create_model, get_weights, list_models, list_weights, load_weights  # noqa: F401

dependencies = ["torch", "torchvision", "torch_geometric", "safetensors"]
globals().update({name: partial(create_model, name) for name in list_models()})
