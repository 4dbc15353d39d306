"""Recordings over time: simulated, synthetic and real ones, and what is learned from them."""
