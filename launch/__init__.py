"""Command-line programs: train, eval, sample, report, bench and doctor."""
