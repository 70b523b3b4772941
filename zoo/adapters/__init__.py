"""State dicts of other implementations, family by family, by the names of this zoo."""
