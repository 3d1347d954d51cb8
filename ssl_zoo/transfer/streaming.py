"""Text as it is being written: the pieces of it that are whole, from ids that may end within a character."""

from __future__ import annotations

from ssl_zoo.data.tokenizer import Tokenizer


class Stream:
    """The ids of a text as they come, and the text as soon as its characters are whole."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.begin = self.given = 0  # the ids before `given` are given as text; from `begin` on they are read

    def add(self, one: int) -> str:
        """The text that an id completes; "" where it ends within a character.

        The ids before it are decoded with it, since some tokenizers put no space before a first word.
        """
        self.ids.append(one)
        text = self.open()
        if not text or text.endswith("\ufffd"):
            return ""
        self.begin, self.given = self.given, len(self.ids)
        return text

    def open(self) -> str:
        """What is not given yet, whole or not."""
        before = self.tokenizer.decode(self.ids[self.begin : self.given])
        return self.tokenizer.decode(self.ids[self.begin :])[len(before) :]
