"""Images: CIFAR, folders of files, and the built-in glyphs."""
