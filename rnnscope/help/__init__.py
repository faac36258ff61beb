"""The words for people: the topics of the manual, one Markdown file each.

Nothing is run and torch is never imported. Open topics.py first.
"""
