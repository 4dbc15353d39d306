"""Writes a trained encoder in a form that other programs read.

    alphacl export RUN OUT
    alphacl export --format=stablehlo RUN OUT

safetensors: encoder.safetensors, with torchvision's parameter names for ResNet-18, 34 and 50, and
encoder.json with architecture and preprocessing; heads.safetensors, the projector, which embeddings
need beside it. alphacl_jax.runs.load_encoder reads all of it.
stablehlo: the compiled function from uint8 images to features, for jax.export.deserialize.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_enum(
        "format",
        "safetensors",
        ["safetensors", "stablehlo"],
        "What is written.",
        flag_values=values,
    )


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("format",)}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if len(argv) != 3:
        raise RunError("give the run folder and the folder to write: alphacl export RUN OUT")
    run, output = (Path(argument).expanduser() for argument in argv[1:])
    with plain_errors():
        from alphacl_jax.runs.encoder import load_encoder
        from alphacl_jax.runs.exported import write_export
        from alphacl_jax.runs.stablehlo import write_stablehlo

        write = write_export if flags.FLAGS["format"].value == "safetensors" else write_stablehlo
        write(load_encoder(run), output)
    print(f"encoder: {output}")
