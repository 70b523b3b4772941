"""Regularizers in two processes: on parameters sharded by FSDP, and with layers sharded by the regularizer."""

from ..forks import Fork

WORKER = """
import sys
import warnings
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.nn.utils import parametrizations, parametrize, prune
from comhe.errors import UsageError
from comhe.regularizers import create_regularizer, list_regularizers

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.set_num_threads(1)
OPTIONS = {"rp-comhe": {"dim": 4, "count": 3, "span": True}, "ap-comhe": {"dim": 4}, "adv-comhe": {"dim": 4}}

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Linear(32, 10), nn.Linear(10, 5)).double()

def steps(regularizer, model):
    values = []
    for _ in range(2):
        model.zero_grad()
        value = regularizer()
        if value.requires_grad:
            value.backward()
        values.append(value.item())
    grads = [p.grad if p.grad is None or not hasattr(p.grad, "full_tensor") else p.grad.full_tensor()
             for p in model.parameters()]
    return torch.tensor(values), grads

for name in list_regularizers():
    options = OPTIONS.get(name, {})
    model, sharded = network(), network()
    fully_shard(sharded)
    expected, gradients = steps(create_regularizer(name, model, **options), model)
    found, others = steps(create_regularizer(name, sharded, **options), sharded)
    torch.testing.assert_close(found, expected)
    for gradient, other in zip(gradients, others, strict=True):
        assert (gradient is None) == (other is None), name
        if gradient is not None:
            torch.testing.assert_close(other, gradient, rtol=1e-7, atol=1e-9 * float(gradient.abs().max()))

# Weights that are computed from several parameters and buffers.
class Adapter(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(n, 2)), nn.Parameter(torch.randn(2, d))

    def forward(self, w):
        return w + self.up @ self.down

COMPUTED = {
    "adapter": lambda layer: parametrize.register_parametrization(layer, "weight", Adapter(*layer.weight.shape)),
    "weight norm": parametrizations.weight_norm,
    "older weight norm": nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "older spectral norm": nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}

def computed(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(4, 3)).double()
    COMPUTED[how](model[0])
    COMPUTED[how](model[1])
    return model.double()

warnings.simplefilter("ignore", FutureWarning)  # of the older ones
for how in COMPUTED:
    model, sharded = computed(how), computed(how)
    fully_shard(sharded[1])
    fully_shard(sharded)
    expected, gradients = steps(create_regularizer("hs-mhe", model), model)
    found, others = steps(create_regularizer("hs-mhe", sharded), sharded)
    torch.testing.assert_close(found, expected, msg=how)
    assert sum(gradient is not None for gradient in gradients) >= 3
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, msg=how)

for name in ("ap-comhe", "mhp"):
    model, options = network(), OPTIONS.get(name, {})
    alone, shard = (create_regularizer(name, model, **options) for _ in range(2))
    shard.shard(rank, 2)
    for _ in range(3):
        alone(), shard()
    differ = [key for key, buffer in shard.named_buffers() if not buffer.equal(alone.get_buffer(key))]
    assert differ, "the other rank's layers are learned there"
    shard.sync_state()
    for key, buffer in shard.named_buffers():
        torch.testing.assert_close(buffer, alone.get_buffer(key))

# A step of two microbatches on each rank with the penalty in one of four places: always the gradient of one process.
def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()

x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
reference = perceptron()
(reference(x).square().mean() + create_regularizer("rp-comhe", reference, **OPTIONS["rp-comhe"])()).backward()
for wrap in (nn.parallel.DistributedDataParallel, fully_shard):
    for place in ("before", "first", "last", "after"):
        model = perceptron()
        wrapped = wrap(model)
        regularizer = create_regularizer("rp-comhe", wrapped if place == "last" else model, **OPTIONS["rp-comhe"])
        if place == "before":
            regularizer().backward()
        for index, batch in enumerate(x[rank::2].split(2)):
            if wrap is fully_shard:
                model.set_requires_gradient_sync(index == 1)
            with wrapped.no_sync() if wrap is not fully_shard and index == 0 else torch.enable_grad():
                loss = wrapped(batch).square().mean() / 2
                (loss + regularizer() if place == ("first", "last")[index] else loss).backward()
        if place == "after":
            regularizer().backward()
        assert regularizer.step == 1
        for p, other in zip(model.parameters(), reference.parameters(), strict=True):
            grad = p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
            torch.testing.assert_close(grad, other.grad, msg=f"{wrap.__name__} {place}")

# FSDP1 leaves a rank no matrix, unless it only replicates.
for use_orig_params in (False, True):
    model = perceptron()
    attached = create_regularizer("mhe", model)
    flat = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=use_orig_params)
    around = nn.Sequential(flat)
    for call in (attached, lambda: create_regularizer("mhe", flat), lambda: create_regularizer("mhe", around)):
        try:
            call()
        except UsageError as error:
            assert "is sharded by FullyShardedDataParallel (FSDP1)" in str(error), error
        else:
            raise AssertionError("a part of a flat tensor was taken for a matrix")
whole = FullyShardedDataParallel(
    perceptron(), device_id=torch.device("cpu"), use_orig_params=True, sharding_strategy=ShardingStrategy.NO_SHARD
)
assert create_regularizer("mhe", whole)().item() == create_regularizer("mhe", perceptron())().item()

# What FSDP2 has sharded is not shared out among the ranks: every rank is told so, none waits for another.
model, late = perceptron(), perceptron()
fully_shard(model)
shared = create_regularizer("mhe", late)
shared.shard(rank, 2)
fully_shard(late)
for call in (lambda: create_regularizer("mhe", model).shard(rank, 2), shared):
    try:
        call()
    except UsageError as error:
        assert "FSDP2" in str(error), error
    else:
        raise AssertionError("sharded twice")
print("done")
"""


def test_two_processes(tmp_path):
    ranks = [Fork("-c", WORKER, rank, tmp_path / "store") for rank in range(2)]
    for done in [rank.wait() for rank in ranks]:
        assert done.returncode == 0, done.stderr
        assert done.stdout == "done\n"
