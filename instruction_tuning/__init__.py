"""From a base model to an assistant: SFT, LoRA, reward model, best-of-n, DPO, PPO and GRPO.

The model that is tuned is ``gpt``'s. The chapter, README_instruction_tuning.md, has the table of
the files in reading order: data, losses, components, trainers, measures, pictures.
"""
