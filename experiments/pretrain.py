"""`python -m experiments.pretrain` is `alphacl pretrain`."""

from alphacl_jax.cli.command import run

if __name__ == "__main__":
    run("pretrain")
