"""An encoder as one compiled function, which needs JAX (and flatbuffers), none of this library.

    from pathlib import Path
    from jax import export
    content = Path("OUT/encoder.stablehlo").read_bytes()
    encode = export.deserialize(bytearray(content)).call
    features = encode(images)  # uint8 [n, height, width, channels] -> float32 [n, dim], any n >= 1

The images are of the size and the channels that encoder.json names; preprocessing and weights are
inside.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array, export

from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.exported import STABLEHLO, write_folder

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(encoder: Encoder, output: Path) -> None:
    """Writes what `encoder(images)` computes as StableHLO, for a CPU, a CUDA GPU and a TPU.

    Args:
      encoder: from a run folder, or from an export in safetensors.
      output: the folder to write, with encoder.stablehlo and encoder.json; an export that is there
        is replaced.

    Raises:
      RunError: where `output` holds something else, or cannot be written.
    """
    module, variables = encoder.module, encoder.variables

    def features(images: Array) -> Array:
        inputs = encoder.preprocessing.normalize(images)
        h: Array = module.apply(variables, inputs, train=False)  # type: ignore[assignment]
        return h.astype(jnp.float32)

    batch = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((*batch, *encoder.preprocessing.image_shape), jnp.uint8)
    exported = export.export(jax.jit(features), platforms=PLATFORMS)(images)
    details = {"form": "stablehlo", "platforms": PLATFORMS, "jax": jax.__version__}
    write_folder(encoder, output, {STABLEHLO: bytes(exported.serialize())}, details)
