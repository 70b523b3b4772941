"""What is known of the terms under which each data set is given away, for the cards of what was trained on it."""

from __future__ import annotations

_CIFAR = "no licence is stated; its author asks to cite Krizhevsky, Learning Multiple Layers of Features, 2009"
_CITATIONS = "MIT (files of github.com/kimiyoung/planetoid); the texts behind them are their authors'"
_BUILT_IN = "MIT, made by this package"
LICENCES = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "citations": _BUILT_IN,
    "citeseer": _CITATIONS,
    "cora": _CITATIONS,
    "folder": "its owner's",
    "glyphs": _BUILT_IN,
    "imagenet": "for non-commercial research and education; the images are their owners'",
    "modelnet40": "for academic research; the models are their authors', the labels are given freely",
    "pubmed": _CITATIONS,
    "solids": _BUILT_IN,
}


def licence(name: str) -> str:
    """The note for a data set, whatever its split; "unknown" for one that has none."""
    return LICENCES.get(name.split(":")[0].split("-")[0], "unknown")
