"""The preprocessing of pretrained weights is that of training, from the raw input to the last bit."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_array

from comhe.datasets import CENTERED, load_graph, load_images, load_points
from comhe.errors import UsageError
from comhe.zoo.preprocessing import GraphTransform, ImageTransform, PointTransform, from_card, to_card


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.mark.parametrize("normalization", [None, CENTERED])
def test_images_in_memory(digits, normalization):
    x, _ = next(iter(digits.batches("test", 7, normalization=normalization)))
    mean, std = normalization or (digits.mean, digits.std)
    transform = ImageTransform(mean, std, digits.shape[1:])
    assert transform(digits.test.pixels[:7]).equal(x)
    pictures = [Image.fromarray(pixels.numpy()) for pixels in digits.test.pixels[:7]]
    assert transform(pictures).equal(x)
    assert transform(pictures[0]).equal(x[:1])
    assert transform(pictures[0].convert("RGBA")).equal(x[:1])
    assert transform(digits.test.pixels[0]).equal(x[:1])
    with pytest.raises(ValueError, match=r"pixels are in -.* before any normalization, uint8 in 0..255"):
        transform(x)
    over = digits.test.pixels[:7].double().movedim(-1, 1) / 255 * 1.0015 - 0.0007  # as resizing may leave them
    assert transform(over).equal(x)
    for nothing in ([], digits.test.pixels[:0], digits.test.pixels[:0].numpy()):
        assert transform(nothing).shape == (0, 3, 16, 16)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    file.seek(0)
    return file


ORIGINS = {
    "numpy": lambda x: x.numpy(),
    "channels first": lambda x: x.movedim(-1, -3),
    "numpy, channels first": lambda x: x.movedim(-1, -3).numpy(),
    "floats": lambda x: x.float() / 255,
    "floats, channels first": lambda x: (x.double() / 255).movedim(-1, -3),
    "integers": lambda x: x.long().numpy(),
    "sixteen bits": lambda x: x.numpy().astype(np.uint16) * 256 + 77,
    "opaque": lambda x: torch.cat([x, torch.full_like(x[..., :1], 255)], -1),
    "half": lambda x: (x.double() / 255).half(),
    "iterator": iter,
    "files": lambda x: [png(image) for image in x],
    "list": list,
    "tuple of arrays": lambda x: tuple(image.numpy() for image in x),
    "list of batches": lambda x: [x[:2], x[2:].movedim(-1, -3)],
    "not contiguous": lambda x: x.mT.contiguous().mT,
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_image_of_any_origin_gives_the_same_bits(digits, origin):
    pixels = digits.test.pixels[:5]
    transform = ImageTransform(digits.mean, digits.std, digits.shape[1:])
    assert transform(ORIGINS[origin](pixels)).equal(transform(pixels))
    if origin != "list of batches":
        assert transform(ORIGINS[origin](pixels[:1])).equal(transform(pixels[:1]))


def test_files_are_read_as_training_reads_them(tmp_path):
    """Of other sizes, transparent, of 16 bits, turned: the network sees in training what it sees in prediction."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(draw.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(
                    tmp_path / split / label / f"{i}.png"
                )
    odd = tmp_path / "test" / "a"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw.integers(0, 256, (21, 40, 4), dtype=np.uint8)).save(odd / "4.png")
    Image.fromarray(draw.integers(0, 1 << 16, (9, 8), dtype=np.uint16)).save(odd / "5.png")
    Image.fromarray(draw.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(odd / "6.png", exif=exif)
    Image.fromarray(draw.integers(0, 256, (30, 9), dtype=np.uint8)).convert("P").save(odd / "7.png")
    images = load_images(f"folder:{tmp_path}", tmp_path / "root", workers=0)
    assert images.shape == (3, 9, 8)
    x, _ = next(iter(images.batches("test", 12)))
    transform = ImageTransform(images.mean, images.std, images.shape[1:])
    files = [path for label in "ab" for path in sorted((tmp_path / "test" / label).iterdir())]
    assert transform(files).equal(x)
    assert transform([str(path) for path in files]).equal(x)
    assert torch.cat([transform(Image.open(path)) for path in files]).equal(x)


@pytest.mark.parametrize("shape", [(32,), (2, 2, 2, 2, 2), (5, 32, 32), (3, 32, 4), (0, 32, 3), (32, 32, 2), ()])
def test_arrays_that_may_be_anything_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"^images (must be \[h, w\]|\[.*: either the first axis of an image or the last one)"
    ):
        ImageTransform((0.5,) * 3, (0.5,) * 3, (32, 32))(np.zeros(shape, np.uint8))


def test_the_size_of_the_network_tells_channels_from_pixels():
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    transform = ImageTransform((0.5,) * 3, (0.5,) * 3, (3, 4))
    assert transform(pixels).equal(transform(Image.fromarray(pixels)))
    assert transform(np.ascontiguousarray(pixels.transpose(2, 0, 1))).shape == (1, 3, 3, 4)
    gray = ImageTransform((0.5,) * 3, (0.5,) * 3, (5, 7))(np.full((5, 7), 51, np.uint8))
    torch.testing.assert_close(gray, torch.full((1, 3, 5, 7), -0.6))
    clear = np.zeros((5, 7, 4), np.uint8)
    assert ImageTransform((0.5,) * 3, (0.5,) * 3, (5, 7))(clear).min() == 1, "white shows through"


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
    raw = clouds.test.points[:4].double()
    raw[..., :3] = 17 * raw[..., :3] + torch.tensor([3.0, -5.0, 40.0])
    transform = PointTransform(100, channels)
    whole = PointTransform(1024, channels)
    torch.testing.assert_close(whole(raw), next(iter(clouds.batches("test", 4, points=1024)))[0], atol=1e-6, rtol=0)
    assert transform(raw[0]).equal(transform(raw)[:1])
    for nothing in ([], raw[:0]):
        assert transform(nothing).shape == (0, 100, channels)
    for same in (raw.mT, raw.numpy(), raw.mT.numpy(), list(raw), [raw[:1], raw[1:].mT.numpy()], raw.tolist()):
        assert transform(same).equal(transform(raw))
    with pytest.raises(ValueError, match=rf"\[B, P, {channels}\]"):
        transform(raw[..., :2])
    with pytest.raises(ValueError, match=r"cloud 1 \(from 0\)"):
        transform(torch.stack([raw[0], torch.ones_like(raw[0])]))


def test_a_random_subset_of_the_points_or_all_of_them():
    raw = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = PointTransform(20, 3)(raw)
    whole = PointTransform(50, 3)(raw)
    rows = [(whole[0] == point).all(1).nonzero().item() for point in chosen[0]]
    assert len(set(rows)) == 20
    assert max(rows) - min(rows) > 30, "of the whole cloud"
    assert (whole[1, rows] == chosen[1]).all(), "the same in every cloud of a batch"
    many = PointTransform(120, 3)(raw[0])
    _, counts = many[0].unique(dim=0, return_counts=True)
    assert sorted(counts.tolist()) == [2] * 30 + [3] * 20


def test_files_of_shapes(tmp_path):
    draw = np.random.default_rng(0)
    cloud = draw.normal(size=(5000, 3)) * [1, 1, 3]
    np.save(tmp_path / "a.npy", cloud[cloud[:, 2].argsort()])
    (tmp_path / "b.off").write_text("OFF 4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 9\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")
    transform = PointTransform(200, 3, up="y")
    x = transform([tmp_path / "a.npy", str(tmp_path / "b.off")], up="z")
    assert x.shape == (2, 200, 3)
    extent = x.amax(1) - x.amin(1)
    assert (extent.argmax(1) == 1).all(), "z up became y up"
    assert (extent.max(1).values > 1.2).all()
    assert transform(cloud, up="z").equal(transform(cloud[:, [0, 2, 1]] * [1, 1, -1]))
    with pytest.raises(ValueError, match="up must be 'x' or 'y' or 'z', not 'w'"):
        transform(cloud, up="w")
    with pytest.raises(ValueError, match=r"a\.npy: this network takes normals, too; give it arrays \[P, 6\]"):
        PointTransform(200, 6)(tmp_path / "a.npy")
    expected = PointTransform(200, 3)(cloud)
    for columns in (4, 6, 7, 9):
        more = np.concatenate([cloud, cloud, cloud], 1)[:, :columns]
        assert PointTransform(200, 3)(more).equal(expected)
        assert PointTransform(200, 3)(iter([more.T, more[::-1][::-1]])).equal(expected.expand(2, -1, -1))
    assert PointTransform(200, 3)(cloud.astype(">f8")).equal(expected)
    with pytest.raises(ValueError, match="clouds must be numbers in arrays or tensors, or paths, not <class 'dict'>"):
        PointTransform(200, 3)({})


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
    with pytest.raises(ValueError, match="the network reads features"):
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
    for pair in (tuple(edges), tuple(edges.numpy()), edges.tolist()):
        assert transform.edges(pair, 3)[0].equal(edges)


def test_edges_in_an_adjacency_and_in_nothing_of_the_kind():
    transform = GraphTransform(2, undirected=False)
    ones, weighted = csr_array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]), csr_array([[0, 0.5], [0, 0]])
    assert [part if part is None else part.tolist() for part in transform.edges(ones, 3)] == [[[0, 1], [1, 2]], None]
    assert [part.tolist() for part in transform.edges(weighted, 2)] == [[[0], [1]], [0.5]]
    assert transform.edges(weighted, 2, [3.0])[1].tolist() == [3]
    for edges in ("edges.csv", {"a": 1}, object(), (torch.zeros(2), torch.zeros(3))):
        with pytest.raises(UsageError, match=f"edges must be .* or a scipy adjacency, not a {type(edges).__name__}"):
            transform.edges(edges, 3)


@pytest.mark.parametrize(
    "transform",
    [
        ImageTransform((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (32, 32)),
        ImageTransform((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (224, 224), 256),
        PointTransform(1024, 6),
        PointTransform(512, 3, "z"),
        GraphTransform(1433),
        GraphTransform(12, False, False),
    ],
)
def test_data_and_back(transform):
    assert from_card(json.loads(json.dumps(to_card(transform)))) == transform


@pytest.mark.parametrize("sparse", [False, True])
def test_features_that_are_not_finite_name_their_node(sparse):
    x = torch.zeros(4, 3)
    x[0, 0], x[2, 1] = 1.0, torch.nan
    with pytest.raises(UsageError, match="a feature of node 2 is not finite"):
        GraphTransform(3)(x.to_sparse() if sparse else x)


@pytest.mark.parametrize("x", ["features.csv", csr_array(np.eye(3)), None])
def test_features_of_another_kind(x):
    with pytest.raises(UsageError, match=rf"features must be numbers \[N, 3\].*, not {type(x).__name__}"):
        GraphTransform(3)(x)
