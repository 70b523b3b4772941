import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from comhe.errors import ComheError, UsageError, WeightsError, did_you_mean, few

from .console import print_table, tell
from .options import Command, DataRoot, Json, WhichWeights, print_json

if TYPE_CHECKING:
    from torch import Tensor, nn

USED = {  # options by what they are for, and the kinds of that
    "weights": ("a run folder", ["run"]),
    "key": ("a file of several state dicts", ["file"]),
    "seed": ("the name of a model", ["model", "graph model"]),
    "data": ("the name of a graph model", ["graph model"]),
}


@dataclass(frozen=True, kw_only=True)
class Energy(Command):
    """Diagnose how the neurons of each layer lie on the sphere: energies, angles, coherence, rank, dead neurons.

    Layers stand in the order of the network; those of a .safetensors file of others, which has no order, by name.
    """

    examples = (
        "comhe energy airbench94.cifar10-rp-comhe",
        "comhe energy runs/kipf/gcn.cora-none/seed0",
        "comhe energy cnn9 --seed 1",
    )

    source: Annotated[
        Positional[str],
        arg(metavar="WEIGHTS", help="a run folder, a file with a state dict, or a name of weights or of a model"),
    ]
    weights: WhichWeights = "best"
    key: Annotated[
        str | None, arg(metavar="NAME", help="which of several state dicts in a file, as state_dict_ema")
    ] = None
    data: Annotated[
        str, arg(metavar="NAME", help="for the name of a graph model: the data set that decides its width")
    ] = "citations"
    seed: Annotated[int, arg(metavar="SEED", help="for the name of a model: seed of its initialization")] = 0
    data_root: DataRoot = None
    json: Json = False

    def run(self) -> None:
        from comhe.regularizers import diagnose
        from comhe.regularizers.diagnostics import TITLES

        kind = kind_of(self.source)
        for option, (what, kinds) in USED.items():
            if kind not in kinds:
                self.only_for(what, option)
        layers = layers_of(self.source, self.weights, self.data, self.seed, self.data_root, self.key)
        found = {name: (w, diagnose(w)) for name, w in layers.items() if w.shape[-2] >= 2}
        if single := layers.keys() - found.keys():
            tell(f"{self.source}: left out {few(sorted(single))}: one neuron has no angle with another")
        if self.json:
            return print_json([{"layer": name, "neurons": w.shape, **asdict(d)} for name, (w, d) in found.items()])
        lines = [[name, " x ".join(map(str, w.shape)), *d.cells()] for name, (w, d) in found.items()]
        print_table(self.source, ["layer", "neurons", *TITLES], lines)


def kind_of(source: str) -> str:
    """Return what has neurons: a run, a file of others, published weights, a model or a graph model."""
    from comhe.zoo import list_models, list_weights, model_domain
    from comhe.zoo.cards import FILES, has_card, is_path, is_shared
    from comhe.zoo.state import weights_file

    path = weights_file(source)
    if path.is_dir():
        return "run"
    if is_shared(source) or source in list_weights() or (path.is_file() and has_card(path)):
        return "weights"
    if path.is_file():
        return "file"
    if source not in list_models():
        if is_path(source) or source.lower().endswith(FILES):
            raise UsageError(f"{source}: no such file or folder")
        many = "`comhe list models` and `comhe list weights` show the names"
        hint = did_you_mean(source, [*list_models(), *list_weights()], many)
        raise UsageError(f"{source!r} is neither a folder, nor a file, nor the name of weights or a model; {hint}")
    return "graph model" if model_domain(source) == "graphs" else "model"


def layers_of(
    source: str, which: str, data: str, seed: int, root: str | None, key: str | None = None
) -> "dict[str, Tensor]":
    """Return the sets of neurons by layer; in a file of others all tensors of two or more dimensions named *weight."""
    import torch

    from comhe.train.recipe import get_recipe
    from comhe.train.runs.run import Run
    from comhe.train.task import make_task
    from comhe.zoo import create_model, get_weights, read_state
    from comhe.zoo.state import weights_file

    path, kind = weights_file(source), kind_of(source)
    if kind == "run":
        run = Run(path)
        return _of_weights(source, run.weights(which), run.recipe().model, run.result().get("options", {}))
    if kind == "file":
        return _of_state(source, read_state(path, key))
    if kind == "weights":
        weights = get_weights(source)
        return _of_weights(source, weights.state_dict(), weights.model, weights.options)
    torch.manual_seed(seed)
    if kind == "graph model":  # the data decide its width
        return _of_network(make_task(get_recipe(None, source, data, "none"), root).model())
    return _of_network(create_model(source))


def _of_weights(source: str, state: "dict[str, Tensor]", model: str, options: dict[str, Any]) -> "dict[str, Tensor]":
    from comhe.zoo import create_model, load_weights

    try:
        network = create_model(model, **options)
        load_weights(network, state)
    except ComheError:  # it is registered by a module that was not imported, or was built with other options
        return _of_state(source, state)
    return _of_network(network)


def _of_network(model: "nn.Module") -> "dict[str, Tensor]":
    from comhe.regularizers.selection import KINDS, called, select

    layers, skipped = select(model, kinds=KINDS)
    names = {layer.name for layer in layers}
    if others := [
        f"{called(item.name)} ({item.reason.partition(';')[0]})" for item in skipped if item.name not in names
    ]:
        tell(f"left out {few(others)}")
    return {layer.name: layer.neurons().detach() for layer in layers}


def _of_state(source: str, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Matrices of a state dict, in its order; one that safetensors has sorted by name counts in numbers."""
    from comhe.zoo.adapters.reparametrized import plain_weights
    from comhe.zoo.registry import natural_key

    with suppress(WeightsError):  # parametrized in a way that tensors do not tell
        state, _ = plain_weights(state)
    matrices = {name: w.flatten(1) for name, w in state.items() if w.is_floating_point() and w.dim() >= 2}
    found = {name: _sets(name, matrices) for name in matrices if re.search(r"weight$|weight_ih(_l0)?$", name)}
    if not found:
        raise UsageError(f"{source} has no weight matrix: no tensor of two or more dimensions that is named *weight")
    if others := [name for name, w in matrices.items() if name not in found and len(w) >= 2]:
        tell(f"{source}: left out {few(others)}: what is not named *weight may have no neurons as its rows")
    if [*found] == sorted(found):
        return {name: found[name] for name in sorted(found, key=natural_key)}
    return found


def _sets(name: str, matrices: "Mapping[str, Tensor]") -> "Tensor":
    """The rows of a matrix; the gates of an RNN, and the queries, keys and values of attention, are sets of their own.

    Matrices of the hidden state tell its width (``hr``, where an LSTM projects it), and so the number of gates.
    """
    w, count = matrices[name], 1
    if name.endswith("in_proj_weight"):
        count = 3
    elif ending := re.search(r"_ih(_l0)?$", name):
        others = (name[: ending.start()] + ending[0].replace("ih", part) for part in ("hr", "hh"))
        width = next((matrices[other].shape[1] for other in others if other in matrices), len(w))
        count = len(w) // width
    return w.unflatten(0, (count, -1)) if count in (3, 4) and len(w) % count == 0 else w
