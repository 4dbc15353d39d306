"""`python -m experiments.evaluate` is `alphacl evaluate`."""

from alphacl_jax.cli.command import run

if __name__ == "__main__":
    run("evaluate")
