"""Point clouds: ModelNet-40, folders of shapes, and the built-in solids."""
