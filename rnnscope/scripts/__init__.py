"""The command `code`: a script of bare torch that computes a network twice and checks itself.

Open script.py first.
"""
