"""BERT: an encoder that reads both sides, pre-trained by filling in masked words, then fine-tuned.

The chapter, README_bert_tutorial.md, has the table of the files in reading order: pieces of words,
components, model, heads, data, pre-training, fine-tuning, use, pictures.
"""
