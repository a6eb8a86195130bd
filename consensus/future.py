"""Messages for heights to come, held until their height begins.

Rules kept here (CONSENSUS C10):
- each author has a space of its own, bounded in messages and bytes; a full one refuses more, and no author can fill or
  empty another's. The engine verifies who the author is before anything is held;
- only the next few heights are held: who is further behind must catch up by other means;
- what is held is judged anew when its height begins, against that height's validators.
"""

from __future__ import annotations

from consensus.messages import Message, Proposal, RoundChange

FUTURE_HEIGHTS = 4


def weight(message: Message) -> int:
    """About how many bytes a message holds."""
    if isinstance(message, Proposal):
        return len(message.block) + 256 * (1 + len(message.claims) + len(message.prepares))
    if isinstance(message, RoundChange):
        return len(message.block or b"") + 256 * (1 + len(message.prepares))
    return 256


class FutureMessages:
    """The buffer. `messages_max` and `bytes_max` are for each author."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._held: dict[bytes, list[tuple[bytes, int, Message]]] = {}

    def has_room(self, author: bytes, message: Message) -> bool:
        """Whether `hold` would keep the message: there is room for it and it is not held yet."""
        held = self._held.get(author, [])
        size = weight(message) + sum(weight(each) for _, _, each in held)
        full = len(held) >= self._messages_max or size > self._bytes_max
        return not full and all(each != message for _, _, each in held)

    def hold(self, author: bytes, peer: bytes, height: int, message: Message) -> None:
        """Keeps a message that `peer` brought, if there is room."""
        if self.has_room(author, message):
            self._held.setdefault(author, []).append((peer, height, message))

    def take(self, height: int) -> list[tuple[bytes, Message]]:
        """The (peer, message) held for a height, in the order of authors and arrival; earlier heights are dropped."""
        taken = [
            (peer, message) for _, held in sorted(self._held.items()) for peer, at, message in held if at == height
        ]
        remaining = {author: [each for each in held if each[1] > height] for author, held in self._held.items()}
        self._held = {author: held for author, held in remaining.items() if held}
        return taken

    def __len__(self) -> int:
        return sum(len(held) for held in self._held.values())
