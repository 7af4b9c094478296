from . import bound as bound
from . import objective as objective
from . import process as process
from . import samplers as samplers
from . import schedule as schedule
from . import weighting as weighting
