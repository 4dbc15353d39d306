"""The theory lab: each script shows one claim of the papers."""
