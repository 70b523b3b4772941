"""The tables of the README, the documentation and ``results``, from committed runs and cards: ``make tables``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->`` and is replaced there. Each
``RECIPE-runs.csv`` has its tables in ``RECIPE.md``.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

from comhe.regularizers import list_regularizers
from comhe.train.compare import statistics, tables
from comhe.train.compare.records import read_records
from comhe.train.compare.tables import p_value, percent, signed
from comhe.zoo import Weights, get_weights, list_weights

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n)(?:(?!<!--).)*(<!-- end of table -->)", re.DOTALL)
FEW = 5  # runs with fewer seeds are named as such, and nothing is marked
Rows = Iterable[Sequence[object]]

# A comparison: what it is called, the file of its table, and model and data set there.
GRAPHS = ("Cora", "CiteSeer", "PubMed")
COMPARISONS = [
    *((name, "graphs/kipf", "gcn", name.lower()) for name in GRAPHS),
    *((f"{name}, random splits", "splits/kipf", "gcn", f"{name.lower()}-random") for name in GRAPHS),
    *((f"{name}, tuned", "graphs/tuned", "gcn", name.lower()) for name in GRAPHS),
    ("airbench94, CIFAR-10", "cifar10/airbench", "airbench94", "cifar10"),
    ("airbench94, CIFAR-100", "cifar100/airbench", "airbench94", "cifar100"),
    ("CNN-6, CIFAR-100", "cifar100/one_cycle", "cnn6", "cifar100"),
    ("CNN-9, CIFAR-100", "cifar100/one_cycle", "cnn9", "cifar100"),
    ("ResNet-20, CIFAR-100", "images/short", "resnet20", "cifar100"),
    ("PointNet, ModelNet-40", "points/short", "pointnet", "modelnet40"),
]
FRESH_METHODS = "results/fresh/kipf.csv"  # all methods of the paper, on seeds that had not been looked at
PUBLISHED_RUNS = "results/graphs/published.csv"  # each network by the recipe `published`
COMPARED = ("hs-mhe", "rp-comhe", "ap-comhe")


def read(path: str) -> list[dict[str, str]]:
    lines = (ROOT / path).read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def markdown(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def effect(epoch: str) -> str:
    """Accuracy without a regularizer and the paired differences to it, at the ``best`` or the ``last`` epoch."""
    rows = []
    for name, file, *cell in COMPARISONS:
        rows_of = read(f"results/{file}.csv")
        found = {r["regularizer"]: r for r in rows_of if [r["model"], r["data"], r["epoch"]] == [*cell, epoch]}
        none, seeds = found["none"], int(found["none"]["n"])
        plain = mean_std(none)
        rows.append([name, seeds, plain, *(difference(found.get(key), seeds) for key in COMPARED)])
    return markdown(["test accuracy in %", "seeds", "`none`", *(f"`{name}`" for name in COMPARED)], rows)


# Tables of a section: what is compared, the file of its table, and model, data set and settings there.
SECTIONS = {
    "images": [
        ("airbench94, CIFAR-10", "cifar10/airbench", "airbench94", "cifar10", ""),
        ("airbench94, CIFAR-100", "cifar100/airbench", "airbench94", "cifar100", ""),
        ("CNN-6, CIFAR-100", "cifar100/one_cycle", "cnn6", "cifar100", ""),
        ("CNN-9, CIFAR-100", "cifar100/one_cycle", "cnn9", "cifar100", ""),
    ],
    "points": [
        ("PointNet, `short`", "points/short", "pointnet", "modelnet40", ""),
        ("PointNet with transforms, `short`", "points/short", "pointnet_t", "modelnet40", ""),
        ("PointNet, `one_cycle`", "points/one_cycle", "pointnet", "modelnet40", ""),
        ("PointNet++, `one_cycle`, 40 epochs", "pointnet2/one_cycle", "pointnet2_ssg", "modelnet40", "epochs=40"),
    ],
    "deeper": [
        *(
            (f"{data}, {depth} layers", "graphs/deep", "gcn", data.lower(), setting)
            for depth, setting in ((4, ""), (8, "num_layers=8"))
            for data in ("Cora", "CiteSeer")
        ),
        *(
            (f"{data}, {share} % wrong labels", "graphs/noisy_labels", "gcn", data.lower(), setting)
            for share, setting in ((20, "label_noise=0.2"), (40, ""))
            for data in ("Cora", "CiteSeer")
        ),
        *(
            (f"{data}, {what}", "harder/tuned", "gcn", data.lower(), setting)
            for what, setting in (("256 channels", "hidden_channels=256"), ("2,000 epochs", "epochs=2000"))
            for data in ("Cora", "CiteSeer")
        ),
    ],
    "few-images": [
        *(
            (f"CNN-6, CIFAR-100, {count} images", "cifar100/few_labels", "cnn6", "cifar100", setting)
            for count, setting in ((10, "labels_per_class=10"), (20, ""), (50, "labels_per_class=50"))
        ),
        *(
            (f"PointNet, ModelNet-40, {count} clouds", "points/few_labels", "pointnet", "modelnet40", setting)
            for count, setting in ((5, "labels_per_class=5"), (10, ""), (20, "labels_per_class=20"))
        ),
    ],
}


def section(name: str) -> str:
    """Accuracy without a regularizer and the paired differences to it, at both epochs."""
    rows = []
    for title, file, *cell in SECTIONS[name]:
        for epoch, called in (("best", "selected"), ("last", "last")):
            found = [r for r in read(f"results/{file}.csv") if [r["model"], r["data"], r["settings"]] == cell]
            by_name = {row["regularizer"]: row for row in found if row["epoch"] == epoch}
            seeds = int(by_name["none"]["n"])
            plain = mean_std(by_name["none"])
            rows.append([title, seeds, called, plain, *(difference(by_name.get(key), seeds) for key in COMPARED)])
    return markdown(["test accuracy in %", "seeds", "epoch", "`none`", *(f"`{name}`" for name in COMPARED)], rows)


def same_training() -> str:
    """CNN-6 with ten images of each class, by the training that was chosen for half-space MHE, with it and without."""
    runs = read_records(ROOT / "results/cifar100/few_labels-runs.csv")
    variants = {"hs-mhe": "labels_per_class=10", "none": "labels_per_class=10 lr=0.01 weight_decay=0.002"}
    found = {
        name: {run["seed"]: run["last_test"] for run in runs if (run["regularizer"], run["variant"]) == (name, variant)}
        for name, variant in variants.items()
    }
    seeds = sorted(found["none"].keys() & found["hs-mhe"].keys())
    plain, ours = ([found[name][seed] for seed in seeds] for name in ("none", "hs-mhe"))
    effect_of = statistics.paired(plain, ours)
    mean, std = statistics.mean_std(plain)
    interval = f"{signed(effect_of.difference)} ({signed(effect_of.low)} to {signed(effect_of.high)})"
    row = ["CNN-6, CIFAR-100, 10 images", len(seeds), "last", f"{percent(mean)} ± {percent(std)}", interval]
    return markdown(["with the same training", "seeds", "epoch", "`none`", "`hs-mhe`"], [row])


def mean_std(row: dict[str, str]) -> str:
    mean = percent(float(row["test"]))
    return mean if int(row["n"]) == 1 else f"{mean} ± {percent(float(row['std']))}"


def difference(row: dict[str, str] | None, seeds: int) -> str:
    """The mean difference with its 95 % interval, bold if p < 0.05 after Holm's correction; or nothing."""
    if row is None:
        return ""
    text, count = signed(float(row["difference"])), int(row["n"])
    if count == 1:  # no spread
        return f"{text} (1 seed)"
    low, high = (signed(float(row[key])) for key in ("low", "high"))
    if count >= FEW and float(row["p_holm"]) < 0.05:
        text = f"**{text}**"
    fewer = "" if count == seeds else f", {count} seeds"
    return f"{text} ({low} to {high}{fewer})"


def graphs() -> str:
    """The graph networks with the paper's figures, which are single numbers, and p-values after Holm's correction."""
    published = json.loads((ROOT / "train/compare/published.json").read_text())["gcn"]
    rows = []
    for name in ("cora", "citeseer", "pubmed"):
        paper = dict(zip(published["regularizers"], published["cells"][f"gcn.{name}"], strict=True))
        for regularizer in ("none", *COMPARED):
            row: list[object] = [name, f"`{regularizer}`", paper[regularizer]]
            for recipe in ("kipf", "tuned"):
                (found,) = (
                    line
                    for line in read(f"results/graphs/{recipe}.csv")
                    if (line["data"], line["regularizer"], line["epoch"]) == (name, regularizer, "best")
                )
                row.append(mean_std(found))
                if regularizer != "none":
                    p = p_value(float(found["p_holm"]))
                    row.append(f"{difference(found, int(found['n']))}, p {p if p.startswith('<') else f'= {p}'}")
                else:
                    row.append("")
            rows.append(row)
    versus = "difference to `none`"
    return markdown(["data", "regularizer", "paper", "`kipf`", versus, "`tuned`", versus], rows)


def architectures() -> str:
    """The graph networks, each trained as its own paper says, with the paper's mean on the public split."""
    theirs = {"gcn": (81.5, 70.3, 79.0), "gat": (83.0, 72.5, 79.0), "gcn2": (85.5, 73.4, 80.2)}
    names = {"gcn": "GCN", "gat": "GAT", "sage": "GraphSAGE", "appnp": "APPNP", "gcn2": "GCNII"}
    cells = {(row["model"], row["data"], row["regularizer"], row["epoch"]): row for row in read(PUBLISHED_RUNS)}
    rows = []
    for model, name in names.items():
        for index, data in enumerate(GRAPHS):
            plain, ours = (cells.get((model, data.lower(), key, "best")) for key in ("none", "rp-comhe"))
            if plain is None:
                continue
            paper = theirs[model][index] if model in theirs else ""
            last = percent(float(cells[model, data.lower(), "none", "last"]["test"]))
            accuracy = mean_std(plain)
            rows.append([name, data, plain["n"], paper, accuracy, last, difference(ours, int(plain["n"]))])
    return markdown(["network", "data", "seeds", "paper", "`none`", "last epoch", "`rp-comhe`"], rows)


def methods(file: str, epoch: str = "best") -> str:
    """A GCN without a regularizer, and the differences of all that there are to it; a column for each graph."""
    found = [row for row in read(file) if (row["model"], row["epoch"]) == ("gcn", epoch)]
    cells = {(row["regularizer"], row["data"]): row for row in found}
    rows = []
    for name in ("none", *(each for each in list_regularizers() if each != "none")):
        of_name = [cells.get((name, data.lower())) for data in GRAPHS]
        if any(of_name):
            seeds = max(int(row["n"]) for row in of_name if row)
            texts = (mean_std(row) if row and name == "none" else difference(row, seeds) for row in of_name)
            rows.append([f"`{name}`", seeds, *texts])
    return markdown(["test accuracy in %", "seeds", *GRAPHS], rows)


def splits() -> str:
    """The differences on random splits, at both epochs."""
    rows = []
    for file in ("kipf", "tuned"):
        there = {row["data"] for row in read(f"results/splits/{file}.csv")}
        for data in (name for name in GRAPHS if f"{name.lower()}-random" in there):
            for epoch, title in (("best", "selected"), ("last", "last")):
                found = [r for r in read(f"results/splits/{file}.csv") if r["data"] == f"{data.lower()}-random"]
                cells = {row["regularizer"]: row for row in found if row["epoch"] == epoch}
                seeds = int(cells["none"]["n"])
                plain = mean_std(cells["none"])
                of_methods = (difference(cells.get(name), seeds) for name in COMPARED)
                rows.append([data, f"`{file}`", seeds, title, plain, *of_methods])
    return markdown(["graph", "recipe", "splits", "epoch", "`none`", *(f"`{name}`" for name in COMPARED)], rows)


def few_labels() -> str:
    """GCNs with few labels of each class: accuracy without a regularizer, and the differences to it."""
    rows = []
    found = [row for row in read("results/graphs/few_labels.csv") if row["epoch"] == "best"]
    for data in GRAPHS:
        for count in (1, 2, 5, 10) * any(row["data"] == data.lower() for row in found):
            setting = "" if count == 5 else f"labels_per_class={count}"  # the recipe has five
            cells = {r["regularizer"]: r for r in found if (r["data"], r["settings"]) == (data.lower(), setting)}
            seeds = int(cells["none"]["n"])
            plain = mean_std(cells["none"])
            rows.append([data, count, seeds, plain, *(difference(cells.get(name), seeds) for name in COMPARED)])
    return markdown(["graph", "labels of a class", "seeds", "`none`", *(f"`{name}`" for name in COMPARED)], rows)


def harder() -> str:
    """A GCN on wrong labels, and a deeper one, at the validation-selected epoch: accuracy and differences to it."""
    titles = {"label_noise": "{:g} % wrong labels", "num_layers": "{} layers"}
    found = [row for row in read("results/harder/kipf.csv") if row["epoch"] == "best"]
    rows = []
    for setting in sorted({row["settings"] for row in found}):
        name, value = setting.split("=")
        for data in ("Cora", "CiteSeer"):
            cells = {r["regularizer"]: r for r in found if (r["settings"], r["data"]) == (setting, data.lower())}
            seeds = int(cells["none"]["n"])
            what = titles[name].format(100 * float(value) if name == "label_noise" else value)
            effects = (difference(cells.get(each), seeds) for each in ("hs-mhe", "rp-comhe"))
            rows.append([f"{data}, {what}", seeds, mean_std(cells["none"]), *effects])
    return markdown(["test accuracy in %", "seeds", "`none`", "`hs-mhe`", "`rp-comhe`"], rows)


def fresh() -> str:
    """The effects that were seen first, on seeds that nothing was looked at with before, at both epochs."""
    rows = []
    for recipe in ("few_labels", "published"):
        found = read(f"results/fresh/{recipe}.csv")
        cell = itemgetter("model", "data", "settings", "epoch")
        plain = {cell(row): row for row in found if row["regularizer"] == "none"}
        for row in (row for row in found if row["difference"]):
            settings = f", `{row['settings']}`" if row["settings"] else ""
            what, name = f"{row['model']}, {row['data']}, `{recipe}`{settings}", f"`{row['regularizer']}`"
            epoch = "selected" if row["epoch"] == "best" else "last"
            effect_of = difference(row, int(row["n"]))
            rows.append(
                [what, name, row["n"], epoch, mean_std(plain[cell(row)]), effect_of, p_value(float(row["p_holm"]))]
            )
    return markdown(["what", "regularizer", "seeds", "epoch", "`none`", "difference", "p (Holm)"], rows)


def cost() -> str:
    """What a regularizer adds to a training step."""
    rows = read("benchmarks/regularizer_cost.csv")
    share = {(row["model"], row["what"]): float(row["percent_of_step"]) for row in rows}
    step = {row["model"]: float(row["median_ms"]) for row in rows if row["what"] == "training step"}
    names = [name for name in (*list_regularizers(), "rp-comhe, ambient") if name != "none"]
    names.sort(key=lambda name: share["cnn9", name])
    titles = {"cnn9": "CNN-9", "resnet18": "ResNet-18", "pointnet-sized": "PointNet", "gcn-sized": "GCN"}
    header = ["", *(f"{titles[model]} ({duration(ms)})" for model, ms in step.items())]
    labels = {"rp-comhe, ambient": "`rp-comhe`, `span=False`"}
    return markdown(
        header, [[labels.get(name, f"`{name}`"), *(f"{share[model, name]:.1f} %" for model in step)] for name in names]
    )


def duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 100 else f"{ms:.1f} ms"


def weights() -> str:
    """The pretrained weights, a line for each network and data set: their test accuracy over seeds."""
    groups: dict[tuple[str, str, str], dict[str, Weights]] = {}
    for name in list_weights():
        found = get_weights(name)
        key = found.model, found.card["data"]["name"], found.card["recipe"]["recipe"]
        groups.setdefault(key, {})[found.card["regularizer"]] = found
    columns = ("none", *COMPARED)
    header = ["`MODEL.DATA`", "recipe", "seeds", "parameters", "kB", *(f"`-{name}`" for name in columns)]
    rows = []
    for (model, data, recipe), group in groups.items():
        cards = [each.card for each in group.values()]
        parameters, size = (
            spread([card[key] // unit for card in cards]) for key, unit in (("parameters", 1), ("bytes", 1000))
        )
        seeds = spread([card["seeds"]["n"] for card in cards])
        cells = [accuracy(group[name]) if name in group else "" for name in columns]
        rows.append([f"`{model}.{data}`", f"`{recipe}`", seeds, parameters, size, *cells])
    return markdown(header, rows)


def spread(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def accuracy(weights: Weights) -> str:
    found = weights.card["seeds"]["best"]["test_accuracy"]
    std = "" if found["std"] is None else f" ± {100 * found['std']:.1f}"
    return f"{100 * found['mean']:.1f}{std}"


TABLES: dict[str, Callable[[], str]] = {
    "effect": lambda: effect("best"),
    "effect-last": lambda: effect("last"),
    "graphs": graphs,
    "architectures": architectures,
    "methods": partial(methods, PUBLISHED_RUNS),
    "methods-kipf": partial(methods, FRESH_METHODS),
    "methods-kipf-last": partial(methods, FRESH_METHODS, "last"),
    "few-labels": few_labels,
    "fresh": fresh,
    "harder": harder,
    "splits": splits,
    "same-training": same_training,
    **{name: partial(section, name) for name in SECTIONS},
    "cost": cost,
    "weights": weights,
}


def render(text: str) -> str:
    """The page with its tables made again."""
    return TABLE.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


def contents() -> dict[Path, str]:
    """Every file that has tables, with them made again."""
    found = {page: render(page.read_text()) for page in PAGES}
    for runs in sorted(ROOT.glob("results/*/*-runs.csv")):
        found[runs.with_name(runs.name.replace("-runs.csv", ".md"))] = tables.markdown(tables.table(read_records(runs)))
    return found


if __name__ == "__main__":
    for page, made in contents().items():
        if made != page.read_text():
            page.write_text(made)
            print(page.relative_to(ROOT))
