"""Images: CIFAR, ImageNet, folders of files, and the built-in glyphs."""
