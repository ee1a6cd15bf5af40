"""Measure the speed of this machine: the workloads, how they are timed, and what they are compared with."""
