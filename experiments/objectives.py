"""From --loss and its parameters to a loss family or a rule for α."""

from typing import Any

from absl import flags

from alphacl_jax import (
    Family,
    Rule,
    families,
    rules,
)

# Which flags each loss reads, in the order of the function's arguments.
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
_READ = {
    **_FAMILIES,
    **{f"alpha_{rule}": names for rule, names in _RULES.items()},
    **{f"alpha_from_{family}": names for family, names in _FAMILIES.items()},
}

LOSSES = tuple(_READ)


def make_objective(values: flags.FlagValues) -> Rule | Family:
    """The rule or family that --loss names, with its parameters.

    Raises:
      ValueError: for a parameter out of range, or one that was set and that the loss does not read.
    """
    loss = values.loss
    read = _READ[loss]
    is_rule = loss.startswith("alpha_")
    if not is_rule and not values.stop_gradient:
        raise ValueError(
            f"--nostop_gradient has no meaning for --loss={loss}: only a rule's alpha can be held "
            f"fixed. Use one of {', '.join(name for name in LOSSES if name.startswith('alpha_'))}"
        )
    for name in sorted({name for names in _READ.values() for name in names} - set(read)):
        if values[name].value != values[name].default:
            reads = ", ".join(f"--{n}" for n in read) or "no parameters"
            raise ValueError(
                f"--loss={loss} does not read --{name}={values[name].value}; it reads {reads}"
            )
    arguments: dict[str, Any] = {
        name.removeprefix("sigmoid_"): values[name].value
        for name in read
        if values[name].value is not None
    }
    if not is_rule:
        family: Family = getattr(families, loss)(**arguments)
        return family
    if loss.startswith("alpha_from_"):
        return rules.from_family(getattr(families, loss.removeprefix("alpha_from_"))(**arguments))
    rule: Rule = getattr(rules, loss.removeprefix("alpha_"))(**arguments)
    return rule
