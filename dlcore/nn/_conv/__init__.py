"""Convolution layers (lecture 14): how a convolution is computed on a CPU is chosen in `lowering`."""

from dlcore.nn._conv.layer import Conv as Conv
from dlcore.nn._conv.layer import conv as conv
