"""What frozen features are worth: probes, neighbours, spectra, pictures; no training in here."""
