"""Studies of images: one thing is varied, the rest stays; each prints a table and draws a picture.

python -m experiments.studies.NAME --help
"""
