from . import backend as backend
from . import mesh as mesh
from . import processes as processes
from . import sharding as sharding
