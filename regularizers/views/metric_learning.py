"""Centers of classes in the losses of pytorch-metric-learning, which own their classifier."""

from typing import Any

from comhe.regularizers.neurons import View, register_neurons


@register_neurons("pytorch_metric_learning.losses.*")
def _centers(module: Any) -> View:
    """A row per class. Of several centers per class the first ones are a set, the second ones another, and so on:
    those of one class belong together, and a penalty on all of them would drive them apart."""
    parameters = dict(module.named_parameters(recurse=False))
    columns = [parameters[name].mT for name in ("W", "weight", "fc") if name in parameters]
    centers = [parameters["proxies"]] if "proxies" in parameters else columns
    if len(centers) != 1:
        return {}
    each = getattr(module, "sub_centers", 1) * getattr(module, "centers_per_class", 1)
    return centers[0] if each == 1 else centers[0].unflatten(0, (-1, each)).transpose(0, 1)
