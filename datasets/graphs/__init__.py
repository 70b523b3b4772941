"""Graphs: citation networks and the built-in one."""
