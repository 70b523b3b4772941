import pytest
import torch

from comhe.regularizers import create_regularizer

MODES = pytest.mark.parametrize("mode", ["alternating", "unrolled", "both"])


def angle_error(w, p):
    def cosine(w):
        u = w / w.norm(dim=-1, keepdim=True)
        return u @ u.mT

    i, j = torch.triu_indices(len(w), len(w), offset=1)
    return (cosine(w)[i, j].acos() - cosine(w @ p.mT)[i, j].acos()).square().sum().item() * 2


@pytest.mark.parametrize("loss", ["cosine", "angle"])
@MODES
def test_steps_lower_the_angle_error(projected, loss, mode):
    model = projected()
    regularizer = create_regularizer("ap-comhe", model, dim=10, loss=loss, mode=mode, rate=2.0)
    errors = []
    for _ in range(25):
        errors.append(angle_error(model[0].weight, regularizer.state_of(regularizer.layers[0])))
        regularizer()
    assert errors[-1] < 0.7 * errors[0]


def test_wrong_loss(projected):
    with pytest.raises(ValueError, match="loss must be 'cosine' or 'angle', not 'chord'"):
        create_regularizer("ap-comhe", projected(), loss="chord")
