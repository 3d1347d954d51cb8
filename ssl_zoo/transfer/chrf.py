"""chrF: the F score of character n-grams (Popović 2015, "chrF: character n-gram F-score for automatic MT
evaluation"), over a whole set.

    chrF = (1 + b²) P R / (b² P + R),   b = 2,   P and R averaged over n = 1..6, white space left out

as sacrebleu counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

ORDER, BETA = 6, 2.0


def ngrams(text: str, n: int) -> Counter[str]:
    """How often each run of n characters occurs, white space left out."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(guesses: Sequence[str], truths: Sequence[str]) -> float:
    """chrF of guessed texts against one true text each, as a fraction.

    An n counts only where guesses and truths both hold runs of n characters; it is 0 where none counts.

    Raises:
        ValueError: another number of guesses than of truths.
    """
    precisions, recalls = [], []
    for n in range(1, ORDER + 1):
        guessed = true = both = 0
        for guess, truth in zip(guesses, truths, strict=True):
            g, t = ngrams(guess, n), ngrams(truth, n)
            guessed += g.total() if t else 0  # as in sacrebleu: not where the truth has no run of n
            true += t.total()
            both += (g & t).total()
        if guessed and true:
            precisions.append(both / guessed)
            recalls.append(both / true)
    if not sum(precisions):
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + BETA**2) * p * r / (BETA**2 * p + r)
