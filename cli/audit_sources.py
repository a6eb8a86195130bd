"""What an audit can be pointed at: a running node, a home whose node is stopped, an export file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ledger import codec
from ledger.errors import Invalid, VerifyFailed
from node.audit import BAD_EXPORT, Sealed, read_frames, split_frames

if TYPE_CHECKING:
    from cli.client import NodeClient

PAGE_BLOCKS = 500


class NodeSource:
    """A running node, through its API. Blocks are fetched up to the head that it stated at the beginning."""

    def __init__(self, client: NodeClient) -> None:
        self.name = client.url
        self._client = client
        self._head: dict[str, Any] = client.chain()

    def blocks(self) -> Iterator[Sealed]:
        """The node's blocks, fetched page by page."""
        height = 1
        while height <= self.head_height():
            limit = min(PAGE_BLOCKS, self.head_height() + 1 - height)
            page = self._client.get_bytes("/export", **{"from": height, "limit": limit})
            if not page:
                return
            for sealed in read_frames(page, height):
                yield sealed
                height = sealed.height + 1

    def head_height(self) -> int:
        """The height that the node stated."""
        return int(self._head["height"])

    def cells(self, height: int) -> Iterator[tuple[bytes, bytes]]:
        """The node's own state after a height. Raises VerifyFailed (E-AUDIT-004) where the answer is cut short."""
        data = self._client.get_bytes("/cells", height=height)
        try:
            for frame in split_frames(data):
                key, value = codec.decode(frame)
                yield key, value
        except (Invalid, ValueError, TypeError):
            raise VerifyFailed(BAD_EXPORT, "the node's state is cut short or malformed") from None
