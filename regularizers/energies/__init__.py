"""The mathematics of the energy."""
