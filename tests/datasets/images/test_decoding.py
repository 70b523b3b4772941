"""Image files become pixels, whoever decodes them."""

from .test_folder import load


def test_workers_change_nothing(small, monkeypatch):
    before = load(small, workers=0)
    monkeypatch.setattr("comhe.datasets.images.decoding.FEW", 0)
    next((small / "train/a").iterdir()).touch()  # or the cache would answer
    assert load(small, workers=2).train.pixels.equal(before.train.pixels)
