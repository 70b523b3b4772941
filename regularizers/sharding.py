"""Which rank computes which layer's penalty."""

from collections.abc import Iterable, Sequence

from torch import nn

from comhe.errors import UsageError

from .computed import attribute, walk


def balance(costs: Sequence[float], ranks: int) -> list[int]:
    """A rank for each cost: the largest first, each to the rank with the least so far, the lowest among equals.

    No rank gets more than 4/3 - 1/(3 ranks) times what the busiest one has in the best division.

    Example:
        >>> balance([5.0, 3.0, 2.0], ranks=2)
        [0, 1, 1]

    Source: Graham, *Bounds on Multiprocessing Timing Anomalies*, 1969.
    """
    load, owners = [0.0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        owners[index] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[owners[index]] += costs[index]
    return owners


def check_matrices(model: nn.Module) -> None:
    """Raise UsageError if FSDP1 has cut the weights of a model: a rank has a part of a flat tensor, and no matrix.

    Example:
        >>> check_matrices(nn.Linear(4, 3))
    """
    for name, module in walk(model):
        strategy = attribute(module, "sharding_strategy")
        is_wrapper = type(module).__name__ == "FullyShardedDataParallel" and getattr(strategy, "name", "") != "NO_SHARD"
        if is_wrapper or _is_flat(module):
            raise UsageError(
                f"{name or 'the model'} is sharded by FullyShardedDataParallel (FSDP1), which leaves no rank a matrix: "
                "use torch.distributed.fsdp.fully_shard (FSDP2)"
            )


def _is_flat(module: nn.Module) -> bool:
    """Whether FSDP1, around this module or one above it, has made parts of a flat tensor of its weights."""
    if not isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) or module._modules:  # parametrizations
        return False
    is_managed = attribute(module, "_is_fsdp_managed_module")  # by FSDP1 or FSDP2, which leaves matrices
    return is_managed and all(p is None or p.dim() < 2 for p in module._parameters.values())


def check_not_sharded(modules: Iterable[nn.Module]) -> None:
    """Raise UsageError if parameters are sharded over ranks (FSDP2's DTensors): all ranks gather these together, so
    that no rank can leave a layer to another.

    Example:
        >>> check_not_sharded([nn.Linear(4, 3)])
    """
    for module in modules:
        for name, parameter in module.named_parameters():
            if hasattr(parameter, "full_tensor"):
                raise UsageError(
                    f"{type(module).__name__}.{name} is sharded over the ranks already (FSDP2); its regularizer cannot "
                    "be: do not call shard(), each rank computes the whole penalty and the gradient of its own part"
                )
