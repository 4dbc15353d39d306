"""From a loss's name and its parameters to a loss family, a rule for α, or a loss with labels."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from jax import Array

from alphacl_jax import Family, Rule, families, objectives, rules
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.method_settings import PairLossSettings
from alphacl_jax.runs.settings import LOSSES, SupervisedSettings

# Which settings each loss reads, in the order of the function's arguments.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "info_nce": ("temperature", "eps"),
    "mine": (),
    "triplet": ("margin",),
    "soft_triplet": ("temperature", "margin"),
    "n_plus_one_tuplet": (),
    "lifted_structured": ("margin",),
    "sigmoid": ("sigmoid_c",),
    "linear": (),
}
_RULES: dict[str, tuple[str, ...]] = {
    "direct": ("temperature", "power"),
    "entropy": ("temperature",),
    "inverse": ("temperature", "gamma"),
    "square": ("temperature",),
    "uniform": (),
    "reference_inverse": ("temperature", "gamma"),
}
READ = {
    **_FAMILIES,
    **{f"alpha_{rule}": names for rule, names in _RULES.items()},
    **{f"alpha_from_{family}": names for family, names in _FAMILIES.items()},
}


def make_objective(settings: PairLossSettings) -> Rule | Family:
    """The rule or family that the settings name, with its parameters.

    Raises:
      ArgumentError: for a parameter out of range, or one that was set and that the loss does not
        read.
    """
    loss = settings.loss
    read = READ[loss]
    is_rule = loss.startswith("alpha_")
    if not is_rule and not settings.stop_gradient:
        held = ", ".join(name for name in LOSSES if name.startswith("alpha_"))
        raise ArgumentError(
            "stop_gradient",
            False,
            f"has no meaning for the loss {loss}: only a rule's alpha can be held fixed. Use one "
            f"of {held}",
        )
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in sorted({name for names in READ.values() for name in names} - set(read)):
        value = getattr(settings, name)
        if value != defaults[name]:
            reads = ", ".join(read) or "no parameters"
            raise ArgumentError(name, value, f"is not read by the loss {loss}; it reads {reads}")
    # An argument is called as its setting is, but for the sigmoid loss's c.
    arguments: dict[str, Any] = {
        name.removeprefix("sigmoid_"): getattr(settings, name)
        for name in read
        if getattr(settings, name) is not None
    }
    if not is_rule:
        family: Family = getattr(families, loss)(**arguments)
        return family
    if loss.startswith("alpha_from_"):
        return rules.from_family(getattr(families, loss.removeprefix("alpha_from_"))(**arguments))
    rule: Rule = getattr(rules, loss.removeprefix("alpha_"))(**arguments)
    return rule


def make_label_loss(settings: SupervisedSettings) -> Callable[..., Array]:
    """The loss with labels that the settings name, with its parameters."""
    name, _, form = settings.loss.partition("_")
    blocks: Any = {"block_size": settings.block_size}
    if name == "supcon":
        return functools.partial(
            objectives.supcon_loss, temperature=settings.temperature, variant=form, **blocks
        )
    if name == "nca":
        return functools.partial(objectives.nca_loss, variant=form, **blocks)
    if name == "margin":
        return functools.partial(objectives.margin_loss, margin=settings.margin, **blocks)
    return functools.partial(objectives.triplet_loss, margin=settings.margin, mining=form, **blocks)
