"""Truncation of token ids: in the middle, or of all but their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from lift_eval.document import Span

Truncate: TypeAlias = Callable[[list[int], int, list[int]], tuple[list[int], Span]]
"""`truncate_middle`, or another way with the same arguments and results."""


def truncate_middle(ids: list[int], limit: int, ellipsis: list[int]) -> tuple[list[int], Span]:
    """Cut the middle out of token ids that exceed a limit.

    Over L tokens, the first L // 2 - len(ellipsis) stay, then the ellipsis, then the last L - L // 2, as published.

    Args:
        ids: Token ids.
        limit: Most tokens of the result.
        ellipsis: Token ids put where something was cut.

    Returns:
        The ids, at most ``limit`` of them, and the range of the input that was cut (empty where nothing was).

    Raises:
        ValueError: If the limit leaves no room for the ellipsis.
    """
    if len(ids) <= limit:
        return ids, (len(ids), len(ids))
    head, tail = limit // 2 - len(ellipsis), limit - limit // 2
    if head < 0:
        raise ValueError(f"limit {limit} leaves no room for the ellipsis")
    cut = (head, len(ids) - tail)
    return [*ids[: cut[0]], *ellipsis, *ids[cut[1] :]], cut


def truncate_beginning(ids: list[int], limit: int, ellipsis: list[int]) -> tuple[list[int], Span]:
    """Cut the beginning off token ids that exceed a limit; see `truncate_middle`."""
    if len(ids) <= limit:
        return ids, (0, 0)
    if limit < len(ellipsis):
        raise ValueError(f"limit {limit} leaves no room for the ellipsis")
    cut = (0, len(ids) - limit + len(ellipsis))
    return [*ellipsis, *ids[cut[1] :]], cut


def truncate_parts(
    ids: list[int],
    limit: int,
    ellipsis: list[int],
    parts: Sequence[Span],
    truncate: Truncate = truncate_middle,
) -> tuple[list[int], list[Span]]:
    """Truncate each of several parts of token ids, which share the room that the rest leaves.

    Args:
        ids: Token ids.
        limit: Most tokens of the result.
        ellipsis: Token ids put where something was cut.
        parts: Ranges of ids that may be cut, ascending and apart.
        truncate: How each is cut.

    Returns:
        The ids, at most ``limit`` of them, and the range of the input that was cut out of each part.

    Raises:
        ValueError: If the limit leaves no room for the ellipses beside what must not be cut.
    """
    room = limit - len(ids) + sum(last - first for first, last in parts)
    result: list[int] = []
    cuts: list[Span] = []
    end = 0
    for number, (first, last) in enumerate(parts):
        kept, (start, stop) = truncate(ids[first:last], room // (len(parts) - number), ellipsis)
        room -= len(kept)
        result += ids[end:first] + kept
        cuts.append((first + start, first + stop))
        end = last
    return result + ids[end:], cuts


def token_ranges(spans: Sequence[Span], places: Sequence[Span]) -> list[Span]:
    """Which tokens hold any of the characters of each place; a token of two places belongs to the first."""
    ranges: list[Span] = []
    last = 0
    for start, stop in places:
        first = next((i for i in range(last, len(spans)) if spans[i][1] > start), len(spans))
        last = next((i for i in range(len(spans), first, -1) if _begins_before(spans[i - 1], stop)), first)
        ranges.append((first, last))
    return ranges


def _begins_before(span: Span, stop: int) -> bool:
    # Special tokens have the empty span (0, 0): they belong to no text.
    return span[1] > span[0] and span[0] < stop


def characters_of(spans: Sequence[Span], cut: Span) -> Span:
    """The characters of a range of tokens; (0, 0) for none."""
    first, last = cut
    return (spans[first][0], spans[last - 1][1]) if first < last else (0, 0)


def kept_share(places: Sequence[Span], cuts: Sequence[Span]) -> tuple[float | None, Span]:
    """Share of the document that stands in one place or another beside its cut, and what stands in none.

    A share of None means that no place is known.
    """
    if not places:
        return None, (0, 0)
    length = places[0][1] - places[0][0]
    start, stop = 0, length
    for (begin, end), cut in zip(places, cuts, strict=True):
        # Places may differ in white space.
        first, last = (round((min(max(c, begin), end) - begin) * length / (end - begin)) for c in cut)
        start, stop = max(start, first), min(stop, last)
    stop = max(start, stop)
    return 1 - (stop - start) / length, (start, stop)
