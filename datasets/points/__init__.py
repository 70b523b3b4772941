"""Point clouds: ModelNet, folders of shapes, and the built-in solids."""
