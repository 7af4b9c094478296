"""Variational autoencoders: reparametrisation, evidence lower bound, importance-weighted bounds (lecture 24).

p(z) a `Prior`, q(z|x) a `Posterior`, p(x|z) a `Likelihood` of the decoder's outputs. Bounds are in nats per image.
"""

from dlcore.generative.vae.active import Activity as Activity
from dlcore.generative.vae.active import active_units as active_units
from dlcore.generative.vae.active import activity as activity
from dlcore.generative.vae.bounds import Terms as Terms
from dlcore.generative.vae.bounds import elbo_terms as elbo_terms
from dlcore.generative.vae.bounds import iwae_bound as iwae_bound
from dlcore.generative.vae.bounds import log_likelihood as log_likelihood
from dlcore.generative.vae.bounds import log_weights as log_weights
from dlcore.generative.vae.bounds import reconstruction_nll as reconstruction_nll
from dlcore.generative.vae.categorical import gumbel_softmax as gumbel_softmax
from dlcore.generative.vae.estimators import reparameterize as reparameterize
from dlcore.generative.vae.model import VAE as VAE
from dlcore.generative.vae.model import centre as centre
from dlcore.generative.vae.model import check as check
from dlcore.generative.vae.model import code_size as code_size
from dlcore.generative.vae.model import decode as decode
from dlcore.generative.vae.model import encode as encode
from dlcore.generative.vae.model import init as init
from dlcore.generative.vae.model import sample as sample
from dlcore.generative.vae.model import sample_codes as sample_codes
from dlcore.generative.vae.model import sample_outputs as sample_outputs
from dlcore.generative.vae.objective import negative_elbo as negative_elbo
from dlcore.generative.vae.objective import negative_iwae as negative_iwae
from dlcore.generative.vae.prior import log_normal as log_normal
