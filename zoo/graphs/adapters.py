"""State dicts of graph convolutional networks in the usual layouts, by the names of this zoo."""

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = re.compile(r"(?:gc|conv|convs\.)(?P<number>\d+)\.(?P<tensor>lin\.weight|weight|bias)")


def adapt_gcn(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename ``convs.0.lin.weight`` [out, in], ``convs.0.bias`` ... from a layout below; return any other as it is.

    ====================================  ===========================================  =================
    tkipf/pygcn                           ``gc1.weight`` [in, out], ``gc1.bias``       layers from 1
    PyTorch Geometric before 2.0          ``conv1.weight`` [in, out], ``conv1.bias``   as its user named them
    PyTorch Geometric, its example        ``conv1.lin.weight`` [out, in], ...          layers from 1
    ====================================  ===========================================  =================

    The layers keep their order. pygcn divides the rows of the adjacency by their sums, where Kipf's paper and this zoo
    divide by square roots of both degrees: its weights give its logits here only with its own operator.
    """
    matches = {name: match for name in state if (match := _LAYER.fullmatch(name))}
    if len(matches) < len(state):
        return state
    order = sorted({int(match["number"]) for match in matches.values()})
    result = {}
    for name, match in matches.items():
        layer = f"convs.{order.index(int(match['number']))}"
        if match["tensor"] == "bias":
            result[f"{layer}.bias"] = state[name]
        else:
            result[f"{layer}.lin.weight"] = state[name].t() if match["tensor"] == "weight" else state[name]
    return result
