"""Searchers compared on a table: a file that says which, runs in the simulator, and what the runs are turned into."""
