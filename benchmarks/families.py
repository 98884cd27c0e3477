"""Try timm's families of networks: train a network of each, pack it, and let the kernel's predictor predict with it.

    python benchmarks/families.py                       the smallest network of each family under 10 million weights
    python benchmarks/families.py vit_tiny_patch16_224 swin_tiny_patch4_window7_224

A family is a module of timm.models. Each network trains one epoch on 24 drawn leaves of 256 px and is validated on 8;
then its weights are written as a bundle has them, and the predictor must give the stored predictions again. Prints a
line per network, and at the end how many work.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from plant_pathology.competition.sample import draw
from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.core.processes import cpu_count
from plant_pathology.datastore import main as datastore
from plant_pathology.inference.predictor import Predictor
from plant_pathology.runs.predictions import PREDICTIONS, read_predictions
from plant_pathology.runs.run import run_of
from plant_pathology.selection.bundle import save_weights
from plant_pathology.selection.trained_runs import TrainedRun
from plant_pathology.store.pixels import read_pixels
from plant_pathology.training.run import train

SIDE, LARGEST = 256, 10_000_000
