"""State dicts of graph convolutional networks in the usual layouts, by the names of this zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = re.compile(r"(?P<name>(?:gc|conv|convs\.)(?P<number>\d+))\.(?P<part>lin\.weight|weight|bias)")


def convert_gcn(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``convs.0.lin.weight`` [out, in], ``convs.0.bias`` ... of a layout below; any other state dict as it is.

    ====================================  ===========================================  =================
    tkipf/pygcn                           ``gc1.weight`` [in, out], ``gc1.bias``       layers from 1
    PyTorch Geometric before 2.0          ``conv1.weight`` [in, out], ``conv1.bias``   as its user named them
    PyTorch Geometric, its example        ``conv1.lin.weight`` [out, in], ...          layers from 1
    ====================================  ===========================================  =================

    The layers keep their order. pygcn divides the rows of the adjacency by their sums, where Kipf's paper and this zoo
    divide by square roots of both degrees: its weights give its logits here only with its own operator.
    """
    matches = {name: _LAYER.fullmatch(name) for name in state}
    if not all(matches.values()):
        return state
    order = sorted({int(match["number"]) for match in matches.values()})
    result = {}
    for name, match in matches.items():
        layer = f"convs.{order.index(int(match['number']))}"
        tensor = state[name]
        if match["part"] == "bias":
            result[f"{layer}.bias"] = tensor
        else:
            result[f"{layer}.lin.weight"] = tensor.t() if match["part"] == "weight" else tensor
    return result
