from . import flax_weights as flax_weights
from . import torch_weights as torch_weights
from ._linen import from_linen as from_linen
from ._nnx import from_nnx as from_nnx
from ._sharding_hints import sharding_rules as sharding_rules
from ._torch_inputs import googlenet_inputs as googlenet_inputs
from ._torch_names import names_of as names_of
