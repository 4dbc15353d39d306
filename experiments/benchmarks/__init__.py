"""What the claims of speed and memory rest on."""
