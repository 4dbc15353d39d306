"""`python -m alphacl_jax.cli` is `alphacl`."""

from alphacl_jax.cli.command import main

if __name__ == "__main__":
    main()
