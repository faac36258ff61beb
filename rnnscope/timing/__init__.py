"""The command `bench`: what each way of computing costs.

Open bench.py first.
"""
