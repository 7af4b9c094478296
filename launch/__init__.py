"""Command-line programs: train, eval, sample, report, export, list, bench and doctor."""
