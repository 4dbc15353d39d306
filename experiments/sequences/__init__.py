"""Recordings of neurons, made and real, and what contrast over time finds in them."""
