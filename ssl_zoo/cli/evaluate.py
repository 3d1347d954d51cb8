"""`ssl-zoo evaluate`: what is the pretrained backbone of a run worth on a labelled set?"""

from ssl_zoo.compose.evaluation import evaluate_from as run

__all__ = ["run"]
