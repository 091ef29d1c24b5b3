"""ViT: images as sequences of patches, trained from scratch on a laptop, beside a CNN.

The chapter, README_vit_tutorial.md, has the table of the files in reading order: images, patches,
positions, components, model, the rival, training, use, pictures, published weights.
"""
