"""What an evaluation of recordings found, as people read it: of one run, or over seeds."""

from collections.abc import Mapping
from typing import Any

from alphacl_jax.evaluation.report import format_table, verdicts
from alphacl_jax.tables import align

_FEW = (2, 10)
_TITLES = {
    **{f"linear_{k}_per_class": f"linear, {k} labels/class" for k in _FEW},
    "linear_all": "linear, all labels",
    "knn": "kNN",
    "moments": "moments, linear",
}
_DECODING = {
    "context_r2": ("context, R²", "{:.3f}", 1),
    "context_error": ("median error", "{:.3g}", 1),
    "moments": ("class, %", "{:.1f}", 100),
    "most_frequent": ("most frequent, %", "{:.1f}", 100),
}


def lines_of(figures: Mapping[str, Any]) -> list[str]:
    """The lines that show the figures of one run."""
    rank = figures["effective_rank"]["features"]
    step = f"step {figures['step']:,} of {figures['total_steps']:,}"
    return [f"{step}; effective rank of features: {rank:.1f}", *_tables(figures)]


def lines_over_seeds(figures: Mapping[str, Any]) -> list[str]:
    """The lines that show means and standard deviations over runs."""
    rank = figures["effective_rank"]
    shown = f"{rank['features']:.1f} ± {rank['features_std']:.1f}"
    compared = verdicts(figures["accuracy"]) if "accuracy" in figures else []
    return [f"effective rank of features: {shown}", *_tables({**figures, "verdicts": compared})]


def _tables(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    if "not_probed" in figures:
        lines.append(f"{figures['not_probed']}, so no probe was run")
    if "accuracy" in figures:
        lines.append(format_table(figures["accuracy"], _TITLES, tested_on="test recordings"))
        lines += figures.get("verdicts", [])
    if "decoding" in figures:
        lines.append(_decoding(figures["decoding"]))
    if "held_out_windows" in figures:
        lines.append(_windows(figures["held_out_windows"]))
    if "no_held_out_windows" in figures:
        lines.append(f"held-out windows are not looked at: {figures['no_held_out_windows']}")
    return lines


def _decoding(rows: Mapping[str, Mapping[str, float]]) -> str:
    """What was decoded of held-out moments, a row for each embedding."""
    names = [name for name in _DECODING if any(name in row for row in rows.values())]
    table = [["held-out moments, by kNN", *(_DECODING[name][0] for name in names)]]
    for title, row in rows.items():
        table.append([title, *(_cell(row, name, *_DECODING[name][1:]) for name in names)])
    return align(table)


def _windows(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The method's own measures of held-out windows, a row for each encoder."""
    first = next(iter(rows.values()))
    ahead = sum(name.startswith("accuracy_") and not name.endswith("_std") for name in first)
    columns: dict[str, tuple[str, str, float]] = {"loss": ("loss", "{:.3f}", 1.0)}
    if ahead:
        title = f"held-out windows: picked out of {first['candidates']:.0f}"
        columns = {f"accuracy_{k}": (f"{k} ahead, %", "{:.1f}", 100.0) for k in range(1, ahead + 1)}
        columns["bound"] = ("bound, nats", "{:.2f}", 1.0)
    else:
        title = "held-out windows"
        columns |= {"goodness": ("goodness of fit, bits", "{:.3f}", 1)}
        if "goodness_later" in first:
            columns |= {"goodness_later": ("in time, bits", "{:.3f}", 1)}
    table = [[title, *(heading for heading, _, _ in columns.values())]]
    for name, row in rows.items():
        table.append([name, *(_cell(row, key, *columns[key][1:]) for key in columns)])
    return align(table)


def _cell(row: Mapping[str, float], name: str, form: str, factor: float) -> str:
    if name not in row:
        return "n/a"
    shown = form.format(factor * row[name])
    if f"{name}_std" in row:
        shown += f" ± {form.format(factor * row[f'{name}_std'])}"
    return shown
