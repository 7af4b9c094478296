"""Whole workloads against the clock: `python -m launch.bench --suite=standard`.

Each side (dlcore, PyTorch, a plain Flax program) trains the same networks in a process of its own (`side`), and the
sides take turns (`turns`).
"""
