"""`python -m experiments.embed` is `alphacl embed`."""

from alphacl_jax.cli.command import run

if __name__ == "__main__":
    run("embed")
