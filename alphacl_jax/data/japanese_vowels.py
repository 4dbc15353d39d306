"""Nine speakers' two Japanese vowels, which come with aeon: the recordings that need no download.

640 utterances of /ae/ by nine men, as 12 coefficients of linear prediction of 7 to 29 moments.

References:
  Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through regions,
  Pattern Recognition Letters 20, 1999 (UCI Machine Learning Repository, Japanese Vowels).
"""

import numpy as np

from alphacl_jax.data.numbering import numbered_by
from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.data.source_checks import check_part
from alphacl_jax.extras import require_of_sequences

_SPEAKERS = tuple(map(str, range(1, 10)))
# One moment is 6.4 ms after the last.
_RATE = 1 / 0.0064


def load_japanese_vowels(*, part: str = "train") -> Recordings:
    """The published parts: 270 utterances to train on, 30 of each speaker, and 370 to test.

    Args:
      part: "train" or "test".

    Raises:
      ModuleNotFoundError: where aeon is missing.
      ArgumentError: for another part.
    """
    require_of_sequences("aeon", "the source 'japanese_vowels'")
    check_part(part)
    from aeon.datasets import load_japanese_vowels as load  # here, since it takes seconds

    utterances, speakers = load(split=part)
    found = recordings_from_arrays(
        [np.transpose(channels) for channels in utterances], labels=list(speakers), rate=_RATE
    )
    return numbered_by(found, _SPEAKERS)
