"""Pictures and words in one model: contrastive training, and a language model that sees.

The chapter is docs/multimodal.md; it has the table of the files in reading order.
"""
