"""Contrast over time: data that is made here, and what is measured on it."""
