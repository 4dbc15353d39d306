"""The settings of each method that a run can train, and the table of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alphacl_jax.runs.fields import check_settings, require_default, setting

LOSSES = (
    "info_nce", "mine", "triplet", "soft_triplet", "n_plus_one_tuplet", "lifted_structured",
    "sigmoid", "linear",
    "alpha_direct", "alpha_entropy", "alpha_inverse", "alpha_square", "alpha_uniform",
    "alpha_reference_inverse",
    "alpha_from_info_nce", "alpha_from_mine", "alpha_from_triplet", "alpha_from_soft_triplet",
    "alpha_from_n_plus_one_tuplet", "alpha_from_lifted_structured", "alpha_from_sigmoid",
    "alpha_from_linear",
)  # fmt: skip
# The losses with labels: their name in `alphacl_jax.objectives`, and the form.
LABEL_LOSSES = (
    "supcon_out", "supcon_in", "nca_log", "nca_probability", "margin",
    "triplet_all", "triplet_hard", "triplet_semihard",
)  # fmt: skip
_MARGINS = ("margin", "triplet_all", "triplet_hard", "triplet_semihard")


@dataclass(frozen=True)
class MethodSettings:
    """What each method's own settings are a class of."""

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """What tables call a run with these settings."""
        raise NotImplementedError


def _block_size() -> Any:
    return setting("auto", "Anchors compared at a time: a number, or auto.")


@dataclass(frozen=True)
class AverageSettings(MethodSettings):
    """The moving average of a network."""

    ema_momentum: float = setting(
        0.99, "Of the moving average: m of m·target + (1 - m)·online.", lower=0, upper=1
    )
    ema_schedule: str = setting(
        "cosine",
        "The moving average's momentum over the run: from ema_momentum to 1, or constant. Raised "
        "epochs stretch the cosine.",
        choices=("cosine", "constant"),
    )


@dataclass(frozen=True)
class PairLossSettings(MethodSettings):
    """A loss of the family, or α-CL."""

    loss: str = setting(
        "alpha_direct",
        "The loss family, or alpha_ and the rule for alpha.",
        choices=LOSSES,
        basic=True,
    )
    temperature: float = setting(
        0.5, "tau > 0 of the losses and rules that have one.", above=0, basic=True
    )
    power: float = setting(4.0, "p > 1 of alpha_direct: alpha ~ exp(-d^p / tau).", above=1)
    gamma: float = setting(
        2.0, "The exponent of alpha_inverse (> 1) and alpha_reference_inverse (> 0).", above=0
    )
    eps: float = setting(
        1.0, "epsilon >= 0 of info_nce: the weight of the positive in the denominator.", lower=0
    )
    margin: float | None = setting(
        None, "Of triplet, soft_triplet and lifted_structured. Default: the family's."
    )
    sigmoid_c: float = setting(1.0, "c > 0 of the sigmoid loss.", above=0)
    stop_gradient: bool = setting(
        True, "Hold alpha fixed in the gradient; without it, 'backprop alpha(theta)'."
    )
    block_size: int | str = _block_size()

    @property
    def label(self) -> str:
        return self.loss


@dataclass(frozen=True)
class TwoViewSettings(PairLossSettings):
    """Such a loss of the embeddings of a batch."""

    negatives: str = setting(
        "both_views",
        "Which embeddings are an anchor's negatives.",
        choices=("both_views", "same_view", "cross_view"),
    )
    labelled: bool = setting(
        False, "Images of one class are no negatives of each other; it reads the labels."
    )


@dataclass(frozen=True)
class ContrastiveSettings(TwoViewSettings):
    """The method 'contrastive': a loss of the family, or α-CL, on two views."""


@dataclass(frozen=True)
class DirectCLRSettings(TwoViewSettings):
    """The method 'directclr': the same on a part of the features, without a projector."""

    subvector: int = setting(
        64, "How many of the features' first coordinates the loss sees.", lower=1
    )

    @property
    def label(self) -> str:
        return f"directclr-{self.loss}"


@dataclass(frozen=True)
class QueueSettings(PairLossSettings, AverageSettings):
    """The method 'queue': negatives from a queue of a moving average's embeddings."""

    queue_size: int = setting(
        1024,
        "How many negatives the queue holds: a multiple of two batches, and best below twice the "
        "images of an epoch, or an anchor meets its own earlier keys.",
        lower=2,
    )

    @property
    def label(self) -> str:
        return f"queue-{self.loss}"


@dataclass(frozen=True)
class SupervisedSettings(MethodSettings):
    """The method 'supervised': embeddings of one class are drawn together."""

    loss: str = setting("supcon_out", "The loss with labels.", choices=LABEL_LOSSES)
    temperature: float = setting(0.1, "tau > 0 of supcon.", above=0)
    margin: float = setting(0.5, "Of margin and triplets, in half squared distances.", above=0)
    block_size: int | str = _block_size()

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.loss.startswith("supcon"):
            require_default(self, "temperature", "the losses supcon_out and supcon_in")
        if self.loss not in _MARGINS:
            require_default(self, "margin", f"the losses {', '.join(_MARGINS)}")

    @property
    def label(self) -> str:
        return self.loss


@dataclass(frozen=True)
class SiameseSettings(AverageSettings):
    """The method 'siamese': BYOL, SimSiam, DirectPred and DirectCopy, without negatives."""

    predictor: str = setting(
        "mlp",
        "What is between the online projection and the loss: learned, or set from the "
        "projections' correlation.",
        choices=("mlp", "linear", "none", "directpred", "directcopy"),
    )
    target: str = setting(
        "ema",
        "What is predicted: a moving average of the network, the network itself held fixed, or "
        "shared, through which the gradient flows.",
        choices=("ema", "stop_gradient", "shared"),
    )
    predictor_hidden: int = setting(256, "Width of the mlp's hidden layer.", lower=1)
    predictor_norm: str = setting(
        "affine",
        "BatchNorm on the mlp's hidden layer.",
        choices=("none", "affine", "no_affine"),
    )
    predictor_rate: float = setting(
        1.0, "The learning rate of a learned predictor, as a multiple of the others'.", above=0
    )
    predictor_constant_rate: bool = setting(
        False, "Keep a learned predictor's learning rate at its peak, as SimSiam does."
    )
    predictor_weight_decay: float | None = setting(
        None, "Of a learned predictor. Default: the others'.", lower=0
    )
    predictor_eps: float = setting(
        0.1, "epsilon >= 0 of directpred and directcopy, added to the eigenvalues.", lower=0
    )
    predictor_every: int = setting(
        1, "Steps between two settings of directpred's and directcopy's predictor.", lower=1
    )
    correlation_decay: float = setting(
        0.3, "The coefficient of the old value in the average E[f f^T].", lower=0, below=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.target != "ema":
            for name in ("ema_momentum", "ema_schedule"):
                require_default(self, name, "runs with target=ema")
        if self.predictor != "mlp":
            for name in ("predictor_hidden", "predictor_norm"):
                require_default(self, name, "the predictor 'mlp'")
        if self.predictor not in ("mlp", "linear"):
            for name in ("predictor_rate", "predictor_constant_rate", "predictor_weight_decay"):
                require_default(self, name, "learned predictors (mlp, linear)")
        if self.predictor == "none":
            require_default(self, "correlation_decay", "methods with a predictor")
        if self.predictor not in ("directpred", "directcopy"):
            for name in ("predictor_eps", "predictor_every"):
                require_default(self, name, "the predictors directpred and directcopy")

    @property
    def label(self) -> str:
        """By its name in the literature, where it has one."""
        known = {("mlp", "ema"): "byol", ("mlp", "stop_gradient"): "simsiam"}
        if self.predictor in ("directpred", "directcopy"):
            return self.predictor if self.target == "ema" else f"{self.predictor}-{self.target}"
        return known.get((self.predictor, self.target), f"siamese-{self.predictor}-{self.target}")


# The settings of each method that there is, by its name; `alphacl_jax.runs.methods` makes them.
METHODS: Mapping[str, type[MethodSettings]] = {
    "contrastive": ContrastiveSettings,
    "supervised": SupervisedSettings,
    "directclr": DirectCLRSettings,
    "queue": QueueSettings,
    "siamese": SiameseSettings,
}
