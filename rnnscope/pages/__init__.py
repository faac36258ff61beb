"""What a page is made of, and how a page or a document is written: text, Markdown, JSON, TSV, SVG, HTML.

What a page says is not known here. Open page.py first.
"""
