"""Files of other kinds are told by what they begin with, and by their names where that does not tell."""

import gzip
import io
import tarfile
import zipfile

import pytest
import torch
from torch import nn

from comhe.inputs.signatures import named_archive, named_kind, named_part

BEGINNINGS = {
    "page.pt": (b"\n  <!DOCTYPE html><html>", "web page"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS"),
    "weights.h5": (b"\x89HDF\r\n\x1a\n", "Keras"),
    "renamed.pt": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "net.onnx": (b"\x08\x08\x12\x07pytorch", "ONNX"),
    "saved_model.pb": (b"\x08\x01\x12\x07", "TensorFlow"),
    "weights.pt.gz": (gzip.compress(b"a"), "gzip"),
    "model.safetensors.index.json": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "parts of a state dict"),
    "__0_0.distcp": (b"\x80", "dcp_to_torch_save"),
    "empty": (b"", "empty"),
    "cut.zip": (b"PK\x03\x04\0", "cut off"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_file_is_named(name, tmp_path):
    data, words = BEGINNINGS[name]
    (tmp_path / name).write_bytes(data)
    assert words in named_kind(tmp_path / name)
    assert "\n" not in named_kind(tmp_path / name)


def test_what_each_process_wrote_a_part_of_is_told_for_the_folder_and_for_each_file(tmp_path):
    names = {
        "dcp/__0_0.distcp": "dcp_to_torch_save",
        "dcp/.metadata": "dcp_to_torch_save",
        "deep/zero_to_fp32.py": "",
        "deep/global_step9/zero_pp_rank_0_mp_rank_00_model_states.pt": "zero_to_fp32.py",
        "deep/global_step9/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt": "zero_to_fp32.py",
        "deep/global_step9.pt": "",
        "deep/global_step9/mp_rank_00_model_states.pt": "",  # it has all weights, unless they are divided
        "plain/a.pt": "",
    }
    for name, words in names.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        assert (words in named_part(tmp_path / name)) if words else (named_part(tmp_path / name) == "")
    assert "torch.distributed.checkpoint.format_utils.dcp_to_torch_save" in named_part(tmp_path / "dcp")
    for folder in ("deep", "deep/global_step9"):
        assert "zero_to_fp32.py" in named_part(tmp_path / folder)
    assert named_part(tmp_path / "plain") == named_part(tmp_path / "none") == ""


def test_a_tar_archive_and_what_is_not_known(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    assert "tar archive" in named_kind(tmp_path / "a.pt")
    for data in (b"hello", b"\x80\x02}.", b'{"a": 1}', b"{", b"\xff" * 600):
        (tmp_path / "a.pt").write_bytes(data)
        assert named_kind(tmp_path / "a.pt") == ""


def test_archives_by_what_is_in_them():
    assert "Keras" in named_archive(["config.json", "model.weights.h5"])
    assert named_archive(["a", "b/c"]) == ""
    assert "unpack it" in named_archive(["run/log.txt", "run/best.pth"])
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 3), (torch.ones(1, 2),)), buffer)
    with zipfile.ZipFile(buffer) as archive:
        assert "torch.export" in named_archive(archive.namelist())
