"""Crease: one folder a program, and the few things all programs share."""
