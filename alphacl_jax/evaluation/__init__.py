"""What frozen features are worth: probes, neighbours, spectra, pictures; no training in here."""

from alphacl_jax.extras import require_train

require_train(__name__)
