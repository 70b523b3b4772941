"""The runs that a folder's table lists, and new ones that join them."""

import itertools
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from comhe.errors import ComheError, RunError, few
from comhe.train.recipe import Recipe, find_domain, get_recipe
from comhe.train.settings import parse_settings, variants
from comhe.zoo import model_domain

from .records import CELL, REQUIRED, Record, read_records, run_of, training_of, variant_of

MOST_ORDERS = 1000  # of options that are tried


def listed_runs(path: Path, recipes: Iterable[Recipe] = ()) -> list[Record]:
    """Return the runs of a table, none if there is no file, with their variants, which older versions did not name.

    Args:
        recipes: those whose runs are to join the table. They tell what a row is of where its names alone do not.

    Raises:
        RunError: the file is damaged; or it lists runs, of a model and data that new ones join, which today's recipe
            of their names would train otherwise: they can neither share a row with new ones nor be compared with them.
    """
    if not path.exists():
        return []
    records = read_records(path)
    if records and (missing := [name for name in REQUIRED if name not in records[0]]):
        raise RunError(f"{path} is not a table of runs: it has no column {', '.join(missing)}")
    asked: dict[tuple[str, ...], dict[str, Recipe]] = {}
    for recipe in recipes:
        names = recipe.recipe, recipe.model, recipe.data, recipe.regularizer
        asked.setdefault(names, {}).setdefault(variant_of(recipe), recipe)
    panels = {names[1:3] for names in asked}

    @cache  # of all seeds
    def candidates(names: Any, variant: str | None) -> list[tuple[Recipe, str, str, bool]]:
        """The recipes that a row may be of, with variant and training, and whether they are asked for."""
        own = [recipe for name, recipe in asked.get(names, {}).items() if variant in (None, name)]
        found = own + (_recipes(*[*names, variant or ""]) if variant is None or not own else [])
        return [(each, variant_of(each), training_of(each), each in own) for each in found]

    found: list[Record] = []
    others: dict[str, list[int]] = {}
    for record in records:
        names, variant = tuple(record[key] for key in CELL), record.get("variant")
        if names[1:3] not in panels:  # nothing joins or is compared with it
            found.append(record)
            continue
        known = candidates(names, variant)
        seed, digest = record["seed"], record.get("settings")
        same = next((each for each in known if _trained(each[0].replace(seed=seed), digest)), None)
        if same:
            recipe, record["variant"], record["training"], is_asked = same
            if is_asked:  # it counts as finished, also with its options in another order
                record["settings"] = recipe.replace(seed=seed).digest
        elif known:
            what = f"{record['model']}.{record['data']}-{record['regularizer']} {variant or ''}".strip()
            others.setdefault(what, []).append(seed)
        found.append(record)
    if others:
        what, seeds = next(iter(others.items()))
        raise RunError(
            f"{path} lists {what} (seed {few(seeds)}), which today's recipe did not train as far as the table says: "
            "the recipe has changed, an option has another type, or an older version wrote the table; choose another "
            "--output folder, or remove these lines from it"
        )
    return found


def joined(listed: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Return the records, each in the place of the same run in the list, and the rest of the list as it is."""
    found = {(*run_of(r), "" if "variant" in r else r.get("settings")): r for r in listed}
    return [*(found | {(*run_of(record), ""): record for record in records}).values()]


def _trained(recipe: Recipe, digest: str | None) -> bool:
    """Whether the digest is the recipe's, in whichever order its options were given."""
    if recipe.digest == digest:
        return True
    options, built = recipe.regularizer_options.items(), recipe.model_options.items()
    orders = itertools.product(itertools.permutations(options), itertools.permutations(built))
    return any(
        recipe.replace(regularizer_options=dict(first), model_options=dict(second)).digest == digest
        for first, second in itertools.islice(orders, MOST_ORDERS)
    )


def _recipes(name: str, model: str, data: str, regularizer: str, variant: str) -> list[Recipe]:
    """The recipe that these names have now; none where they do not tell all of it: a tag, or names that are unknown."""
    try:
        base = get_recipe(name, model, data, regularizer)
        settings = parse_settings(variant, find_domain(model_domain(model)).recipe)
        chosen = {key: values for key, values in settings.items() if values not in ([None], ["None"])}  # left out
        found = variants([base], chosen)
    except (ComheError, ValueError):
        return []
    return [recipe for recipe in found if variant_of(recipe) == variant]
