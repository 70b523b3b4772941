"""The output layer: which layer of a model is its classifier.

``output="auto"`` asks in this order, and takes the first answer:

1. the library: timm's ``get_classifier()`` and ``default_cfg["classifier"]``, Transformers' ``get_output_embeddings()``
   and what stands outside the base model, torchvision's classification head of a detector;
2. the name: ``classifier``, ``head``, ``fc``, ``logits``, ... right below the model, and the last layer in it. A name
   decides only if no layer registered later takes its outputs, by shape;
3. the shapes: the last weight matrix whose number of outputs is no other layer's number of inputs, else the last one.

Heads side by side in one container (:func:`.branches.branch_ends`) are all output layers, and so are all matrices that
make the output of one of PyTorch Geometric's convolutions (:mod:`.views.messages`). Where other layers may be the
output as well, a warning lists them; :func:`.output_layers` finds the right ones in a forward pass. A model that only
wraps another one, as peft, Lightning and DistributedDataParallel do, is looked into. Frozen and averaged networks
beside the one that is trained (:mod:`.copies`) never count, nor do auxiliary heads (``aux...``), gates, routers and
modulations, unless the model has no other end. A classifier that is a bare parameter without a view is not replaced by
another layer, nor is one that has been taken away: feature extractors have no output layer (:mod:`.headless`), and the
report says so. A frozen classifier keeps its role, and no other layer gets it.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn
from torch.nn.parameter import is_lazy

from comhe.errors import UsageError, warn

from .branches import Matrix, below, children, together, unwrapped
from .computed import walk
from .copies import copies
from .guesses import GUESSES, WEAK, by_name, by_shape, is_named, last_in, without_aside
from .headless import HEADS, headless
from .libraries import asked, by_library


def listed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names or globs that were given as a sequence, or as one text with commas between.

    Example:
        >>> listed("fc,blocks.*"), listed(["fc"])
        (('fc', 'blocks.*'), ('fc',))
    """
    if isinstance(names, str):
        return tuple(filter(None, map(str.strip, re.split(r",(?![^\[]*\])", names))))  # [1,2] is part of a glob
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise UsageError(f"layers and kinds are given as text, one or several, not {name!r}")
    return found


class Outputs(NamedTuple):
    """The names of the output layers and how each was found; or the name of a module, and why there is none."""

    found: dict[str, str]
    missing: tuple[str, str] | None = None


def find_outputs(model: nn.Module, matrices: Sequence[Matrix], output: str | Iterable[str] | None) -> Outputs:
    """The output layers of a model.

    Args:
        matrices: every weight matrix of the model, in order of registration.
        output: globs of names, names of modules for the last layer in each, ``"auto"``, or None for no output layer.

    Raises:
        UsageError: a glob names no layer.

    Example:
        >>> model = nn.ModuleDict({"fc": nn.Linear(4, 3), "body": nn.Linear(5, 4)})
        >>> matrices = [Matrix("fc", frozenset({4}), frozenset({3})), Matrix("body", frozenset({5}), frozenset({4}))]
        >>> find_outputs(model, matrices, "auto").found
        {'fc': 'by its name'}
    """
    if output in (None, "none", "None"):
        return Outputs({})
    names = [matrix.name for matrix in matrices if matrix.role != "bare"]
    if output != "auto":
        found: dict[str, str] = {}
        for glob in listed(output):
            matching = [name for name in names if fnmatchcase(name, glob)] or _of_module(model, glob, matrices)
            bare = [m.name for m in matrices if m.role == "bare" and fnmatchcase(m.name, glob)]
            if not matching and bare:
                raise UsageError(f"output={glob!r} names {bare[0]}, which is skipped: {_to_view(model, bare[0])}")
            if not matching and names:
                there = ", ".join(name or "(the model itself)" for name in names)
                raise UsageError(f"output={glob!r} names no layer; the model has {there}")
            found |= dict.fromkeys(matching, f"named by output={glob!r}")
        return Outputs(found)
    missing = None
    prefix, core, beside = _core(model, matrices)
    matrices = [m for m in matrices if not any(below(m.name, name) for name in beside)]
    if any(m.role != "bare" for m in matrices):
        matrices = [m for m in matrices if not _is_table(model, m)]
    possible = without_aside([m for m in matrices if below(m.name, prefix) and m.role != "inner"], prefix, matrices)
    for ask in itertools.chain((by_library, by_name), itertools.repeat(by_shape)):
        if not possible:
            break
        answer = ask(core, prefix, possible, matrices)
        if answer is None:
            possible = [] if ask is by_shape else possible
            continue
        guesses = (headless(model, name, beside) for name, how in answer.items() if how in GUESSES)
        why = next(filter(None, guesses), None)
        if why is not None:
            missing = missing or why[1:]
            is_last = isinstance(core, nn.Sequential) and why.owner == [path for path, _ in children(core, prefix)][-1]
            possible = [m for m in possible if not (is_last or below(m.name, why.owner))]  # a head may be elsewhere
        elif answer:
            taken = [m for m in possible if m.name in answer]
            hows = {m.group: answer[m.name] for m in taken}
            answer = {m.name: answer.get(m.name, hows[m.group]) for m in together(taken, possible)}
            return Outputs(_viewed(model, answer, possible))
        else:
            return Outputs({}, (prefix, f"{type(core).__name__} has no classifier, so there is no output layer"))
    return Outputs({}, missing)


def _is_table(model: nn.Module, matrix: Matrix) -> bool:
    """Whether a square parameter is a table, as the transitions of a CRF: the model's own, or one of several."""
    if matrix.role != "bare" or len(matrix.inputs) != 1:
        return False
    parameters = dict(walk(model))[matrix.name]._parameters if matrix.name else {}
    return not matrix.name or len(parameters) > 1 or any("trans" in name for name in parameters)


def _of_module(model: nn.Module, path: str, matrices: Sequence[Matrix]) -> list[str]:
    """The output of a module: its last layers, and all that make it together with them."""
    possible = [m for m in matrices if m.role not in ("bare", "inner")]
    lasts = last_in(unwrapped(model), "", possible, path)
    return [m.name for m in together([m for m in possible if m.name in lasts], possible)]


def _viewed(model: nn.Module, answer: dict[str, str], possible: Sequence[Matrix]) -> dict[str, str]:
    bare = {m.name for m in possible if m.role == "bare"} & set(answer)
    for name in bare:
        warn(
            f"the output layer seems to be {name or 'the model itself'}, which is skipped (see the report): "
            f"{_to_view(model, name)}; until then all layers are hidden"
        )
    return {name: how for name, how in answer.items() if name not in bare}


def _to_view(model: nn.Module, name: str) -> str:
    """What makes a layer of a module that has no view."""
    module = dict(walk(model)).get(name)
    if module is not None and any(map(is_lazy, module.parameters())):
        return "it is lazy, so call the model once before"
    if type(module) is nn.Module:  # as torch.export leaves it
        return "attach the regularizer to the model before it is exported, or name another one with output="
    return "give it a view with register_neurons or name another one with output="


def _core(model: nn.Module, matrices: Sequence[Matrix]) -> tuple[str, nn.Module, list[str]]:
    """The model below its wrappers, as long as one child has all matrices and the model itself no answer; and what
    stands beside it."""
    prefix, core, beside = "", unwrapped(model), list[str]()
    while asked(core) is None:
        if not isinstance(core, nn.Sequential):
            beside += copies(core, prefix, matrices, (*HEADS, *WEAK))
        rest = [m for m in matrices if not any(below(m.name, name) for name in beside)]
        full = [(name, child) for name, child in children(core, prefix) if any(below(m.name, name) for m in rest)]
        inside = len(full) == 1 and all(below(m.name, full[0][0]) for m in rest)
        if is_named(core) or not inside or isinstance(core, (nn.Sequential, nn.ModuleList)):
            break
        prefix, core = full[0]
    return prefix, core, beside
