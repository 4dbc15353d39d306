"""The figures of one set of features, and the table that sets several side by side."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.evaluation.checks import check_split
from alphacl_jax.evaluation.knn import knn_accuracy
from alphacl_jax.evaluation.linear import few_label_probe, linear_probe


def evaluate_features(
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    num_classes: int,
    *,
    labels_per_class: Sequence[int] = (2, 10),
    draws: int = 20,
    seed: int = 0,
    level: str = "full",
) -> dict[str, float]:
    """Accuracies of frozen features, each in [0, 1].

    Args:
        train: features `[n, dim]` and labels `[n]` in [0, num_classes).
        test: features `[m, dim]` and labels `[m]`.
        num_classes: at least 2.
        labels_per_class: the few-label probes. One that asks for more samples than the smallest
            class has is left out.
        draws: of the labelled set, for each few-label probe.
        seed: of the draws; the same draws for any features of the same training samples.

    Returns:
        "linear_K_per_class" and "linear_K_per_class_std" for each K of `labels_per_class`,
        "linear_all" (the accuracy after the probe's last step) and "knn".

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, labels out of range.
    """
    split = check_split(*train, *test, num_classes)
    smallest = np.bincount(split[1], minlength=num_classes).min()
    figures: dict[str, float] = {}
    for k in labels_per_class:
        if k <= smallest:
            mean, std = few_label_probe(
                *split, num_classes, labels_per_class=k, draws=draws, seed=seed
            )
            figures |= {f"linear_{k}_per_class": mean, f"linear_{k}_per_class_std": std}
    figures["linear_all"] = linear_probe(*split, num_classes)
    figures["knn"] = knn_accuracy(*split, num_classes)
    return figures


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over runs of each figure, and its standard deviation over runs.

    Args:
        runs: the figures of each run, such as those of `evaluate_features`. A figure that not all
            of them have is left out, and so is "NAME_std", the spread over draws within a run.

    Returns:
        "NAME" and, of two runs and more, "NAME_std" (with n − 1), for `format_table`.
    """
    table: dict[str, float] = {}
    for name in runs[0]:
        if name.endswith("_std") or not all(name in run for run in runs):
            continue
        values = np.array([run[name] for run in runs])
        table[name] = float(values.mean())
        if len(values) > 1:
            table[f"{name}_std"] = float(values.std(ddof=1))
    return table


def format_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A plain aligned table in percent, one row of `evaluate_features` figures per name.

    Args:
        rows: name of the features (such as "raw pixels") → figures. A figure that one row lacks
            and another has is shown as "n/a".

    Returns:
        Lines of text, the first the header, without a newline at the end.

    Raises:
        ValueError: no rows, or rows without a figure.
    """
    keys = {key for figures in rows.values() for key in figures}
    few = sorted(int(m[1]) for key in keys if (m := re.fullmatch(r"linear_(\d+)_per_class", key)))
    columns = {f"linear_{k}_per_class": f"linear, {k} {_labels(k)}/class" for k in few}
    columns |= {"linear_all": "linear, all labels", "knn": "kNN"}
    columns = {key: title for key, title in columns.items() if key in keys}
    if not columns:
        raise ValueError("nothing to show: no row has a figure of evaluate_features")
    lines = [["accuracy, %", *columns.values()]]
    lines += [[name, *(_cell(figures, key) for key in columns)] for name, figures in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


def _labels(k: int) -> str:
    return "label" if k == 1 else "labels"


def _cell(figures: Mapping[str, float], key: str) -> str:
    if key not in figures:
        return "n/a"
    text = f"{100 * figures[key]:.1f}"
    if (std := figures.get(f"{key}_std")) is not None:
        text += f" ± {100 * std:.1f}"
    return text


def verdicts(rows):
    return []
