"""CBOW: one vector per word, learned by predicting a word from the words around it.

The chapter, README_cbow_tutorial.md, has the table of the files in reading order: data, components,
model, two ways to train it, evaluation, use, pictures, experiments.
"""
