"""`ssl-zoo pretrain`: build what the configuration names, and train."""

from ssl_zoo.compose.pretraining import pretrain_from as run

__all__ = ["run"]
