"""What is asked: the network and its input, every flag of every command, and the question put to two sides.

Nothing is computed here. Open spec.py first.
"""
