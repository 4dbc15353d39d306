"""`python -m experiments.compare` is `alphacl compare`."""

from alphacl_jax.cli.command import run

if __name__ == "__main__":
    run("compare")
