from . import autoregressive as autoregressive
from . import check as check
from . import colour_mixture as colour_mixture
from . import decoder as decoder
from . import diffusion as diffusion
from . import flow as flow
from . import gan as gan
from . import vae as vae
