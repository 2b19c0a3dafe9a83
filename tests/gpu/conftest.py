"""Tests that need a CUDA GPU: `make gpu` runs them, and fails where there is none; elsewhere they are not collected."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
