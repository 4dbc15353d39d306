"""Measuring in parts that have a time limit each, and of which one may fail and the others go on.

A part's figures come row by row from a process of its own, so that what was measured before it
failed, or before its time was over, is kept.
"""

import multiprocessing
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from alphacl_jax.errors import RunError
from experiments.benchmarks.benchmarking import end_with_parent

Row = dict[str, Any]
# What was measured, and what kept the rest from it: "" where nothing did.
Found = tuple[list[Row], str]

NO_TIME = "no time left"
_SHORTEST_SECONDS = 1.0
_LONGEST_TEXT = 160


@dataclass(frozen=True)
class Part:
    """Something that is measured.

    Attributes:
      kind: which table it belongs to.
      name: in the table.
      seconds: its share of the time, in relation to the other parts'.
      measure: does it, given when its time is over, by `time.monotonic`.
    """

    kind: str
    name: str
    seconds: float
    measure: Callable[[float], Found]


def run_parts(parts: Sequence[Part], until: float) -> Iterator[Row]:
    """Measures one part after the other; what one leaves of its time goes to the next.

    Args:
      parts: in order.
      until: when all are to be over, by `time.monotonic`.

    Yields:
      Of each part its kind, its name, its rows, the problem, and how many seconds it took.
    """
    begin = time.monotonic()
    a_second = max(0.0, until - begin) / sum(part.seconds for part in parts)
    planned = 0.0
    for part in parts:
        planned += part.seconds
        started, end = time.monotonic(), begin + planned * a_second
        rows, problem = part.measure(end) if end - started > _SHORTEST_SECONDS else ([], NO_TIME)
        took = time.monotonic() - started
        print(f"{part.name}: {problem or 'measured'}, {took:.0f} s", file=sys.stderr, flush=True)
        yield {
            "kind": part.kind,
            "name": part.name,
            "rows": rows,
            "problem": problem,
            "seconds": took,
        }


def collect(rows: Callable[[], Iterable[Row]], until: float) -> Found:
    """What a picklable function yields in a process of its own until the time is over."""
    context = multiprocessing.get_context("spawn")
    end, its_end = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(its_end, rows), daemon=True)
    process.start()
    its_end.close()
    found: list[Row] = []
    try:
        while end.poll(max(0.0, until - time.monotonic())):
            answer = end.recv()
            if isinstance(answer, str):
                return found, answer
            found.append(answer)
        return found, NO_TIME
    except (EOFError, ConnectionResetError):
        return found, "its process was killed; the machine's memory may have run out"
    finally:
        process.kill()
        process.join(5)
        end.close()


def _send(end: Connection, rows: Callable[[], Iterable[Row]]) -> None:
    """Sends row by row, and then what went wrong or ""."""
    end_with_parent()
    try:
        for row in rows():
            end.send(row)
        end.send("")
    except Exception as error:
        end.send(in_words(error))


def in_words(error: Exception) -> str:
    """An error in one line of a table; memory that ran out is called so, whoever says it."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        kind = "out of memory: "
    elif "out of memory" in text.lower():
        kind = ""
    else:
        kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
    return textwrap.shorten(kind + text, _LONGEST_TEXT, placeholder=" ...")
