from . import bound as bound
from . import held_out as held_out
from . import objective as objective
from . import process as process
from . import samplers as samplers
from . import sampling as sampling
from . import schedule as schedule
from . import weighting as weighting
