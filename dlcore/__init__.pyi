from . import backprop as backprop
from . import data as data
from . import evaluation as evaluation
from . import generative as generative
from . import interop as interop
from . import losses as losses
from . import networks as networks
from . import nn as nn
from . import optim as optim
from . import parallel as parallel
from . import report as report
from . import retrieval as retrieval
from . import stats as stats
from . import studies as studies
from . import train as train
from . import tree as tree
from . import types as types
from . import visualize as visualize

__version__: str
