"""State dicts from files."""

import pytest
import torch

from comhe.errors import WeightsError
from comhe.zoo import read_state


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
