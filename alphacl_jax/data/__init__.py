"""Data: where images come from, how they reach the devices, how they are augmented.

`sources` opens a data set by name and `arrays` makes one of images in memory; `reading` decodes
it, `batches` iterates over it. Of a folder `tree` finds the files, `parts` and `class_folders` say
what they are, and `images` decodes them as `decoding` and `ranges` say. `policies` chooses the
augmentation and `views` applies it; `preview` shows it. `preprocessing` is what an encoder keeps of
its data.
"""

from alphacl_jax.extras import require_train

require_train(__name__)
