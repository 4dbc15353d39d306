"""A run folder, from the settings that made it to the encoder that it holds."""
