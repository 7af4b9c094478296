"""dlcore: the mathematics of deep learning as pure JAX functions.

>>> from dlcore import losses, networks, nn, train
>>> model = networks.MLP((16,), outputs=3)

`dir(dlcore)` lists the rooms, `dir(dlcore.nn)` what a room has; a room is loaded when it is first asked for.
"""

from dlcore.lazy import exports
from dlcore.parallel.backend import watch

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = exports(__name__, __file__)

watch()
