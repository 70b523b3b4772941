"""Train, evaluate and compare: recipes, the loop, run folders, the command line."""
