"""Figures of speed and memory: one module a program, each with `run() -> Iterator[Figure]`.

Every goal is a ratio or a bound within one run, so that a slow machine is slow for both sides.
No test times anything; these do, and are read by people.
"""
