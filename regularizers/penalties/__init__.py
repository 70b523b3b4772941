"""One penalty a file, each named as its regularizer."""
