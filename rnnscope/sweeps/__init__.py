"""The command `sweep`: many configurations, their rows, what they say together, and the smallest that differs.

Open sweep.py first.
"""
