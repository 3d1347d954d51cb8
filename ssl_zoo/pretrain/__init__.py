"""Stage 1: the Lightning trainer around an objective."""

from ssl_zoo.pretrain.budget import Budget as Budget
from ssl_zoo.pretrain.data import PretrainingData as PretrainingData
from ssl_zoo.pretrain.module import Pretraining as Pretraining
from ssl_zoo.pretrain.run import pretrain as pretrain
