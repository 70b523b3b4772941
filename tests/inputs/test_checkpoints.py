"""Files of torch.save, in both formats, with everything that people keep in them."""

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import re
import tarfile
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from comhe.errors import WeightsError
from comhe.inputs import checkpoints
from comhe.inputs.checkpoints import open_checkpoint
from comhe.zoo import read_state
from comhe.zoo.state import NEST, flatten

FORMATS = {"zip": {}, "old": {"_use_new_zipfile_serialization": False}}
TYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32,
    torch.int64, torch.bool, torch.complex64,
)  # fmt: skip


class Custom(dict):
    pass


BESIDE = {
    "accuracy": np.float64(0.9), "history": np.arange(6.0), "args": argparse.Namespace(lr=0.1, nested={"a": [1]}),
    "path": pathlib.PurePosixPath("a/b"), "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "set": {1, 2},
    "counter": collections.Counter("aab"), "text": "é\n" * 99, "config": Custom(a=1), "function": np.mean,
    "dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1]), "regex": re.compile("a"),
}  # fmt: skip


def saved(content, how="zip", protocol=2):
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol, **FORMATS[how])
    return buffer.getvalue()


def tensors(path):
    checkpoint = open_checkpoint(path)
    return flatten(checkpoint.content, checkpoint.tensor)


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_of_all_types_and_strides(how, protocol, tmp_path):
    big = torch.arange(24.0).view(2, 3, 4)
    state = {str(t): torch.tensor([[0, 1, 2], [3, 4, 5]]).to(t) for t in TYPES}
    state |= {"transposed": big.mT, "part": big[1, 1:], "step": big[..., ::2], "scalar": torch.tensor(7.0)}
    state |= {"empty": torch.empty(0, 3), "parameter": nn.Parameter(big[0]), "same storage": big}
    (tmp_path / "file.pt").write_bytes(saved(state, how, protocol))
    found = tensors(tmp_path / "file.pt")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].equal(tensor.detach()), name


def test_types_that_have_no_storage_of_their_own(tmp_path):
    state = {"f8": torch.arange(4.0).to(torch.float8_e4m3fn), "u16": torch.arange(4).to(torch.uint16)}
    (tmp_path / "file.pt").write_bytes(saved(state))
    found = tensors(tmp_path / "file.pt")
    assert found["f8"].float().tolist() == found["u16"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_is_beside_the_tensors_is_passed_over(how, protocol, tmp_path):
    state = {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {**BESIDE, "state_dict": collections.OrderedDict(state), "optimizer": optimizer.state_dict()}
    (tmp_path / "file.pt").write_bytes(saved(content, how, protocol))
    found = read_state(tmp_path / "file.pt")
    assert found.keys() == state.keys()
    assert all(found[name].equal(tensor) for name, tensor in state.items())


@pytest.mark.parametrize("how", FORMATS)
def test_a_whole_module_is_read_without_its_class(how, tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
    (tmp_path / "module.pt").write_bytes(saved({"epoch": 1, "model": nn.DataParallel(model)}, how))
    found = read_state(tmp_path / "module.pt")
    assert found.keys() == model.state_dict().keys()
    assert all(found[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_tensors_that_are_not_dense_have_no_numbers(tmp_path):
    odd = {"sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta")}
    (tmp_path / "file.pt").write_bytes(saved(odd))
    assert all(tensor.is_meta for tensor in tensors(tmp_path / "file.pt").values())
    with pytest.raises(WeightsError, match="sparse is not a dense tensor"):
        read_state(tmp_path / "file.pt")


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("kind", [torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4])
def test_quantized_tensors_beside_others_do_no_harm(kind, how, tmp_path):
    state = {str(i): torch.full((5, i + 1), i + 1.0) for i in range(8)}  # storages are in order of their addresses
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        beside = torch.quantize_per_channel(torch.randn(5, 7), torch.ones(5), torch.zeros(5), 0, kind)
        (tmp_path / "file.pt").write_bytes(saved({"state_dict": state, "beside": beside}, how))
    found = tensors(tmp_path / "file.pt")
    assert found.pop("beside").is_meta
    assert {name.rpartition(NEST)[2]: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


@pytest.mark.parametrize("how", FORMATS)
def test_expanded_tensors_are_read_but_a_small_file_takes_no_large_memory(how, tmp_path, monkeypatch):
    row = torch.arange(6.0)
    state = {"rows": row.expand(3, 6), "windows": row.unfold(0, 3, 1), "one": torch.ones(1).expand(16), "row": row}
    (tmp_path / "file.pt").write_bytes(saved(state, how))
    found = read_state(tmp_path / "file.pt")
    assert all(found[name].equal(tensor) for name, tensor in state.items())
    monkeypatch.setattr(checkpoints, "MAX_EXPANDED", 4 * 12 + 4 * 6 + 4 * 14)
    found = tensors(tmp_path / "file.pt")
    assert [name for name, tensor in found.items() if tensor.is_meta] == ["one"]
    (tmp_path / "file.pt").write_bytes(saved({"bomb": row.expand(1 << 20, 6), "empty": row[3:3], "row": row}, how))
    found = tensors(tmp_path / "file.pt")
    assert [name for name, tensor in found.items() if tensor.is_meta] == ["bomb"]
    with pytest.raises(WeightsError, match=r"bomb is not a dense tensor that is stored in full; save its .*contiguous"):
        read_state(tmp_path / "file.pt")


def test_a_program_of_torchscript_has_its_tensors_by_name(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(model, torch.ones(1, 2))
        torch.jit.save(program, tmp_path / "script.pt")
        torch.jit.save(torch.jit.freeze(program), tmp_path / "frozen.pt")
    found = read_state(tmp_path / "script.pt")
    assert found.keys() == model.state_dict().keys()
    assert all(found[name].equal(tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(WeightsError, match=r"not a state dict but a __torch__\..*; save its state_dict\(\)"):
        read_state(tmp_path / "frozen.pt")


ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(6).reshape(2, 3).T, "c": np.array(True),
    "d": np.float16([1, 2]), "e": np.zeros((0, 3)), "f": np.arange(12.0).reshape(3, 4)[:, ::2], "g": np.uint8([7]),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_tensors_in_pickles(protocol, tmp_path):
    file = tmp_path / "file.pkl"
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    for content in (ARRAYS, {"model": ARRAYS, "author": "x"}, {"state_dict": collections.OrderedDict(ARRAYS)}):
        for data in (pickle.dumps(content, protocol), saved(content, "zip", protocol), saved(content, "old", protocol)):
            file.write_bytes(data)
            found = read_state(file)
            assert found.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                assert np.array_equal(found[name].numpy(), array), name
                assert found[name].numpy().dtype == array.dtype
    for content in (state, {"state_dict": state, "history": np.ones(3)}):  # arrays are for files without tensors
        file.write_bytes(pickle.dumps(content, protocol))
        found = read_state(file)
        assert found.keys() == state.keys()
        assert all(found[name].equal(tensor) for name, tensor in state.items())


def test_files_of_numpy(tmp_path):
    np.savez(tmp_path / "plain.npz", **ARRAYS)
    np.savez_compressed(tmp_path / "small.npz", **ARRAYS)
    np.savez(tmp_path / "objects.npz", state_dict=ARRAYS)
    np.save(tmp_path / "objects.npy", ARRAYS, allow_pickle=True)
    for file in sorted(tmp_path.iterdir()):
        found = read_state(file)
        assert {name: tensor.tolist() for name, tensor in found.items()} == {n: a.tolist() for n, a in ARRAYS.items()}
    np.save(tmp_path / "one.npy", ARRAYS["a"])
    with pytest.raises(WeightsError, match="not a state dict but a ndarray"):
        read_state(tmp_path / "one.npy")
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1 << 20))
    with pytest.raises(WeightsError, match="more than 64 times the bytes"):
        read_state(tmp_path / "bomb.npz")


def test_a_name_says_nothing_about_the_contents(tmp_path):
    state = {"weight": torch.ones(2)}
    torch.save(state, tmp_path / "checkpoint.safetensors")
    save_file(state, tmp_path / "safetensors.pt", metadata={"format": "pt"})
    for file in sorted(tmp_path.iterdir()):
        assert read_state(file)["weight"].tolist() == [1, 1]


def test_other_files_are_told_apart(tmp_path):
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(__file__, "file.py")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"a": 1}, 2))
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html><html>404</html>")
    (tmp_path / "page.safetensors").write_bytes(b"<!DOCTYPE html><html>404</html>")
    (tmp_path / "cut.pt").write_bytes(saved({"a": torch.zeros(99)})[:300])
    (tmp_path / "text.pt").write_bytes(b"hello")
    said = {
        "archive.tar": "tar archive", "bare.pkl": "not a state dict but a dict with the keys a", "empty.pt": "empty",
        "page.pt": "a web page", "page.safetensors": "a web page", "cut.pt": "an archive that is cut off",
        "text.pt": "not a file of torch.save", ".": "a folder; give the file",
    }  # fmt: skip
    for name, text in said.items():
        with pytest.raises(WeightsError, match=text) as error:
            read_state(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
