"""Finds the pose in one video, measures it, finds faults and writes the report."""
