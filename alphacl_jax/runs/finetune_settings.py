"""The settings of fine-tuning, from which the command line makes its flags."""

from dataclasses import dataclass

from alphacl_jax.runs.common_settings import LARGEST_SEED, check_last_seed
from alphacl_jax.runs.fields import check_settings, setting


@dataclass(frozen=True)
class FinetuneSettings:
    """How an encoder is trained further on labels, and the same network from scratch.

    The defaults are one recipe for small images; no figure of a test set chose them.
    """

    label_fraction: tuple[float, ...] = setting(
        (0.01, 0.1, 1.0),
        "Shares of the training images whose labels are used. Below 1 as many of each class are "
        "drawn; 1 is all of them, as they are.",
        above=0,
        upper=1,
    )
    epochs: int = setting(30, "Passes over the labelled images.", lower=1)
    min_steps: int = setting(
        300, "Steps at least, by further passes where there are few labels.", lower=1
    )
    batch_size: int = setting(
        64, "Images per step; all labelled images where they are fewer.", lower=2
    )
    encoder_learning_rate: tuple[float, ...] = setting(
        (1e-4, 1e-3, 1e-2),
        "The peak of the encoder's, after warm-up and before the cosine. Of several, fine-tuning "
        "and training from scratch each take the one that is best on a fifth of the labels, held "
        "out for that; with one label per class, where none can be held out, the middle one.",
        above=0,
    )
    classifier_learning_rate: float = setting(1e-2, "The peak of the classifier's.", above=0)
    optimizer: str = setting("adamw", "From optax.", choices=("sgd", "adam", "adamw", "lars"))
    weight_decay: float = setting(1e-4, "On weights alone: norms and biases are spared.", lower=0)
    augmentation: str | None = setting(
        None, "simclr, simclr_gray, digits or none. Default: what the run trained with."
    )
    seed: int = setting(
        0,
        "Of the labels that are drawn, the weights from scratch, the order of the images and the "
        "augmentation.",
        lower=0,
        upper=LARGEST_SEED,
    )
    num_seeds: int = setting(
        3, "Do all of it with this many seeds, and give mean and standard deviation.", lower=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_last_seed(self.seed, self.num_seeds)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)
