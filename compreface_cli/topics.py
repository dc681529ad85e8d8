"""What `cf explain` explains: a topic with a stable ID, which findings, errors and causes carry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """A thing that can be wrong, or worth knowing, under an `id` that never changes.

    `means`: what it is; `why`: why it matters; `see`: how to see it; `ways`: the ways out, the best
    first. Each is made of whole sentences; a command stands between backquotes.
    """

    id: str
    means: str
    why: str
    see: str
    ways: tuple[str, ...]

    def as_dict(self) -> dict[str, str | list[str]]:
        return {
            "id": self.id,
            "means": self.means,
            "why": self.why,
            "see": self.see,
            "ways": list(self.ways),
        }


def more(*topics: Topic | None) -> str:
    """The line under a message that names the command which says more; "" without a topic."""
    ids = dict.fromkeys(topic.id for topic in topics if topic is not None)
    return f"More: cf explain {' '.join(ids)}" if ids else ""
