"""The command `trace`: what happens at which step, and which slice of y is which row of h.

Open trace.py first.
"""
