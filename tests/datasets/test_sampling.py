"""What several ranks take of a batch is, all together, the batch that one alone would have had."""

from itertools import islice

import pytest
import torch

from comhe.datasets import AUGMENTATIONS, load_images, load_points
from comhe.datasets.sampling import Share

BATCHES = 2


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_every_sample_of_a_part_is_some_rank_s(ranks, parts):
    for count in (1, 7, 20, 23):
        batch = torch.arange(count)
        shares = [Share(rank, ranks, parts) for rank in range(ranks)]
        for part, expected in enumerate(batch.tensor_split(parts)):
            runs = [share.slices(count)[part] for share in shares]
            assert {whole for whole, _ in runs} == {len(expected)}
            assert torch.cat([batch[run] for _, run in runs]).equal(expected)
            sizes = [run.stop - run.start for _, run in runs]
            assert max(sizes) - min(sizes) <= 1
        for share in shares:
            assert share.take(batch).equal(torch.cat([batch[run] for _, run in share.slices(count)]))


def check(batches) -> None:
    """``batches(share)`` of three ranks, put together part by part, are those of one process."""
    parts, ranks = 2, 3
    shares = [Share(rank, ranks, parts) for rank in range(ranks)]
    found = [list(islice(batches(share), BATCHES)) for share in shares]
    count = 0
    for place, (x, labels) in enumerate(islice(batches(Share()), BATCHES)):
        own = [torch.empty_like(x) for _ in shares]
        for share, mine, each in zip(shares, own, found, strict=True):
            begin = 0
            for _, run in share.slices(len(x)):
                size = run.stop - run.start
                mine[run] = each[place][0][begin : begin + size]
                assert mine[run].equal(x[run])
                assert each[place][1][begin : begin + size].equal(labels[run])
                begin += size
            assert begin == len(each[place][1])
        count += 1
    assert count == len(found[0]) == BATCHES


def test_images():
    glyphs = load_images("glyphs")
    check(lambda share: glyphs.batches("train", 71, 3, 1, glyphs.augmentation, share=share, first=1))
    check(lambda share: glyphs.batches("test", 71, share=share))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_clouds(name):
    solids = load_points("solids")
    check(lambda share: solids.batches("train", 23, 3, 1, AUGMENTATIONS[name], points=20, share=share, first=1))
    check(lambda share: solids.batches("test", 23, points=20, share=share))
