"""Shared by all tests."""

import os

import torch

# The suite shares two cores with the host it starts.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
