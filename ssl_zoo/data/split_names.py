"""What splits are called, here and by others."""

from __future__ import annotations

PARTS = ("train", "validation", "test")

# What people call them.
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def split_of(word: str) -> str | None:
    """The split that a word means; None for any other word."""
    return next((split for split, words in WORDS.items() if word.strip().lower() in words), None)
