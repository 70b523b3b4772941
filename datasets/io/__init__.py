"""Fetching and reading of files that are not trusted."""
