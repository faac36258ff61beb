"""The words for people: the topics of the manual, one Markdown file each, and the pages of `rnnscope explain`.

Nothing is run and torch is never imported. Open topics.py first.
"""
