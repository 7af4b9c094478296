"""dlcore: the mathematics of deep learning as pure JAX functions.

Import what you need from its rooms, e.g. `from dlcore.nn.dense import Dense`.
"""

from dlcore.parallel.backend import watch

__version__ = "0.1.0"

watch()
