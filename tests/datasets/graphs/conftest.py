"""A folder of CSV files, as tests of several modules write it."""

PLAIN = {"edges.csv": "0,1\n1,2\n", "features.csv": "1,0.5\n0,-1\n2,2e1\n", "labels.csv": "0\n1\n-1\n"}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def indexed(text, first=0):
    """A table as pandas writes it: with an unnamed column of the numbers of rows."""
    head, *rows = text.splitlines()
    return "".join(f"{line}\n" for line in (f",{head}", *(f"{i},{row}" for i, row in enumerate(rows, first))))
