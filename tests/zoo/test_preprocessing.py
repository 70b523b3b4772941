"""The preprocessing of pretrained weights is that of training, from the raw input to the last bit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from comhe.datasets import CENTERED, load_graph, load_images, load_points
from comhe.zoo.preprocessing import GraphTransform, ImageTransform, PointTransform, from_card, to_card


@pytest.fixture(scope="module")
def glyphs():
    return load_images("glyphs")


@pytest.mark.parametrize("normalization", [None, CENTERED])
def test_images_in_memory(glyphs, normalization):
    x, _ = next(iter(glyphs.batches("test", 7, normalization=normalization)))
    mean, std = normalization or (glyphs.mean, glyphs.std)
    transform = ImageTransform(mean, std, glyphs.shape[1:])
    assert transform(glyphs.test.pixels[:7]).equal(x)
    pictures = [Image.fromarray(pixels.numpy()) for pixels in glyphs.test.pixels[:7]]
    assert transform(pictures).equal(x)
    assert transform(pictures[0]).equal(x[:1])
    assert transform(pictures[0].convert("RGBA")).equal(x[:1])
    assert transform(glyphs.test.pixels[0]).equal(x[:1])
    with pytest.raises(ValueError, match=r"uint8 \[B, 32, 32, 3\].*resize them to 32 x 32"):
        transform(Image.new("RGB", (40, 32)))
    with pytest.raises(ValueError, match=r"not torch.float32 \[7, 3, 32, 32\]"):
        transform(x)


def test_image_files(tmp_path):
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(2):
                pixels = draw.integers(0, 256, (300 + 40 * i, 280, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{i}.png")
    images = load_images(f"folder:{tmp_path}", tmp_path, workers=0)
    x, _ = next(iter(images.batches("test", 4)))
    transform = ImageTransform(images.mean, images.std, (images.size,) * 2, images.resize)
    files = [Image.open(images.test.folder / path.decode()) for path in images.test.paths]
    assert transform(files).equal(x)


@pytest.mark.parametrize("channels", [3, 6])
def test_points(channels):
    clouds = load_points("solids" if channels == 3 else "solids-normals")
    x, _ = next(iter(clouds.batches("test", 4, points=100)))
    raw = clouds.test.points[:4].double()
    raw[..., :3] = 17 * raw[..., :3] + torch.tensor([3.0, -5.0, 40.0])
    transform = PointTransform(100, channels)
    torch.testing.assert_close(transform(raw), x, atol=1e-6, rtol=0)
    assert transform(raw[0]).equal(transform(raw)[:1])
    with pytest.raises(ValueError, match=rf"\[B, P, {channels}\]"):
        transform(raw.mT)
    with pytest.raises(ValueError, match=r"cloud 1 \(from 0\)"):
        transform(torch.stack([raw[0], torch.ones_like(raw[0])]))


def test_graphs():
    graph = load_graph("citations")
    transform = GraphTransform(graph.num_features)
    counts = torch.zeros_like(graph.features.to_dense())
    counts[graph.features.to_dense() != 0] = 1.0
    counts *= torch.arange(1, graph.num_features + 1)
    counts[5] = 0
    expected = counts.double() / counts.double().sum(1, keepdim=True)
    expected[5] = 0
    dense, sparse = transform(counts), transform(counts.to_sparse_csr())
    torch.testing.assert_close(dense, expected.float())
    assert sparse.to_dense().equal(dense)
    assert transform(counts.to_sparse_coo()).to_dense().equal(dense)
    assert transform(transform(graph.features).to_dense().to_sparse_csr()).shape == graph.features.shape
    torch.testing.assert_close(transform(graph.features).to_dense(), graph.features.to_dense())
    with pytest.raises(ValueError, match="features must be"):
        transform(counts.t())


def test_graphs_as_they_are_given():
    transform = GraphTransform(2, normalize=False, undirected=False)
    x = torch.tensor([[-1.0, 3.0], [0.0, 2.0], [0.0, 0.0]])
    assert transform(x).equal(x)
    assert transform(x.to_sparse()).to_dense().equal(x)
    assert transform(x.numpy()).equal(x)
    edges, weight = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 2]]), torch.tensor([1.0, 3.0, 5.0, 7.0])
    assert all(map(torch.equal, transform.edges(edges, 3, weight), (edges, weight)))
    both, mean = GraphTransform(2).edges(edges, 3, weight)
    assert both.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert mean.tolist() == [2, 2, 5, 5]
    assert GraphTransform(2).edges(edges[:, :0], 3)[0].shape == (2, 0)


@pytest.mark.parametrize(
    "transform",
    [
        ImageTransform((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (32, 32)),
        ImageTransform((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (224, 224), 256),
        PointTransform(1024, 6),
        GraphTransform(1433),
        GraphTransform(12, False, False),
    ],
)
def test_data_and_back(transform):
    assert from_card(json.loads(json.dumps(to_card(transform)))) == transform
