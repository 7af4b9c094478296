"""Command-line programs: train, eval, sample, report, export, list, bench and doctor.

Flags are read before JAX is imported, so that help, lists and mistakes come at once: what is heavy is imported by the
functions that use it, also in `runtime` and `request`.
"""
