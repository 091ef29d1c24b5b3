"""Transformer: the encoder-decoder of "Attention Is All You Need", trained to translate.

The chapter, README_transformer_tutorial.md, has the table of the files in reading order: positions,
components, model, data, training, decoding, pictures.
"""
