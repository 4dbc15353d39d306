"""The picture of the benchmark of scale: time and memory against rows, with the laws."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from alphacl_jax.errors import RunError
from alphacl_jax.files import write_png_atomically
from experiments.benchmarks.kernel_picture import finish_log_log
from experiments.benchmarks.scale_laws import FAR_ROWS, PUBLISHED_GB, laws


def draw(report: Mapping[str, Any], path: str) -> None:
    """Draws a report of `experiments.benchmarks.scale` to a PNG file.

    Raises:
      RunError: where the file cannot be written.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    colours = iter(matplotlib.color_sequences["tab10"])
    of_loss: dict[str, Any] = {}
    for law in laws(report["results"]):
        if law.loss not in of_loss:
            of_loss[law.loss] = next(colours)
        rows = [r for r in report["results"] if _key(r) == (law.loss, law.devices, law.form)]
        sizes = np.array(sorted(r["size"] for r in rows))
        line = np.array([*sizes, FAR_ROWS])
        one = law.devices == 1
        style = {"color": of_loss[law.loss], "linestyle": "-" if one else "--", "linewidth": 1.2}
        dots = {"color": of_loss[law.loss], "marker": "o" if one else "s"}
        plural = "" if one else "s"
        label = f"{law.loss}, {law.devices} device{plural}, {law.form}"
        time.plot(line, [law.seconds(n) for n in line], label=label, **style)
        time.scatter([r["size"] for r in rows], [r["seconds"] for r in rows], **dots)
        fitted = [law.bytes(n) for n in line]
        if None not in fitted:
            # An intercept below 0 has no logarithm.
            memory.plot(line, [max(b, 1e5) / 1e6 for b in fitted if b is not None], **style)
        known = [r for r in rows if r["peak_bytes"] is not None]
        peaks = [max(r["peak_bytes"], 1e5) / 1e6 for r in known]
        memory.scatter([r["size"] for r in known], peaks, **dots)
    memory.plot(
        [1024 * k for k in PUBLISHED_GB],
        [1e3 * gb for gb in PUBLISHED_GB.values()],
        **{"color": "0.4", "marker": "x", "linestyle": "none"},
        label="Inf-CL as published, two towers, a GPU of eight",
    )
    finish_log_log(time, "rows", "time of value and gradient, s")
    finish_log_log(memory, "rows", "peak memory above the inputs, all devices, MB")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    machine = report["machine"]
    figure.suptitle(
        f"Points measured on {machine['cores']} cores of {machine['cpu']}; lines are fitted laws",
        fontsize="medium",
    )
    try:
        write_png_atomically(path, figure)
    except OSError as error:
        raise RunError(f"--picture={path} cannot be written: {error}") from error


def _key(row: Mapping[str, Any]) -> tuple[str, int, str]:
    return row["loss"], row["devices"], row["form"]
