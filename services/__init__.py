"""Crease: one folder a program, and the few things all programs share."""

VERSION = "0.1.0"
