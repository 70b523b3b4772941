"""A network and a training loop of one's own, with and without CoMHE, on the same seeds: `python examples/own_cnn.py`.

The data are built in: digits of 16 x 16 pixels. Nothing is downloaded.
"""

import torch
from torch import nn
from torch.nn import functional as F

from comhe.datasets import load_images
from comhe.regularizers import create_regularizer


class SmallCNN(nn.Module):
    """Three convolutions with batch norm, and a linear classifier."""

    def __init__(self, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width]
        self.convs = nn.ModuleList(nn.Conv2d(channels[i], channels[i + 1], 3, padding=1, bias=False) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(each) for each in channels[1:])
        self.head = nn.Linear(4 * channels[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.head(x.flatten(1))  # 2 x 2 of the 16 x 16 pixels are left


def train(name: str, seed: int, epochs: int) -> float:
    """Train with a regularizer and return the accuracy on the validation images, in percent."""
    images = load_images("digits")
    torch.manual_seed(seed)
    model = SmallCNN()
    # The penalties' options go by their names: dim and count are those of rp-comhe. The head is found by itself.
    options = {"dim": 10, "count": 5} if name == "rp-comhe" else {}
    regularizer = create_regularizer(name, model, weight=0.1, output_weight=1.0, **options)
    if seed == 0:
        print(regularizer.report())  # which layers, and which were skipped and why
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        model.train()
        for x, y in images.batches("train", batch_size=50, seed=100 * seed + epoch):
            loss = F.cross_entropy(model(x), y) + regularizer()  # the penalty once per optimizer step
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        hits = [(model(x).argmax(1) == y).float() for x, y in images.batches("val", batch_size=500)]
    return 100 * torch.cat(hits).mean().item()


def main(epochs: int = 3, seeds: int = 3) -> dict[str, list[float]]:
    """Compare over seeds: only the difference on the same seed says something about the regularizer."""
    found = {name: [train(name, seed, epochs) for seed in range(seeds)] for name in ("none", "rp-comhe")}
    for seed, (without, with_it) in enumerate(zip(*found.values(), strict=True)):
        print(f"seed {seed}: none {without:.1f} %, rp-comhe {with_it:.1f} %, difference {with_it - without:+.1f}")
    return found


if __name__ == "__main__":
    main()
