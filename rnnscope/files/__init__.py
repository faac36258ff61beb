"""What is read from files: tensors, the networks in a checkpoint, recorded runs.

Nothing in a file is executed. Open checkpoints.py first.
"""
