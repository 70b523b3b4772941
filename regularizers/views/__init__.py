"""Matrix views of other libraries' layers, which are matched by their names: nothing of theirs is imported.

=====================================  ======================================================================
layer                                  view
=====================================  ======================================================================
Transformers: Conv1D                   ``[out, in]``, transposed
fused experts of a mixture             ``[experts, out, in]``, each expert a set
router of a mixture                    ``[experts, in]``
peft: LoRA, DoRA, OFT, BOFT, IA3, ...  the base layer's view with the active adapters in it; other adapters that add
                                       to the weight (LoHa, LoKr, AdaLoRA, ...) alike
torchvision: DeformConv2d              as the convolution
timm: CondConv2d                       ``[experts, out, in * kernel]``, each expert a set
timm: StdConv2d, ScaledStdConv2d       as the convolution, of the standardized filters; so are those of BiT
pytorch-metric-learning: class losses  ``[classes, in]``; the centers of a class are sets of their own
PyG: HeteroLinear, RGCN, RGAT          ``[types or relations, out, in]``; bases are combined, blocks are sets
PyG: ARMA, DNA, GatedGraph, Spline     one set a stack, group, layer or kernel entry
PyG: GCN2, AntiSymmetric, LINKX        ``[out, in]``, transposed where they multiply from the right
PyG: GMM                               ``[kernels, out, in]``, each kernel a set
PyG: heads that are averaged           ``[heads, out, in]``, each head a set (:mod:`comhe.regularizers.heads`); heads
                                       that are concatenated are one set
=====================================  ======================================================================

If one of PyG's convolutions is a model's last layer, :mod:`.messages` says which of its matrices are the output layer.
"""

from . import convolutional, geometric, huggingface, messages, metric_learning, peft, standardized

__all__ = ["convolutional", "geometric", "huggingface", "messages", "metric_learning", "peft", "standardized"]
