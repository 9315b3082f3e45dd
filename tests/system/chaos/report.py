"""What a run showed, as figures: faults, acknowledgements, pauses, closes, anomalies.

Owns the arithmetic over a history and its two forms, text and JSON. Must not judge
(`checker`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tests.system.chaos import history as h
from tests.system.chaos.checker import Anomaly
from tests.system.chaos.history import History

#: A fault's effects are looked for until the next one, and no longer than this.
FELT_S = 15.0
SHOWN_ANOMALIES = 12
SEVERAL = "several"


class Pauses(msgspec.Struct, frozen=True):
    """What senders felt after one kind of fault: each one's longest wait for an echo.

    `unanswered` messages got no echo: refused, or given up with their socket.
    """

    kind: str
    faults: int
    senders: int
    p50_ms: float
    p90_ms: float
    max_ms: float
    unanswered: int


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def waits(history: History) -> list[tuple[h.Invoke, float, bool]]:
    """Every message: when its first answer or its end came, and whether an echo."""
    ends: dict[tuple[str, str], tuple[float, bool]] = {}
    for ok in history.all(h.Ok):
        ends[ok.client, ok.id] = ok.t, True
    noes: list[h.Refused | h.GaveUp] = [
        *history.all(h.Refused),
        *history.all(h.GaveUp),
    ]
    for no in noes:
        ends.setdefault((no.client, no.id), (no.t, False))
    found = []
    for invoke in history.all(h.Invoke):
        end = ends.get((invoke.client, invoke.id), (history.ended, False))
        found.append((invoke, *end))
    return found


def pauses(history: History) -> list[Pauses]:
    """By kind of fault, in order of the median.

    "none" is what no fault touched; "several" is what waited through more than one,
    and is counted with none of them.
    """
    faults = sorted(history.all(h.Fault), key=lambda fault: fault.t)
    # Nudges are refused by design.
    messages = [each for each in waits(history) if each[0].kind == "chat"]
    starts = [each[0].t for each in messages]
    felt: dict[str, list[float]] = defaultdict(list)
    unanswered: Counter[str] = Counter()
    counts = Counter(fault.kind for fault in faults)
    touched: set[str] = set()
    for number, fault in enumerate(faults):
        later = faults[number + 1 :]
        # A message that waited when the fault came counts too.
        first = bisect_left(starts, fault.t - 6.0)
        last = bisect_right(starts, fault.until + FELT_S)
        longest: dict[tuple[str, str], float] = {}
        for invoke, answered, ok in messages[first:last]:
            if answered < fault.t or not _felt(fault, invoke):
                continue
            following = _next(later, invoke.room)
            if invoke.t >= following:
                continue
            touched.add(invoke.id)
            kind = fault.kind if answered < following else SEVERAL
            if ok:
                key = kind, invoke.client
                longest[key] = max(longest.get(key, 0.0), answered - invoke.t)
            else:
                unanswered[kind] += 1
        for (kind, _), waited in longest.items():
            felt[kind].append(waited)
    kinds = [*counts, SEVERAL] if felt[SEVERAL] else list(counts)
    rows = [_row(kind, counts[kind], felt[kind], unanswered[kind]) for kind in kinds]
    calm = [t - i.t for i, t, ok in messages if ok and i.id not in touched]
    return [_row("none", 0, calm, 0), *sorted(rows, key=lambda row: row.p50_ms)]


def _felt(fault: h.Fault, invoke: h.Invoke) -> bool:
    if fault.rooms:
        return invoke.room in fault.rooms
    if "gateway" not in fault.kind:
        return True
    mine = f"{invoke.client}/"
    return any(name.startswith(mine) for name in fault.sockets)


def _next(later: Sequence[h.Fault], room: str) -> float:
    """When the next fault comes that this room can feel."""
    felt = (fault.t for fault in later if not fault.rooms or room in fault.rooms)
    return next(felt, float("inf"))


def _row(kind: str, faults: int, values: list[float], unanswered: int) -> Pauses:
    return Pauses(
        kind,
        faults,
        len(values),
        round(percentile(values, 0.5) * 1000, 1),
        round(percentile(values, 0.9) * 1000, 1),
        round(max(values, default=0.0) * 1000, 1),
        unanswered,
    )


def summary(
    history: History, anomalies: list[Anomaly], seconds: float, **more: Any
) -> dict[str, Any]:
    """The JSON report."""
    closes = Counter(
        f"{c.code}{' ours' if c.ours else ''}" for c in history.all(h.Closed)
    )
    oks = history.all(h.Ok)
    began = min((i.t for i in history.all(h.Invoke)), default=0.0)
    return {
        **more,
        "seconds": round(seconds, 1),
        "said": len(history.all(h.Invoke)),
        "acknowledged": len(oks),
        "acknowledged_per_s": round(len(oks) / seconds, 1) if seconds else 0.0,
        "refused": Counter(no.code for no in history.all(h.Refused)),
        "given_up": len(history.all(h.GaveUp)),
        "deliveries": len(history.all(h.Shown)),
        "in_logs": {room: len(log) for room, log in history.logs.items()},
        "closes": closes,
        "lines": len(history.all(h.Line)),
        "own_loop_lag_s": round(history.lag_s, 2),
        "faults": [
            {
                "at_s": round(fault.t - began, 1),
                "for_s": round(fault.until - fault.t, 1),
                "kind": fault.kind,
                "target": fault.target,
                "sockets": len(fault.sockets),
            }
            for fault in history.all(h.Fault)
        ],
        "pauses": [msgspec.structs.asdict(row) for row in pauses(history)],
        "presence": [
            {
                "source": sample.source,
                "ghosts": sorted(set(sample.online) - set(sample.truth)),
                "missing": sorted(set(sample.truth) - set(sample.online)),
                "judged": sample.judged,
            }
            for sample in history.all(h.PresenceSample)
        ],
        "anomalies": [
            {
                **msgspec.structs.asdict(each),
                "at_s": round(each.t - began, 2) if each.t is not None else None,
                "after": _faults_before(history, each.t, began),
            }
            for each in anomalies
        ],
        "verdict": "bad" if anomalies else "good",
    }


def _faults_before(history: History, t: float | None, began: float) -> list[str]:
    """The latest faults before a moment: where to begin to look."""
    if t is None:
        return []
    before = [fault for fault in history.all(h.Fault) if fault.t <= t]
    return [
        f"{fault.kind} {fault.target} at {fault.t - began:.1f} s"
        for fault in sorted(before, key=lambda fault: fault.t)[-2:]
    ]


def text(report: dict[str, Any]) -> str:
    """The same for people, in some thirty lines."""
    lines = [
        f"seed {report.get('seed')}: said {report['said']}, acknowledged "
        f"{report['acknowledged']} ({report['acknowledged_per_s']}/s), refused "
        f"{_counts(report['refused'])}, given up {report['given_up']}, deliveries "
        f"{report['deliveries']}",
        f"sockets closed: {_counts(report['closes'])}; not let in: "
        f"{_counts(report.get('refusals', {}))}",
        f"own loop's longest lag {report['own_loop_lag_s']} s",
        "",
        "faults: "
        + ", ".join(
            f"{each['at_s']:.0f}s {each['kind']} ({each['target']})"
            for each in report["faults"]
        ),
        "",
        "longest wait for an echo, per sender and fault, ms",
        f"{'after':<16}{'faults':>7}{'senders':>9}{'p50':>9}{'p90':>9}{'max':>9}"
        f"{'no echo':>9}",
    ]
    lines += [
        f"{row['kind']:<16}{row['faults']:>7}{row['senders']:>9}{row['p50_ms']:>9.1f}"
        f"{row['p90_ms']:>9.1f}{row['max_ms']:>9.1f}{row['unanswered']:>9}"
        for row in report["pauses"]
    ]
    lines += ["", *_anomalies(report["anomalies"])]
    return "\n".join(lines)


def _anomalies(found: list[dict[str, Any]]) -> Iterable[str]:
    if not found:
        return ["no anomaly"]
    counts = Counter(each["rule"] for each in found)
    lines = [f"{len(found)} ANOMALIES: {_counts(counts)}"]
    shown: Counter[str] = Counter()
    for each in found:
        shown[each["rule"]] += 1
        if shown[each["rule"]] > SHOWN_ANOMALIES // len(counts) + 2:
            continue
        at = f"{each['at_s']} s " if each["at_s"] is not None else ""
        where = f"{each['room']} {each['seqs'] or ''} {', '.join(each['clients'])}"
        after = f" [after {'; '.join(each['after'])}]" if each["after"] else ""
        lines.append(f"  {at}{each['rule']}: {each['text']} ({where.strip()}){after}")
    return lines


def _counts(counts: dict[str, int]) -> str:
    found = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in found) or "none"
