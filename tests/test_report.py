"""`ssl-zoo report`: what the page of a run holds, checked by hand and by a browser."""

import copy
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from browser import browser, page, show  # noqa: F401
from PIL import Image
from torch.nn import functional as F

from ssl_zoo.cli import compose
from ssl_zoo.cli.compose import ConfigError
from ssl_zoo.cli.reopen import reopen
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.objectives._base import Batch, Sum
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR, nt_xent
from ssl_zoo.pages import feature_views, run_charts
from ssl_zoo.pages.image_predictions import pairs, reconstruct, turns
from ssl_zoo.pages.run_report import evaluation_rows
from ssl_zoo.pages.samples import Sample, beginning, data_uri
from ssl_zoo.pages.text_predictions import continuation, filled, scored
from ssl_zoo.pretrain.logs import read_metrics
from ssl_zoo.transfer.features import FeatureSet
from ssl_zoo.transfer.report import Result

PHONE = {"width": 360, "height": 740}


def command(verb, *words):
    """What the command does, in this process."""
    before = list(sys.argv), list(sys.path)
    try:
        compose.run_verb(verb, list(words))
    finally:
        sys.argv, sys.path[:] = before


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
