"""Which moments are positives of each other: near in time, of one label, or of similar behaviour.

References:
  Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
  analysis" (doi:10.1038/s41586-023-06031-6), methods.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.data.nearest import nearest, search_order
from alphacl_jax.data.sequences import Recordings, whole_windows
from alphacl_jax.errors import ArgumentError, shown

RULES = ("time", "label", "time_delta", "gaussian")
PRIORS = ("empirical", "uniform")
_CONTINUOUS = ("time_delta", "gaussian")

# What moments are drawn from, by name: see `drawn_from`.
Arrays = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Positives:
    """What makes a moment the positive of a reference t.

    - "time": t + offset.
    - "label": any moment of t's label, all alike; t itself may be drawn.
    - "time_delta": the moment whose context is nearest to c_t + (c_s − c_{s−offset}), for a random
      s: to what the context may have become `offset` moments later.
    - "gaussian": the moment whose context is nearest to c_t + spread · noise, the noise normal.

    The rules of labels and of context are the subject of US patent 12,499,131 (2025), of which
    users must judge for themselves; contrast over time is older.

    Attributes:
      rule: one of these.
      offset: in moments, at least 1; of "time" and "time_delta", and of the later moments.
      spread: of "gaussian", in units of the context, above 0.
      prior: how references are drawn of "label": "empirical" (all moments alike) or "uniform" (all
        labels alike).
      within_labels: whether the nearest moment is sought among those of t's label: behaviour of
        both kinds, of the rules of context.
      hybrid: whether each reference has the moment t + offset as a positive in time besides.

    Raises:
      ArgumentError: for an unknown rule or prior, a number out of range, and what the rule does
        not read.
    """

    rule: str = "time"
    offset: int = 1
    spread: float = 0.1
    prior: str = "empirical"
    within_labels: bool = False
    hybrid: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ArgumentError("rule", shown(self.rule), f"must be one of {', '.join(RULES)}")
        if self.prior not in PRIORS:
            raise ArgumentError("prior", shown(self.prior), f"must be one of {', '.join(PRIORS)}")
        if self.offset < 1:
            raise ArgumentError("offset", self.offset, "must be at least 1, the next moment")
        if not (np.isfinite(self.spread) and self.spread > 0):
            raise ArgumentError("spread", self.spread, "must be a number above 0")
        if self.prior != "empirical" and self.rule != "label":
            raise ArgumentError("prior", shown(self.prior), "is read by the rule 'label' alone")
        if self.within_labels and self.rule not in _CONTINUOUS:
            problem = f"is read by the rules {' and '.join(_CONTINUOUS)} alone"
            raise ArgumentError("within_labels", True, problem)
        if self.hybrid and self.rule == "time":
            raise ArgumentError(
                "hybrid", True, "adds positives in time, and the rule 'time' is that"
            )

    @property
    def reads_labels(self) -> bool:
        return self.rule == "label" or self.within_labels

    @property
    def reads_context(self) -> bool:
        return self.rule in _CONTINUOUS


def drawn_from(
    recordings: Recordings, positives: Positives, before: int, after: int
) -> dict[str, np.ndarray]:
    """What references, positives and negatives of recordings are drawn from.

    Moments without a whole window in their recording are none of these; those without a label
    are no references or positives where labels are read, and so are those of a label that no other
    moment has.

    Args:
      recordings: `moment_labels` and `context` are what the rules read.
      positives: the rule.
      before, after: a window is [moment − before, moment + after), as in `whole_windows`.

    Returns:
      For `draw_moments`: "negatives" `[n]`, all moments with a whole window; "moments" `[v]`, those
      that can be found as positives, and "references" `[r]`, the places there of those that can be
      references; with "ends" and "reference_ends" `[labels]`, the sums of how many there are of
      each label. With the prior "uniform" "reference_labels", those that have references; with a
      rule of context "context" `[v, dims]`, and of "time_delta" "deltas" `[d, dims]`.

    Raises:
      ArgumentError: where the recordings have no labels or context that the rule reads, or nothing
        is left to draw from.
    """
    (found,) = drawn_from_sessions([recordings], positives, before, after)
    return found


def drawn_from_sessions(
    sessions: Sequence[Recordings], positives: Positives, before: int, after: int
) -> list[dict[str, np.ndarray]]:
    """`drawn_from` of each of several sessions, whose labels are the same by name.

    Labels that one of the sessions does not have are as if unknown.

    Raises:
      ArgumentError: as `drawn_from`, also for contexts of different dimensions, and for more than
        one session where positives are those of time.
    """
    if len(sessions) > 1 and positives.rule == "time":
        problem = "brings no sessions together: give what was observed in all of them"
        raise ArgumentError("rule", shown("time"), problem)
    classes = [np.zeros(len(each.signal), np.int64) for each in sessions]
    if positives.reads_labels:
        classes = _common_classes(sessions)
    if positives.reads_context:
        _require_context(sessions)
    names = [""] if len(sessions) == 1 else [f" of session {i}" for i in range(len(sessions))]
    count = 1 + max(int(np.max(own)) for own in classes)
    valid = [whole_windows(each.lengths, before, after) for each in sessions]
    counts = np.stack(
        [
            np.bincount(own[v][own[v] >= 0], minlength=count)
            for own, v in zip(classes, valid, strict=True)
        ]
    )
    usable = (counts >= 2).all(axis=0)
    if not usable.any():
        what = "label has two moments" if positives.reads_labels else "session has two moments"
        problem = f"leave nothing to draw from: no {what} with a whole window"
        raise ArgumentError("recordings", shown(sessions[0].signal), problem)
    number = np.where(usable, np.cumsum(usable) - 1, -1)
    return [
        _arrays(each, positives, v, np.where(own < 0, -1, number[own]), int(usable.sum()), name)
        for each, own, v, name in zip(sessions, classes, valid, names, strict=True)
    ]


def _common_classes(sessions: Sequence[Recordings]) -> list[np.ndarray]:
    """The labels of all moments, with numbers that mean the same in all sessions."""
    for each in sessions:
        if not each.moment_names:
            problem = "of moments are read by the rule, and the recordings have none"
            raise ArgumentError("labels", None, problem)
    common = sorted(set.intersection(*(set(each.moment_names) for each in sessions)))
    if not common:
        had = "; ".join(", ".join(each.moment_names[:5]) for each in sessions)
        raise ArgumentError("labels", had, "are of no class that all sessions have")
    number = {name: i for i, name in enumerate(common)}
    # The last entry is that of -1, unknown.
    tables = [[*(number.get(name, -1) for name in each.moment_names), -1] for each in sessions]
    return [np.array(t)[each.moment_labels] for t, each in zip(tables, sessions, strict=True)]


def _require_context(sessions: Sequence[Recordings]) -> None:
    dims = [each.context.shape[1] for each in sessions]
    if 0 in dims:
        problem = "is read by the rule, and the recordings have none"
        raise ArgumentError("context", None, problem)
    if len(set(dims)) > 1:
        problem = "must be the number of dimensions of the context, the same in all sessions"
        raise ArgumentError("context", ", ".join(map(str, dims)), problem)


def _arrays(
    recordings: Recordings,
    positives: Positives,
    valid: np.ndarray,
    classes: np.ndarray,
    count: int,
    name: str,
) -> dict[str, np.ndarray]:
    known = valid[classes[valid] >= 0]
    own = classes[known]
    order = np.argsort(own, kind="stable")
    if positives.reads_context:
        order = search_order(recordings.context[known], own)
    moments, own = known[order], own[order]
    is_reference = np.ones(len(moments), bool)
    if positives.rule == "time" or positives.hybrid:
        is_reference = _have_later(recordings, moments, valid, positives.offset)
    references = np.flatnonzero(is_reference)
    if not len(references):
        problem = f"leaves no moment{name} with a whole window of which the later one has one too"
        raise ArgumentError("offset", positives.offset, problem)
    of_label = np.bincount(own[references], minlength=count)
    arrays = {
        "negatives": valid,
        "moments": moments,
        "ends": np.cumsum(np.bincount(own, minlength=count)).astype(np.int32),
        "references": references.astype(np.int32),
        "reference_ends": np.cumsum(of_label).astype(np.int32),
    }
    if positives.prior == "uniform":
        arrays["reference_labels"] = np.flatnonzero(of_label).astype(np.int32)
    if positives.reads_context:
        arrays["context"] = recordings.context[moments]
    if positives.rule == "time_delta":
        arrays["deltas"] = _deltas(recordings, positives.offset, name)
    return arrays


def _have_later(
    recordings: Recordings, moments: np.ndarray, valid: np.ndarray, offset: int
) -> np.ndarray:
    """Which moments have one `offset` later in their recording, with a whole window too."""
    later, whole = moments + offset, np.zeros(len(recordings.signal), bool)
    whole[valid] = True
    inside = later < len(whole)
    later = np.where(inside, later, 0)
    recording = recordings.recording
    return inside & whole[later] & (recording[later] == recording[moments])


def _deltas(recordings: Recordings, offset: int, name: str) -> np.ndarray:
    """How the context changed within `offset` moments, wherever it is known."""
    context, recording = recordings.context, recordings.recording
    same = recording[offset:] == recording[:-offset]
    if not same.any():
        problem = f"is longer than all recordings{name}: the context has no change in that time"
        raise ArgumentError("offset", offset, problem)
    return (context[offset:] - context[:-offset])[same]


def draw_moments(key: Array, arrays: Arrays, positives: Positives, batch: int) -> dict[str, Array]:
    """References, their positives, and negatives that all share: int32 `[batch]` each.

    Negatives are drawn from all moments alike, and in no relation to the references.

    Args:
      key: random.
      arrays: of `drawn_from`.
      positives: the rule that it was called with.
      batch: how many to draw.

    Returns:
      "reference", "positive", "negative", and with a hybrid rule "later", as moments of the
      signal.
    """
    (found,), _ = draw_across(key, [arrays], positives, batch)
    return found


def draw_across(
    key: Array, sessions: Sequence[Arrays], positives: Positives, batch: int
) -> tuple[list[dict[str, Array]], Array]:
    """`draw_moments` of several sessions, where positives are of any session.

    The context or label that a positive is sought for, of a reference of one session, is looked
    up in another, or the same, by a random permutation of all of them.

    Args:
      key: random.
      sessions: of `drawn_from_sessions`.
      positives: the rule that it was called with.
      batch: how many to draw of each.

    Returns:
      What `draw_moments` returns of each session, and "partner" int32 `[sessions · batch]`: of
      all sessions' positives, one behind the other, the i-th reference has number `partner[i]`.
    """
    sessions = [{name: jnp.asarray(array) for name, array in each.items()} for each in sessions]
    partner_key, *keys = jax.random.split(key, 1 + len(sessions))
    drawn = [
        _references(own, arrays, positives, batch)
        for own, arrays in zip(keys, sessions, strict=True)
    ]
    order = jnp.arange(len(sessions) * batch, dtype=jnp.int32)
    partner = order
    if len(sessions) > 1:
        order = jax.random.permutation(partner_key, order)
        partner = jnp.argsort(order).astype(jnp.int32)
    label, query = (
        jnp.concatenate(part)[order] for part in zip(*(d[1:] for d in drawn), strict=True)
    )
    for i, (own, arrays, (moments, _, _)) in enumerate(zip(keys, sessions, drawn, strict=True)):
        if positives.rule == "time":
            moments["positive"] = moments["reference"] + positives.offset
            continue
        of_session = slice(i * batch, (i + 1) * batch)
        positive = _positives(
            jax.random.fold_in(own, 1), arrays, positives, label[of_session], query[of_session]
        )
        moments["positive"] = arrays["moments"][positive]
    return [moments for moments, _, _ in drawn], partner


def _references(
    key: Array, arrays: Arrays, positives: Positives, batch: int
) -> tuple[dict[str, Array], Array, Array]:
    """References of a session and negatives; and of its references the label `[batch]` and the
    context `[batch, dims]` that positives are sought for."""
    of_reference, of_label, of_query, of_negative = jax.random.split(key, 4)
    ends = arrays["reference_ends"]
    if positives.prior == "uniform":
        known = arrays["reference_labels"]
        label = known[jax.random.randint(of_label, (batch,), 0, len(known))]
        number = jax.random.randint(of_reference, (batch,), _starts(ends)[label], ends[label])
    else:
        number = jax.random.randint(of_reference, (batch,), 0, len(arrays["references"]))
        label = jnp.searchsorted(ends, number, side="right", method="compare_all")
    place = arrays["references"][number]
    reference = arrays["moments"][place]
    negatives = arrays["negatives"]
    found = {
        "reference": reference,
        "negative": negatives[jax.random.randint(of_negative, (batch,), 0, len(negatives))],
    }
    if positives.hybrid:
        found["later"] = reference + positives.offset
    query = jnp.zeros((batch, 0))
    if positives.reads_context:
        query = arrays["context"][place]
        query += _steps(of_query, arrays, positives, query.shape)
    return found, label, query


def _steps(key: Array, arrays: Arrays, positives: Positives, shape: tuple[int, ...]) -> Array:
    """From the contexts of references to those that positives are sought for."""
    if positives.rule == "gaussian":
        return positives.spread * jax.random.normal(key, shape)
    deltas = arrays["deltas"]
    return deltas[jax.random.randint(key, shape[:1], 0, len(deltas))]


def _positives(
    key: Array, arrays: Arrays, positives: Positives, label: Array, query: Array
) -> Array:
    """Places in "moments" of positives for these labels and contexts."""
    first, end = _starts(arrays["ends"])[label], arrays["ends"][label]
    if positives.rule == "label":
        return jax.random.randint(key, label.shape, first, end)
    return nearest(key, arrays["context"], first, end, query)


def _starts(ends: Array) -> Array:
    return jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
