"""All data sets by name: registering one, loading one, and the names that there are."""

import inspect
import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from comhe.errors import UsageError, check_choice, did_you_mean, is_again

from .graphs.graph import Graph
from .images.sets import ImageFiles, Images
from .io.files import data_root
from .points.clouds import Clouds

DataSet = Images | ImageFiles | Clouds | Graph
Domain = Literal["images", "points", "graphs"]
TYPES: dict[str, tuple[type, ...]] = {"images": (Images, ImageFiles), "points": (Clouds,), "graphs": (Graph,)}
_NAME = re.compile(
    r"(?P<base>.+?)(-random(?P<seed>0|[1-9][0-9]{0,8})|-split(?P<split>0|[1-9][0-9]{0,3}))?(-up-(?P<up>[xyz]))?"
    r"(:(?P<path>.+))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Entry:
    name: str
    load: Callable[..., DataSet]
    license: str
    parameters: frozenset[str]
    about: str = ""

    @property
    def names(self) -> list[str]:
        """The names to list: with a seed, a split and a path if the loader takes them."""
        path = ":PATH" if "path" in self.parameters else ""
        marks = [mark for mark, name in (("-random0", "seed"), ("-split0", "split")) if name in self.parameters]
        return [f"{self.name}{mark}{path}" for mark in ("", *marks)]


_REGISTRY: dict[str, dict[str, _Entry]] = {domain: {} for domain in TYPES}


def register_dataset(
    name: str, domain: Domain, load: Callable[..., DataSet] | None = None, *, license: str = "unknown", about: str = ""
) -> Callable[..., Any]:
    """Register a function that loads a data set, so that its name works wherever a built-in one does.

    The function returns an ``Images``, ``Clouds`` or ``Graph``, each of which has ``from_arrays``. It is called with
    those of these arguments that it takes: ``root``, the ``Path`` of the data root; ``seed`` of a random split, which
    is 7 for ``NAME-random7`` and None for ``NAME``; ``split``, which is 7 for ``NAME-split7``, of data with several;
    ``path``, the ``Path`` in ``NAME:PATH``; and ``workers``, the number of processes that may decode files. Without
    ``load``, ``register_dataset`` is a decorator. ``license`` goes into the cards of models that are trained on the
    data, ``about`` into lists of data sets; it says what the data are and how many, by default as the function does.

    Example:
        >>> import torch
        >>> @register_dataset("coins", domain="images", license="CC0")
        ... def load_coins(seed=None):
        ...     pixels, labels = torch.zeros(20, 8, 8, 3, dtype=torch.uint8), torch.arange(20) % 2
        ...     return Images.from_arrays("coins", train=(pixels, labels), test=(pixels, labels), seed=seed)
        >>> load_images("coins-random3")
        Images('coins-random3', shape=(3, 8, 8), classes=2, train=18, val=2, test=20)
        >>> unregister_dataset("coins", domain="images")
    """
    if not isinstance(name, str):
        raise TypeError(f"register_dataset needs a name: write @register_dataset('my-data', 'images'), not {name!r}")
    if load is None:
        return partial(register_dataset, name, domain, license=license, about=about)
    check_choice("domain", domain, TYPES)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or re.search(r"(-random\d*|-split\d*|-up-[xyz])$", name):
        raise UsageError(f"{name!r} cannot be the name of a data set: use letters, digits, '_', '.' and '-'")
    if name in _REGISTRY[domain] and not is_again(load, _REGISTRY[domain][name].load):
        raise UsageError(f"{domain} already has a data set {name!r}; register this one under another name")
    _REGISTRY[domain][name] = _Entry(name, load, license, frozenset(inspect.signature(load).parameters), about)
    return load


def unregister_dataset(name: str, domain: Domain) -> None:
    """Remove a data set from the registry, for example at the end of a test."""
    del _REGISTRY[domain][name]


def load_images(name: str, root: str | Path | None = None, workers: int | None = None) -> Images | ImageFiles:
    """Load images, and download them first if they are missing.

    - ``cifar10``, ``cifar100``: ROOT/cifar-100-python.tar.gz as published, or extracted to ROOT/cifar-100-python, or
      ``ROOT/cifar100/{train,test}/<class>/*``.
    - ``glyphs``, ``digits``: letters and digits, generated; need no file.
    - ``imagenet``: ILSVRC 2012 as ``ROOT/imagenet/{train,val}/<class>/*``; its ``val`` is the test split.
    - ``folder:PATH``: ``PATH/{train,val,test}/<class>/*`` (also ``valid``, ``validation``); a ``val`` without ``test``
      is the test split. ``PATH/<class>/*``, of which a fifth is drawn to test. Images that ``PATH/labels.csv`` lists.
      Tiny ImageNet, and an extracted CIFAR archive.

    Small images are held in memory (``Images``) if most have one size, to which the others are resized (to cover it;
    the center is cropped). Larger ones are read when needed (``ImageFiles``). If a set has
    no validation images, a tenth of each class is held out of its training images (a fifth in ``glyphs``, a hundredth
    in ``imagenet``), always the same ones; ``cifar100-random3`` or ``folder-random3:PATH`` draws them with that seed.

    ``root`` is the data root (:func:`data_root`); ``workers`` processes decode files, by default one a processor.
    A MissingDataError says that files cannot be downloaded, a DataError that they are damaged or of another set.

    Example:
        >>> load_images("digits")
        Images('digits', shape=(3, 16, 16), classes=10, train=2000, val=500, test=1000)
    """
    return _load(name, "images", root, workers)


def load_points(name: str, root: str | Path | None = None, up: str | None = None) -> Clouds:
    """Load point clouds, and download them first if they are missing.

    - ``modelnet40``: [n, P, 3], from the first of ``modelnet40_ply_hdf5_2048`` (the one that is downloaded),
      ``modelnet40_hdf5_2048`` and ``modelnet40_hdf5_1024`` in the root, unchanged; y is up.
    - ``modelnet40-normals``: [n, 10000, 6], from ``modelnet40_normal_resampled`` in the root; y is up.
    - ``solids``, ``solids-normals``: [n, 1024, 3 or 6], generated; 2,016 to train, 504 to validate and 1,008 to test.
    - ``modelnet10``: [n, 2048, 3], from the meshes in ROOT/ModelNet10/<class>/{train,test}/; z is up.
    - ``scanobjectnn``, ``scanobjectnn-objects`` (without background), ``scanobjectnn-hardest``: [n, 2048, 3], from
      ROOT/h5_files; y is up.
    - ``folder:PATH``: [n, 2048, 3], from meshes and clouds in PATH/{train,val,test}/<class>/,
      PATH/<class>/{train,test}/ or PATH/<class>/, of which a fifth is drawn to test; z is up, as in ModelNet's
      meshes. Or [n, P, 3], from HDF5 files in PointNet's or ScanObjectNN's layout; y is up. ``up``, or the name
      ``folder-up-y:PATH``, says if another axis is: nothing is turned, but the set, its augmentation and the cards of
      networks that it trains know it.

    Clouds are centered and scaled to the unit sphere (those of ``modelnet40`` were by their authors). If there is no
    validation split, 10 % of each class's training clouds are held out, always the same ones, or with
    ``folder-random3:PATH`` those that the seed draws.

    Example:
        >>> load_points("solids")
        Clouds('solids', points=1024, channels=3, classes=12, train=2016, val=504, test=1008)
    """
    if up is not None:
        _find(name, "points")  # of an unknown name the error does not have the axis
        name = with_up(name, up)
    return _load(name, "points", root)


def with_up(name: str, up: str) -> str:
    """Return the name of the same set of point clouds with another axis up, for folders.

    Example:
        >>> with_up("folder:my/shapes", "y")
        'folder-up-y:my/shapes'
    """
    check_choice("up", up, tuple("xyz"))
    match = _NAME.fullmatch(name)
    entry = _REGISTRY["points"].get(match["base"]) if match else None
    if match is None or (entry is not None and "up" not in entry.parameters):
        raise UsageError(f"{name!r} has its axes, so up={up!r} cannot be said of it; only of folder:PATH")
    seed, path = (f"{mark}{match[key]}" if match[key] else "" for mark, key in (("-random", "seed"), (":", "path")))
    return f"{match['base']}{seed}-up-{up}{path}"


def load_graph(name: str, root: str | Path | None = None) -> Graph:
    """Load a graph, and download it first if it is missing.

    ``cora``, ``citeseer`` and ``pubmed`` have the public split of Planetoid: 20 nodes of each class to train, 500 to
    validate and 1000 to test. ``citations`` is generated and has a fixed split of the same sizes. With ``-full``, all
    other nodes train, as in PyTorch Geometric (in CiteSeer also its 15 nodes without features or label, which count as
    class 0). With ``-random<seed>``, a split of the same sizes is drawn among the labeled nodes. Self loops and
    duplicate links of the files are removed, so the graphs have 10,556, 9,104 and 88,648 edges.

    ``graph:PATH`` is a graph of one's own: a ``.pt`` file of PyTorch Geometric's ``Data``, a ``.npz`` file (``x``,
    ``edge_index``, ``y``, ...), or a folder with edges.csv, features.csv, labels.csv and perhaps split.csv (also
    ``folder:PATH``). Features and edges are used as they are; ``graph-undirected:PATH`` adds the other direction of
    every edge. Without masks, or as ``graph-random3:PATH``, 60 % of each class train, 20 % validate and 20 % test. Of
    several splits in a file ``graph-split3:PATH`` has number 3, counted from 0.
    ``ogbn-arxiv`` and ``ogbn-products`` come from OGB's own loader, an extra.

    Example:
        >>> load_graph("citations").num_nodes
        2500
    """
    return _load(name, "graphs", root)


def load_data(name: str, root: str | Path | None = None, domain: str | None = None) -> DataSet:
    """Load a data set of any domain; ``folder:PATH`` contains images unless ``domain`` is another.

    Example:
        >>> describe(load_data("solids"))["classes"]
        12
    """
    return _load(name, domain, root)


def check_dataset(name: str, domain: str | None = None) -> None:
    """Raise a UsageError if there is no data set of this name (in this domain); nothing is loaded.

    Example:
        >>> check_dataset("cora-random7", "graphs")
    """
    _find(name, domain)


def dataset_domains(name: str) -> list[str]:
    """Return the domains that have a data set of this name.

    Example:
        >>> dataset_domains("folder:my/shapes")
        ['images', 'points', 'graphs']
    """
    return [domain for domain in TYPES if _match(name, domain) is not None]


def loader_of(name: str, domain: str) -> Callable[..., DataSet] | None:
    """Return the function that loads a data set, if it is registered; another one once it is registered again.

    Example:
        >>> loader_of("cora-random7", "graphs") is loader_of("cora", "graphs")
        True
    """
    match = _match(name, domain) if domain in TYPES else None
    return None if match is None else match[0].load


def license_of(name: str) -> str:
    """Return the terms under which a data set may be used, for the cards of models that are trained on it.

    Example:
        >>> license_of("glyphs-random3")
        'MIT, made by this package'
    """
    found = next((match for domain in TYPES if (match := _match(name, domain))), None)
    return found[0].license if found else "unknown"


def about_data(name: str) -> str:
    """Return what is written about a data set: what the data are, and how many.

    Example:
        >>> about_data("cora-random3")
        'Planetoid: 2,708 papers with 1,433 words, 7 classes'
    """
    found = next((match[0] for domain in TYPES if (match := _match(name, domain))), None)
    if found is None:
        return ""
    return found.about or (inspect.getdoc(found.load) or "" if inspect.isfunction(found.load) else "")


def list_data(domain: str | None = None) -> list[str]:
    """Return the names of all data sets (of a domain); any seed may replace the 0 of ``-random0``.

    Example:
        >>> [name for name in list_data() if name.startswith("solids")]
        ['solids', 'solids-normals']
    """
    domains = TYPES if domain is None else [domain]
    names = (sorted(name for entry in _REGISTRY[key].values() for name in entry.names) for key in domains)
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def describe(data: DataSet) -> dict[str, object]:
    """Return the census of a data set: its name, the sizes of its splits, and other figures.

    Example:
        >>> describe(load_graph("citations"))["classes"]
        7
    """
    return data.describe()


def _match(name: str, domain: str) -> tuple[_Entry, dict[str, Any]] | None:
    """The entry that a name belongs to, and the arguments that the name contains."""
    match = _NAME.fullmatch(name)
    entry = _REGISTRY[domain].get(match["base"]) if match else None
    if match is None or entry is None or (match["path"] is None) == ("path" in entry.parameters):
        return None
    options: dict[str, Any] = {} if match["path"] is None else {"path": Path(match["path"]).expanduser()}
    options |= {key: int(match[key]) for key in ("seed", "split") if match[key] is not None}
    if match["up"] is not None:
        options["up"] = match["up"]
    return (entry, options) if options.keys() <= entry.parameters else None


def _find(name: str, domain: str | None) -> tuple[str, _Entry, dict[str, Any]]:
    name = str(name)  # a Path, perhaps
    if domain is not None:
        check_choice("domain", domain, TYPES)
    for key in TYPES if domain is None else [domain]:
        if (match := _match(name, key)) is not None:
            return key, *match
    hint = did_you_mean(name, list_data(domain))
    if os.path.exists(path := os.path.expanduser(name)):
        kind = "graph" if domain == "graphs" or not (domain or os.path.isdir(path)) else "folder"
        near = hint if hint.endswith("?") else ""
        hint = f"{near} a path of your own data is named {kind}:{name}".strip()
    raise UsageError(f"unknown data set {name!r}{f' for {domain}' if domain else ''}; {hint}")


def _load(name: str, domain: str | None, root: str | Path | None, workers: int | None = None) -> Any:
    domain, entry, options = _find(name, domain)
    options |= {"root": data_root(root), "workers": (os.cpu_count() or 1) if workers is None else workers}
    data = entry.load(**{key: value for key, value in options.items() if key in entry.parameters})
    if not isinstance(data, TYPES[domain]):
        wanted = " or ".join(kind.__name__ for kind in TYPES[domain])
        raise UsageError(f"the loader of {name!r} returns {type(data).__name__}, not {wanted}")
    return data if data.name == name else replace(data, name=name)
