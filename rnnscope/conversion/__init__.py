"""The commands `weights` and `convert`: which networks a file holds, and the same network under other names.

Open convert.py first.
"""
