"""GPT: a decoder-only language model, from GPT-2's recipe to a modern one.

The chapter, README_gpt_tutorial.md, has the table of the files in reading order: data, components,
model, training, generation, pictures, published weights.
"""
