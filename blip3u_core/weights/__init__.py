"""Weights and their files: reading, checking, writing, and putting them into networks."""
