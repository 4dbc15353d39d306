"""The images of a folder that look most alike, to a trained encoder, as given ones.

    alphacl neighbors --workdir=RUN --data_dir=PHOTOS --k=10 one.jpg two.jpg

prints a table and draws a picture, each query beside its nearest images by the cosine of features.
A query that lies in the folder is not among its own neighbours.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.cli.data_flags import (
    decoding_for,
    define_decoding_flags,
    define_encoder_flag,
    folder_settings_of,
    workdir_of,
)
from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.start import plain_errors, show_at_once
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.settings import DataSettings

if TYPE_CHECKING:
    import numpy as np

    from alphacl_jax.data.folder import FolderSource
    from alphacl_jax.runs.encoder import Encoder

_CHUNK = 500


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_encoder_flag(values)
    flags.DEFINE_string(
        "data_dir", None, "The folder to search. Default: the run's own.", flag_values=values
    )
    define_decoding_flags(values)
    flags.DEFINE_multi_string(
        "query",
        [],
        "An image file, or several separated by commas; may be given again. Arguments that are no "
        "flags are image files too.",
        values,
    )
    flags.DEFINE_integer("k", 10, "How many neighbours of each.", 1, flag_values=values)
    flags.DEFINE_string(
        "output", None, "The picture. Default: WORKDIR/neighbors.png.", flag_values=values
    )


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {
        "flags": ("workdir", "query", "k", "data_dir", "output", "pixel_range", "max_megapixels")
    }


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    values = flags.FLAGS
    with plain_errors(values):
        workdir = workdir_of(values)
        queries = [path for text in values["query"].value or () for path in _split(text)]
        queries += [Path(text).expanduser() for text in argv[1:]]
        if not queries:
            raise RunError("--query is needed: give image files, such as --query=one.jpg,two.jpg")
        from alphacl_jax.data.preview import check_picture_path
        from alphacl_jax.runs.encoder import load_encoder

        encoder = load_encoder(workdir)
        data = folder_settings_of(values, encoder.settings.data)
        output = Path(values["output"].value or workdir / "neighbors.png").expanduser()
        check_picture_path("output", output)
        show_neighbors(encoder, data, queries, values.k, output)


def _split(text: str) -> list[Path]:
    """The files of one --query: a single one whose name may hold commas, or several."""
    whole = Path(text).expanduser()
    if os.path.exists(whole):  # False also where the whole would be too long a name
        return [whole]
    return [Path(part).expanduser() for part in text.split(",") if part]


def show_neighbors(
    encoder: "Encoder", data: DataSettings, queries: Sequence[Path], k: int, output: Path
) -> None:
    """Prints the table of the neighbours of each query, and draws them.

    Raises:
      ArgumentError: for a query that cannot be read, or more neighbours than there are images.
    """
    import numpy as np

    from alphacl_jax.data.folder import open_any
    from alphacl_jax.evaluation.pictures import warned_of
    from alphacl_jax.runs.neighbors import format_neighbors, nearest, plot_neighbors

    assert data.data_dir is not None
    folder = Path(data.data_dir).expanduser()
    shape = encoder.preprocessing.image_shape
    source, class_names = open_any(folder, shape, decoding_for(encoder, data))
    asked = _read_queries(queries, source)
    images = _Images(encoder, folder, source, class_names)
    # Each query may be among the images itself: one more is looked for, and it is left out.
    if k >= len(images.names):
        raise ArgumentError("k", k, f"must be less than the {len(images.names)} images found")
    indices, cosines = nearest(encoder(asked), images.features, k + 1)
    kept = np.array(
        [
            [rank for rank, index in enumerate(row) if not images.is_file(index, query)][:k]
            for row, query in zip(indices, queries, strict=True)
        ]
    )
    indices, cosines = (np.take_along_axis(a, kept, axis=1) for a in (indices, cosines))
    shown = [str(path) for path in queries]
    under = images.names if images.classes is None else images.classes
    show_at_once(format_neighbors(shown, images.names, images.classes, indices, cosines))
    with warned_of(str(output)):
        plot_neighbors(output, asked, images, shown, under, indices, cosines)
        print(f"picture: {output}")


def _read_queries(queries: Sequence[Path], source: "FolderSource") -> "np.ndarray":
    """The queries, decoded as the images of the folder are."""
    import numpy as np

    from alphacl_jax.data.images import UnreadableImage, decode

    try:
        shape, how = source.image_shape, source.decoding
        return np.stack([decode(str(path), shape, str(path), how) for path in queries])
    except (UnreadableImage, OSError) as error:
        listed = ",".join(map(str, queries))
        raise ArgumentError("query", listed, f"holds what cannot be read: {error}") from error


class _Images:
    """The readable images of a folder: their features, names and classes, and by number pixels."""

    def __init__(
        self,
        encoder: "Encoder",
        folder: Path,
        source: "FolderSource",
        class_names: tuple[str, ...],
    ):
        import numpy as np

        from alphacl_jax.data.sources import Split, in_order_named

        self._folder, self._source = folder, source
        features, self.names, classes = [], list[str](), list[str]()
        # Streamed: of all these images, only those that are near are looked at again.
        for images, labels, names in in_order_named(Split(self._source, False), _CHUNK, 0):
            features.append(encoder(images))
            self.names += names or []
            classes += [class_names[label] if label >= 0 else "" for label in labels]
        self.features = np.concatenate(features)
        self.classes = classes if class_names else None
        self._position = {name: i for i, name in enumerate(self._source.names)}

    def __getitem__(self, index: int, /) -> "np.ndarray":
        image: np.ndarray = self._source[self._position[self.names[index]]]["image"]
        return image

    def is_file(self, index: int, path: Path) -> bool:
        """Whether an image is this very file."""
        return (self._folder / self.names[index]).resolve() == path.resolve()
