"""What folders of data have in common: the names of splits, and the files that operating systems leave behind."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from comhe.errors import DataError, few, warn

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PARTS = {word: split for split, words in SPLIT_NAMES.items() for word in words}  # the split of each of the names
STRAY = {
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "lost+found", "network trash folder", "picasa.ini",
    "system volume information", "temporary items", "thevolumesettingsfolder", "thumbs.db", "zbthumbnail.info",
}  # fmt: skip
# Windows keeps streams next to a file; other systems write each of them as a file, NAME:STREAM.
STREAMS = (":zone.identifier", ":encryptable", ":smartscreen", ":afp_afpinfo", ":afp_resource")
# What folders next to those of classes have: documents, lists, annotations, programs, archives, weights.
BESIDES = {
    ".bib", ".cfg", ".csv", ".doc", ".docx", ".gz", ".htm", ".html", ".ini", ".ipynb", ".json", ".log", ".m", ".mat",
    ".md", ".pdf", ".pkl", ".pt", ".pth", ".py", ".rst", ".safetensors", ".sh", ".tar", ".toml", ".tsv", ".txt",
    ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip
OF_A_SET = BESIDES | {".h5", ".hdf5"}  # and not of one sample
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
LIKE_A_SPLIT = re.compile(r"(^|[_\W])(train|training|test|testing|val|valid|validation)\d*([_\W]|$)", re.IGNORECASE)
NO_CLASS = {"annotations", "images", "imgs", "jpegimages"}  # next to each other, as in VOC and Oxford's pets
NOTES = {"authors", "changelog", "copying", "license", "licence", "makefile", "notice", "readme"}
DEEPEST = 8  # folders below a class; a link to a folder above it would never end


def is_stray(name: str) -> bool:
    """Return whether file managers and operating systems make such files or folders, which are passed over.

    Example:
        >>> [name for name in ("Thumbs.db", "._a.png", "a.png:Zone.Identifier", "a.png") if not is_stray(name)]
        ['a.png']
    """
    return name.startswith((".", "~$")) or name.lower() in STRAY or name.lower().endswith(STREAMS)


def is_class(files: Sequence[str]) -> bool:
    """Return whether a folder of files that cannot be read is meant as a class: some are not of those in BESIDES.

    Example:
        >>> [is_class(files) for files in ([], ["README", "boxes.XML"], ["0.heic", "list.txt"])]
        [False, False, True]
    """
    names = [PurePosixPath(file.lower()) for file in files]
    return any(name.suffix not in BESIDES and name.name not in NOTES for name in names)


def not_a_folder(path: Path) -> str:
    """Say what there is instead of a folder of data, and what to name: of a sample, the folder of the classes.

    Example:
        >>> _ = Path("train.h5").touch(), Path("set.zip").touch()
        >>> [not_a_folder(Path(name)) for name in ("train.h5", "set.zip", "sett")]
        ['a file; name its folder: folder:.', 'a file; unpack it, and name the folder', 'no such folder']
    """
    if not path.exists():
        return "no such folder"
    if path.name.lower().endswith(ARCHIVES):
        return "a file; unpack it, and name the folder"
    if path.suffix.lower() in {"", *OF_A_SET} or any(child.is_dir() for child in children(path.parent)):
        return f"a file; name its folder: folder:{path.parent}"
    above = Path(os.path.normpath(path.parent / ".."))  # the folder of a class is in it, or the split in that
    classes = above if PARTS.keys().isdisjoint({path.parent.name.lower(), above.name.lower()}) else above / ".."
    return f"a file; name the folder that has a folder for each class: folder:{os.path.normpath(classes)}"


def warn_of_folders(folder: Path, names: Sequence[str], kind: str) -> None:
    """Warn of folders next to those of classes that have nothing to learn from, except for the one of our caches."""
    if names := [name for name in names if not any((folder / name).glob("comhe-*.safetensors"))]:
        warn(f"{folder}: not used, without {kind}: {few(names, 8)}")


def warn_of_unlabeled(folder: Path, names: Sequence[str]) -> None:
    """Warn of samples next to the folders of classes, which have no class."""
    if names:
        warn(f"{folder}: not used, in no folder of a class: {few(names, 8)}; move them to {folder}/CLASS/")


def warn_of_others(folder: Path, names: Sequence[str]) -> None:
    """Warn of samples next to splits, or to the classes in them, that belong to none."""
    if names:
        how = "name a split train, val or test, with its class folders in it"
        warn(f"{folder}: not used, in no class of a split: {few(names, 8)}; {how}")


def has_file(folder: Path, ends: tuple[str, ...]) -> bool:
    """Return whether a file below a folder has one of these endings; a folder that cannot be listed has none."""
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_stray(name)]
        if any(name.lower().endswith(ends) and not is_stray(name) for name in files):
            return True
    return False


def may_be_split(folder: Path, ends: tuple[str, ...]) -> bool:
    """Whether a folder may have classes in it; one of files with these endings is a class, even if named ``train``."""
    entries = children(folder)
    return any(child.is_dir() for child in entries) or not any(child.name.lower().endswith(ends) for child in entries)


def children(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted, without what :func:`is_stray`."""
    try:
        return sorted(child for child in folder.iterdir() if not is_stray(child.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def files_below(folder: Path, depth: int = 0) -> list[str]:
    """Return the paths of all files below a folder, relative to it and sorted, without what :func:`is_stray`."""
    if depth > DEEPEST:
        raise DataError(f"{folder}: more than {DEEPEST} folders deep in a class")
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_stray(entry.name):
                    continue
                if entry.is_dir():
                    below = files_below(Path(entry.path), depth + 1)
                    found += [f"{entry.name}/{file}" for file in below]
                elif entry.is_file():
                    found.append(entry.name)
                else:
                    raise DataError(f"{entry.path}: not a file")
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    return sorted(found)


def told_alike(name: str, names: Sequence[str]) -> str:
    """Say which of the names differs from a missing one in case or accents alone; nothing if none does.

    Example:
        >>> told_alike("cat", ["Cat", "dog"])
        "; 'Cat' is there, which differs in case or in how accents are stored: rename one of the two"
    """
    plain = {unicodedata.normalize("NFC", each).casefold(): each for each in names}
    alike = plain.get(unicodedata.normalize("NFC", name).casefold())
    how = "differs in case or in how accents are stored"
    return f"; {alike!r} is there, which {how}: rename one of the two" if alike else ""


def require_classes(folder: Path, classes: Sequence[str]) -> None:
    """Raise a DataError if the folder of a split has one class: there is nothing to learn, or one folder too many."""
    if len(classes) == 1:
        raise DataError(f"{folder}: has one class only, {classes[0]!r}; a split has one folder for each of its classes")


def check_no_splits(folder: Path, names: Sequence[str]) -> None:
    """Raise a DataError if folders that are to be classes have the names of splits, or warn if their folders may be.

    ``train`` and ``test1`` are splits, and ``cars_train`` and ``cars_test`` are. ``train`` and ``test_tube`` are not.
    """
    inside = {name: [child.name for child in children(folder / name) if child.is_dir()] for name in names}
    for name in names:
        if LIKE_A_SPLIT.search(name) and inside[name]:
            raise DataError(f"{folder / name}: is it a split? Name it train, val or test, with the class folders in it")
        if splits := split_folders(folder / name):
            below = next(iter(splits.values()))
            raise DataError(f"{below}: a split inside of a class; put it the other way round, {folder}/SPLIT/CLASS/")
    words = {match[2].lower() for name in names if (match := LIKE_A_SPLIT.search(name))}
    rest = {LIKE_A_SPLIT.sub("", name) for name in names}
    of_train = words & {*SPLIT_NAMES["train"]}
    are_splits = all(map(LIKE_A_SPLIT.search, names)) and len(rest) == 1 and of_train and words - of_train
    if are_splits or {name.lower() for name in names} <= NO_CLASS:
        said = f"{few(names)} are no classes, so what is in them has no labels"
        raise DataError(f"{folder}: {said}; put it in {folder}/SPLIT/CLASS/, or without splits in {folder}/CLASS/")
    first, *others = inside.values()
    if len(first) > 1 and all(each == first for each in others):
        said = f"{few(names)} are taken for the classes, but all have the same folders in them, {few(first)}"
        warn(f"{folder}: {said}; if these are the classes, name one of them: folder:{folder / names[0]}")


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders in ``folder`` that have the name of a split, by split; two names of one split are an error."""
    found: dict[str, Path] = {}
    for child in children(folder):
        for split, names in SPLIT_NAMES.items():
            if child.name.lower() in names and child.is_dir():
                if split in found:
                    raise DataError(
                        f"{folder}: both {found[split].name} and {child.name} are the {split} split; keep one"
                    )
                found[split] = child
    return {split: found[split] for split in SPLIT_NAMES if split in found}
