"""In and out: sweeps as CSV, Parquet or Optuna studies, and trials that were run elsewhere as sweeps.

`kdsearch export` writes what the trial database holds into files that other programs read; `kdsearch import` turns
such files, of whatever program, into a sweep of the kind `import`, which is complete and which reports are made of.
Both write everything or nothing, and never over something that is there.
"""
