"""The command `shapes`: which tensor has which shape, and why.

Open result.py first.
"""
