"""Figures of several sets of features side by side: a table, and what won where in words."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from alphacl_jax.evaluation.probes import standard_error
from alphacl_jax.tables import align

Figures = Mapping[str, float]
_SPREADS = ("_std", "_se")


def over_seeds(runs: Sequence[Figures]) -> dict[str, float]:
    """The mean over runs of each figure, and its standard deviation over runs.

    Args:
        runs: the figures of each run, such as those of `evaluate_features`. A figure that not all
            of them have is left out, and so is "NAME_std", the spread over draws within a run.

    Returns:
        "NAME" and, of two runs and more, "NAME_std" (with n − 1), for `format_table`. Where the
        runs have "NAME_se", a standard error of the mean over n runs that share a test set,
        sqrt(mean of se² + std²/n). Of "NAME_l2" the geometric mean alone.
    """
    table: dict[str, float] = {}
    for name in runs[0]:
        if name.endswith(_SPREADS) or not all(name in run for run in runs):
            continue
        values = np.array([run[name] for run in runs])
        if name.endswith("_l2"):
            table[name] = float(np.exp(np.log(values).mean()))
            continue
        table[name] = float(values.mean())
        if name.endswith("_l2_at_end"):
            continue
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        if len(values) > 1:
            table[f"{name}_std"] = float(spread)
        if all(f"{name}_se" in run for run in runs):
            squares = np.mean([run[f"{name}_se"] ** 2 for run in runs])
            table[f"{name}_se"] = float(np.sqrt(squares + spread**2 / len(values)))
    return table


def format_table(
    rows: Mapping[str, Figures],
    titles: Mapping[str, str] | None = None,
    *,
    tested_on: str = "test images",
) -> str:
    """A plain aligned table in percent, one row of `evaluate_features` figures per name.

    Args:
        rows: name of the features (such as "raw pixels") → figures, or those of `over_seeds`. A
            figure that one row lacks and another has is shown as "n/a".
        titles: the columns, name of the figure → its title; None for those of
            `evaluate_features`.
        tested_on: what the accuracies are of, in the plural.

    Returns:
        Lines of text without a newline at the end: where there is a ±, one that says what it is
        (over seeds the caller does, who knows how many); the header; the rows. Shown is the
        standard deviation where a figure has one, and else the standard error.

    Raises:
        ValueError: no rows, or rows without a figure.
    """
    columns = _columns(rows, titles)
    if not columns:
        raise ValueError("nothing to show: no row has a figure of the columns")
    lines = [["accuracy, %", *columns.values()]]
    lines += [[name, *(_cell(figures, key) for key in columns)] for name, figures in rows.items()]
    return "\n".join([*_meaning(rows, list(columns), tested_on), align(lines)])


def verdicts(
    rows: Mapping[str, Figures],
    correct: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[str]:
    """What won where, in words: one sentence for each column that two rows have.

    Two rows tie where their difference is within two standard errors of it. That error is of the
    paired difference on the same test samples where `correct` has both rows, and otherwise made
    of both rows' own errors, sqrt(se² + se²), which calls more a tie.

    Args:
        rows: as for `format_table`; leave out rows that are not to be compared. A figure without
            "NAME_se" is not compared.
        correct: of an `Evaluation`.
        titles: as for `format_table`.

    Returns:
        Sentences such as "kNN: won by raw pixels, 97.6 against 96.1 % of alpha_direct
        (difference 1.5 ± 0.6)".
    """
    sentences = []
    for key, title in _columns(rows, titles).items():
        names = [name for name in rows if key in rows[name] and f"{key}_se" in rows[name]]
        names.sort(key=lambda name: -rows[name][key])
        if len(names) < 2:
            continue
        best = names[0]
        differences = {name: _difference(rows, correct, key, best, name) for name in names[1:]}
        tied = [name for name, (mean, error) in differences.items() if mean <= 2 * error]
        percent = [f"{100 * rows[name][key]:.1f}" for name in names]
        shown = {name: f"{100 * d:.1f} ± {100 * e:.1f}" for name, (d, e) in differences.items()}
        if tied:
            share = _listed([percent[names.index(name)] for name in (best, *tied)])
            sentence = f"a tie of {_listed([best, *tied])}, {share} %"
            sentence += f" (difference{' at most' * (len(tied) > 1)} {shown[tied[-1]]})"
        else:
            sentence = f"won by {best}, {percent[0]} against {percent[1]} % of {names[1]}"
            sentence += f" (difference {shown[names[1]]})"
        sentences.append(f"{title}: {sentence}")
    return sentences


def _columns(
    rows: Mapping[str, Figures], titles: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Title of each accuracy that a row has, in the order of the table."""
    keys = {key for figures in rows.values() for key in figures}
    if titles is not None:
        return {key: title for key, title in titles.items() if key in keys}
    few = sorted(int(m[1]) for key in keys if (m := re.fullmatch(r"linear_(\d+)_per_class", key)))
    columns = {f"linear_{k}_per_class": f"linear, {k} {_labels(k)}/class" for k in few}
    columns |= {"linear_all": "linear, all labels", "knn": "kNN"}
    return {key: title for key, title in columns.items() if key in keys}


def _labels(k: int) -> str:
    return "label" if k == 1 else "labels"


def _cell(figures: Figures, key: str) -> str:
    if key not in figures:
        return "n/a"
    text = f"{100 * figures[key]:.1f}"
    for spread in _SPREADS:
        if f"{key}{spread}" in figures:
            return f"{text} ± {100 * figures[f'{key}{spread}']:.1f}"
    return text


def _meaning(rows: Mapping[str, Figures], columns: Sequence[str], tested_on: str) -> list[str]:
    """The line that says what the ± of a table is, if it has one."""
    shown = {
        (key.endswith("_per_class"), spread)
        for figures in rows.values()
        for key in columns
        if (spread := next((s for s in _SPREADS if f"{key}{s}" in figures), None))
    }
    if (False, "_std") in shown:  # no draws of all labels: over seeds
        return []
    parts = []
    if any(spread == "_se" for _, spread in shown):
        parts.append(f"standard error, by the number of {tested_on}")
    if (True, "_std") in shown:
        parts.append("few labels: standard deviation over draws of the labels")
    return ["±: " + "; ".join(parts)] if parts else []


def _difference(
    rows: Mapping[str, Figures],
    correct: Mapping[str, Mapping[str, np.ndarray]] | None,
    key: str,
    first: str,
    second: str,
) -> tuple[float, float]:
    """Difference of two accuracies and its standard error."""
    difference = rows[first][key] - rows[second][key]
    if correct is None or not all(key in correct.get(name, {}) for name in (first, second)):
        return difference, float(np.hypot(rows[first][f"{key}_se"], rows[second][f"{key}_se"]))
    a, b = (correct[name][key].astype(float) for name in (first, second))
    return difference, standard_error(a - b)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]])
