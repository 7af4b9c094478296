"""Figures and run reports, on the host.

Files that draw import matplotlib, which takes long: called as `report.figures.save(...)`, they import it only then.
"""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
