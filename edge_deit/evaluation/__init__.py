"""Artefacts beside their float model: accuracy, latency, layers."""
