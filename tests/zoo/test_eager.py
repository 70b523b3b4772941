"""What importing the regularizers, the zoo and the data sets loads, and functions that are not compiled."""

import subprocess
import sys

import torch

from comhe.zoo.eager import eager


def test_it_is_one_graph_break_of_a_compiled_program():
    seen = []

    @eager
    def middle(x, *, shift):
        seen.append(torch.compiler.is_compiling())
        return x.sin() + shift

    x = torch.randn(3)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: middle(x + 1, shift=2) * 3, backend="eager")
    torch.testing.assert_close(compiled(x), (x + 1).sin() * 3 + 6)
    assert seen == [False]
    assert middle(x, shift=0).equal(x.sin())
    assert middle.__name__ == "middle"


def test_imports_load_neither_the_compiler_nor_scipy_nor_torch_geometric():
    """PyTorch Geometric and torchvision load the compiler themselves, so the zoo imports them where it needs them.

    Regularizers need torch and nothing else. Networks of images and points are built here; those of graphs are only
    listed.
    """
    code = """if True:
        import sys, torch
        from torch import nn
        assert "torch._dynamo" not in sys.modules
        from comhe.regularizers import create_regularizer
        create_regularizer("rp-comhe", nn.Sequential(nn.Linear(60, 50), nn.Linear(50, 3)))().backward()
        heavy = ["torch_geometric", "torchvision", "scipy", "h5py", "matplotlib", "lightning_fabric", "comhe.zoo"]
        print([name for name in (*heavy, "torch._dynamo") if name in sys.modules])
        import comhe.zoo, comhe.zoo.points, comhe.zoo.images, comhe.datasets
        from comhe.zoo import create_model, list_models, model_domain
        assert 'gcn' in list_models() and model_domain('gcn') == 'graphs'
        create_model("cnn9", num_classes=10), create_model("dgcnn", num_classes=10)
        print([name for name in ("torch._dynamo", "scipy.sparse", "torch_geometric") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n[]\n", done.stderr
