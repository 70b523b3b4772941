"""State dicts from files."""

import pytest
import torch

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
