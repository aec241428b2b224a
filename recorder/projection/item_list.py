"""The ordered list of a conversation's items, and the index by id.

The server's word decides the order: `previous_item_id` of the first event that places an item. What the client asks
for holds only until the server has answered.
"""

from __future__ import annotations

from recorder.projection import payload as json
from recorder.projection.state import ContentPart, Item

ROOT = "root"
"""The `previous_item_id` by which a client asks for the first place."""


class ItemList:
    """Items in conversation order.

    Attributes:
        ordered: the conversation, deleted items included.
        out_of_band: items of responses outside the conversation.
    """

    def __init__(self) -> None:
        self.ordered: list[Item] = []
        self.out_of_band: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._unnamed = 0  # of the conversation's, how many have no id
        self._anchored: set[str] = set()
        self._server_orders = False

    def get(self, item_id: str | None) -> Item | None:
        """The item with this id, wherever it stands."""
        return self._by_id.get(item_id) if item_id else None

    def add(self, item: Item, *, after: str | None = None) -> Item:
        """Put a new item into the conversation: behind `after` (or `root`) where that is known, else last."""
        if item.id:
            self._by_id[item.id] = item
        else:
            self._unnamed += 1
        self.ordered.insert(self._place(after), item)
        return item

    def add_out_of_band(self, item: Item) -> Item:
        """Keep an item outside the conversation."""
        if item.id:
            self._by_id[item.id] = item
        item.out_of_band = True
        self.out_of_band.append(item)
        return item

    def remove(self, item: Item) -> None:
        """Take back an item that the server has refused."""
        self.ordered[:] = [other for other in self.ordered if other is not item]
        if item.id:
            self._by_id.pop(item.id, None)
        else:
            self._unnamed -= 1

    def adopt(self, item_id: str, source: json.Object) -> Item | None:
        """Give the server's id to the oldest item that the client sent without one and that looks like `source`."""
        if not self._unnamed:
            return None
        wanted = _likeness(source)
        for item in self.ordered:
            if item.id is None and not item.confirmed and wanted == (item.type, item.role, item.call_id):
                item.id = item_id
                self._by_id[item_id] = item
                self._unnamed -= 1
                return item
        return None

    def anchor(self, item: Item, event: json.Object) -> None:
        """Move an item to where the server says it stands; only its first word on an item counts.

        Items inserted later change an item's predecessor, so a later `previous_item_id` of the same item is stale.
        A null means "first" only from a server that has shown that it keeps the order: some send nothing but nulls.
        Where all before has been deleted, it says no more than that: the item stays behind what was said before it.
        """
        previous = event.get("previous_item_id")
        if isinstance(previous, str):
            self._server_orders = True
        if item.id is None or item.id in self._anchored or "previous_item_id" not in event:
            return
        self._anchored.add(item.id)
        asked_root = not item.confirmed and self.ordered[:1] == [item]
        if previous is None and (asked_root or not self._server_orders or self._stands_alone(item)):
            return
        if isinstance(previous, str) and previous != ROOT and not self._stands(previous, but_not=item):
            return
        if self._is_last_behind(item, previous):
            return  # as nearly always
        self.ordered[:] = [other for other in self.ordered if other is not item]
        self.ordered.insert(self._place(previous if isinstance(previous, str) else ROOT), item)

    def into_conversation(self, item: Item) -> None:
        """An item thought to stand outside turns out to be part of the conversation."""
        if item.out_of_band:
            item.out_of_band = False
            self.out_of_band[:] = [other for other in self.out_of_band if other is not item]
            self.ordered.append(item)

    def _is_last_behind(self, item: Item, previous: object) -> bool:
        """Whether an item is the last, right behind the one with that id."""
        return (
            previous is not None
            and len(self.ordered) > 1
            and self.ordered[-1] is item
            and (self.ordered[-2].id == previous)
        )

    def _stands_alone(self, item: Item) -> bool:
        """Whether the server's conversation holds nothing else."""
        return all(other is item or other.deleted or not other.confirmed for other in self.ordered)

    def _stands(self, item_id: str, *, but_not: Item) -> bool:
        item = self._by_id.get(item_id)
        return item is not None and item is not but_not and not item.out_of_band

    def _place(self, after: str | None) -> int:
        if after == ROOT:
            return 0
        item = self.get(after)
        if item is not None:
            for place, other in enumerate(reversed(self.ordered)):
                if other is item:
                    return len(self.ordered) - place
        return len(self.ordered)


def merge(item: Item, source: json.Object) -> None:
    """Take over what the server says of an item; what it leaves empty (audio, a truncated transcript) stays."""
    item.type = json.text(source, "type") or item.type
    for field in ("role", "status", "name", "call_id"):
        setattr(item, field, json.text(source, field) or getattr(item, field))
    item.arguments = json.text(source, "arguments") or item.arguments
    output = json.text(source, "output")
    item.output = item.output if output is None else output
    for place, part in enumerate(json.children(source, "content")):
        own = part_at(item, place)
        own.type = json.text(part, "type") or own.type
        own.text = json.text(part, "text") or own.text
        own.transcript = json.text(part, "transcript") or own.transcript


def part_at(item: Item, place: int) -> ContentPart:
    """An item's content part by its index, made where it is missing."""
    while len(item.content) <= place:
        item.content.append(ContentPart())
    return item.content[place]


def _likeness(source: json.Object) -> tuple[str | None, str | None, str | None]:
    """What the server keeps of an item as asked for: its content's types it may call otherwise."""
    return json.text(source, "type"), json.text(source, "role"), json.text(source, "call_id")
