"""GPT: a decoder-only language model, from GPT-2's recipe to a modern one.

Read the files in this order: ``text_data``, ``gpt_components``, ``gpt_model``, ``train_gpt``,
``kv_cache``, ``generation``; the chapter is README_gpt_tutorial.md.
"""
