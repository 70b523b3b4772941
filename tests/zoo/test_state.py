"""State dicts from files."""

import json
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from comhe.errors import WeightsError
from comhe.zoo import create_model, load_weights, read_state
from comhe.zoo.state import parts_of, weights_file

from .conftest import same


def test_files_that_hold_no_state_dict(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    torch.save({}, tmp_path / "empty.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError) as error:
            read_state(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_key_below_another_is_told_in_full(tmp_path):
    torch.save(
        {"state_dict": {"student.a.weight": torch.ones(2), "teacher.a.weight": torch.ones(2)}}, tmp_path / "a.pt"
    )
    for key in ("teacher", "state_dict.teacher."):
        with pytest.raises(WeightsError, match=r"did you mean key='state_dict\.teacher'\?"):
            read_state(tmp_path / "a.pt", key)
    with pytest.raises(WeightsError, match="no state dict at key='none'; its keys are state_dict"):
        read_state(tmp_path / "a.pt", "none")


def test_a_tensor_alone_is_called_one(tmp_path):
    torch.save(torch.ones(2), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"not a state dict but a torch\.Tensor; give tensors by name"):
        read_state(tmp_path / "a.pt")


def test_an_address_is_no_path():
    for read in (read_state, lambda path: load_weights(create_model("resnet8"), path)):
        with pytest.raises(WeightsError, match=r"^https://example\.com/w\.pth: an address; download the file first"):
            read("https://example.com/w.pth")


@pytest.fixture(params=[1, 2])
def mesh(request):
    """That of a process which believes to be the first of one, or of two."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=request.param)
    yield dist.device_mesh.init_device_mesh("cpu", (request.param,))
    dist.destroy_process_group()


@pytest.mark.parametrize("placement", [Shard(0), Replicate(), Partial()])
def test_sharded_weights_are_read_where_all_of_them_are_and_refused_before_anything_is_loaded(
    mesh, placement, tmp_path
):
    model = create_model("resnet8", num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    full = {name: tensor + 1 for name, tensor in before.items()}
    parts = {n: t.chunk(mesh.size())[0] if placement.is_shard() and t.dim() else t for n, t in full.items()}
    sharded = {n: DTensor.from_local(t, mesh, [placement], run_check=False) if t.dim() else t for n, t in parts.items()}
    torch.save(sharded, tmp_path / "a.pt")
    if placement.is_partial() or (placement.is_shard() and mesh.size() > 1):
        for weights in (sharded, tmp_path / "a.pt"):
            with pytest.raises(WeightsError, match=r"conv1\.weight is sharded over processes, .*full_state_dict=True"):
                load_weights(model, weights)
            assert same(model, before)
        with pytest.raises(WeightsError, match=r"a\.pt: conv1\.weight is sharded"):
            read_state(tmp_path / "a.pt")
        return
    assert same(read_state(tmp_path / "a.pt"), full)
    load_weights(model, sharded)
    assert same(model, full)


def test_a_sharded_model_takes_its_own_weights_and_stays_as_it_is_if_they_are_others(mesh):
    model = create_model("resnet8", num_classes=10)
    whole = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    fully_shard(model, mesh=mesh)
    with pytest.raises(WeightsError, match=r"is sharded over processes and takes .*; load others before fully_shard"):
        load_weights(model, whole)
    assert not model.bn1.running_mean.any(), "a buffer, which is not sharded"
    assert len(load_weights(model, model.state_dict()).loaded) == len(whole)


@pytest.fixture(params=["model.safetensors", "pytorch_model.bin"])
def divided(request, tmp_path):
    """The index of a state dict in two files, as Hugging Face's ``save_pretrained(max_shard_size=...)`` writes it."""
    state = create_model("resnet8", num_classes=10).state_dict()
    stem, _, end = request.param.partition(".")
    save = save_file if end == "safetensors" else torch.save
    places = {name: f"{stem}-0000{1 + (name > 'layer2')}-of-00002.{end}" for name in state}
    for file in {*places.values()}:
        save({name: tensor for name, tensor in state.items() if places[name] == file}, tmp_path / file)
    index = tmp_path / f"{request.param}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index, state


def test_a_state_dict_in_several_files_is_read_through_its_index_or_its_folder(divided):
    index, state = divided
    for path in (index, index.parent):
        model = create_model("resnet8", num_classes=10)
        load_weights(model, path)
        assert same(model, state)
        assert same(read_state(path), state)


def test_an_index_names_all_of_its_parts_and_nothing_else(divided):
    index, _ = divided
    first, second = parts_of(index)
    second.unlink()
    with pytest.raises(WeightsError, match=rf"its part {second.name} is missing; download or copy it"):
        read_state(index.parent)
    second.write_bytes(first.read_bytes())
    with pytest.raises(WeightsError, match=r"two of its parts have .*; copy the parts of one save there"):
        read_state(index)
    for name in ("../a.safetensors", "/etc/passwd", "..\\a.bin", "a/b.bin", "", 3):
        index.write_text(json.dumps({"weight_map": {"fc.weight": name}}))
        with pytest.raises(WeightsError, match=r"which is not the name of a file next to it|part 3 is missing"):
            read_state(index)
    for places in ({"fc.weight": index.name}, {}):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(WeightsError, match="not a safetensors file or a checkpoint of tensors"):
            read_state(index)


def test_a_distributed_checkpoint_is_read_once_it_is_joined(tmp_path):
    model, folder = create_model("resnet8", num_classes=10), tmp_path / "parts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": model.state_dict()}, checkpoint_id=folder)
    for path in (folder, *folder.iterdir()):
        for read in (read_state, lambda path: create_model("resnet8", path, num_classes=10)):
            with pytest.raises(WeightsError, match=r"torch\.distributed\.checkpoint\.format_utils\.dcp_to_torch_save"):
                read(path)
    dcp_to_torch_save(folder, tmp_path / "whole.pt")
    assert same(read_state(tmp_path / "whole.pt"), model.state_dict())
    (folder / "model.safetensors").touch()
    assert weights_file(folder).name == "model.safetensors"


def test_a_run_folder_is_no_folder_of_weights(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"
    (tmp_path / "recipe.json").touch()
    assert weights_file(tmp_path) == tmp_path
