"""Small experiments on what modern language models are made of, each with one finding.

The chapter is docs/advanced_topics.md; it has the table of the files in reading order.
"""
