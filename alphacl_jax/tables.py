"""Tables as plain text."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns: the first column to the left, the others to the right, two spaces between.

    Args:
      rows: of equally many cells; the first row is the titles, where there are any.

    Returns:
      A line for each row, without spaces or a newline at the end.

    Raises:
      ValueError: rows of different lengths.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
