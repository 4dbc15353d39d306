"""Data: where images come from, how they reach the devices, how they are augmented.

`sources` opens a data set by name, `batches` iterates over it, `augment` makes the views.
"""
