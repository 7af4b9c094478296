"""Data sets, batching and augmentation."""
