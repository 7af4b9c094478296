"""Flax modules as `Model`s."""

from dlcore.interop.linen import from_linen as from_linen
from dlcore.interop.nnx import from_nnx as from_nnx
from dlcore.interop.sharding_hints import sharding_rules as sharding_rules
