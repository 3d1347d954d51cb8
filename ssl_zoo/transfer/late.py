"""Names of scikit-learn and torchmetrics, which take seconds to import: each is imported when first called.

Who reads these names finds the libraries' own: type checkers, and the hashes of code (`definitions`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer as TfidfVectorizer
    from sklearn.linear_model import LogisticRegression as LogisticRegression
    from sklearn.utils.extmath import randomized_svd as randomized_svd
    from torchmetrics.functional.classification import multiclass_accuracy as multiclass_accuracy
    from torchmetrics.functional.classification import multiclass_f1_score as multiclass_f1_score
    from torchmetrics.functional.classification import (
        multiclass_matthews_corrcoef as multiclass_matthews_corrcoef,
    )
    from torchmetrics.functional.classification import (
        multilabel_average_precision as multilabel_average_precision,
    )
else:

    class Late:
        """A function or class of a library, by its full name."""

        def __init__(self, name: str):
            self.name = name

        def __call__(self, *args: Any, **options: Any) -> Any:
            module, _, name = self.name.rpartition(".")
            return getattr(import_module(module), name)(*args, **options)

    TfidfVectorizer = Late("sklearn.feature_extraction.text.TfidfVectorizer")
    LogisticRegression = Late("sklearn.linear_model.LogisticRegression")
    randomized_svd = Late("sklearn.utils.extmath.randomized_svd")
    multiclass_accuracy = Late("torchmetrics.functional.classification.multiclass_accuracy")
    multiclass_f1_score = Late("torchmetrics.functional.classification.multiclass_f1_score")
    multiclass_matthews_corrcoef = Late("torchmetrics.functional.classification.multiclass_matthews_corrcoef")
    multilabel_average_precision = Late("torchmetrics.functional.classification.multilabel_average_precision")
