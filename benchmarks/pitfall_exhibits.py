"""The museum's exhibits: real bugs of the field, each one line in code of this repository.

An exhibit says where it is shown (`pitfall_stages`), the line (`pitfall_patch`), what one sees
without knowing the cause, why it is so, the sign in the log (`pitfall_curves`), and the test that
fails as soon as the line is changed; `python -m benchmarks.pitfalls --prove` shows that it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.pitfall_patch import Patch


@dataclass(frozen=True)
class Exhibit:
    """One bug."""

    title: str
    stage: str  # the training that shows it
    sign: str  # what its log looks like beside the correct one
    patch: Patch
    symptom: str  # what one sees, without the cause
    why: str
    test: str  # that catches it: file and function


EXHIBITS = {
    "future_leak": Exhibit(
        "The causal mask is missing",
        "gpt",
        "too good",
        Patch(
            "gpt.gpt_model:GPT._run",
            "positions, mask = slice(0, length), self.causal[:length, :length]",
            "positions, mask = slice(0, length), None",
        ),
        "Both losses fall below what any model of language can reach. What it writes is nonsense.",
        "Each position sees the token it has to predict, and copies it. When the model writes, "
        "there is nothing to copy yet.",
        "tests/test_gpt_model.py::test_structure",
    ),
    "softmax_axis": Exhibit(
        "Softmax over the wrong axis",
        "gpt",
        "too good",
        Patch(
            "gpt.gpt_components:attend_written_out",
            "weights = scores.softmax(dim=-1)  # (B, H, T, S)",
            "weights = scores.softmax(dim=-2)  # (B, H, T, S)",
        ),
        "Both losses are better than they were yesterday, by an amount one likes to believe. What "
        "the model writes is worse than yesterday.",
        "The weights of a key sum to 1 over the queries, not those of a query over the keys. The "
        "sum holds later queries, so the future leaks into it; and a single query, as in writing, "
        "gives every key the weight 1.",
        "tests/test_gpt_components.py::test_attention_on_two_tokens_by_hand",
    ),
    "labels_not_shifted": Exhibit(
        "Labels are not shifted",
        "gpt",
        "apart",
        Patch(
            "gpt.text_data:WindowSampler.next_batch",
            "return windows[:, :-1], windows[:, 1:]",
            "return windows[:, :-1], windows[:, :-1]",
        ),
        "The training loss is almost zero after a few steps. The validation loss climbs above that "
        "of a uniform guess.",
        "The target of a position is the token that stands there. Repeating it needs no attention "
        "and no language, and is always wrong about the next token.",
        "tests/test_gpt_data.py::test_windows_visit_every_token_once_an_epoch",
    ),
    "labels_shifted_twice": Exhibit(
        "Labels are shifted twice",
        "gpt",
        "worse",
        Patch(
            "gpt.gpt_model:next_token_loss",
            "return F.cross_entropy(logits.flatten(0, 1), targets.flatten())",
            "return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())",
        ),
        "Both losses fall together and stop early. The model writes every other piece of a text.",
        "The data give targets one token later, and the loss shifts once more, as some libraries "
        "do. The model learns the token after the next, which is harder to guess, and is then "
        "used for the next.",
        "tests/test_gpt_model.py::test_masked_loss_on_three_tokens_by_hand",
    ),
    "no_zero_grad": Exhibit(
        "The gradient is never set to zero",
        "gpt",
        "worse",
        Patch("gpt.train_gpt:train", "optimizer.zero_grad()", ""),
        "The loss falls at first, and then it hardly moves.",
        "Each step follows the sum of all gradients since the beginning, like a momentum that "
        "never forgets: by the time the sum turns around, the weights are far past the valley.",
        "tests/test_train_gpt.py::test_resume_equals_uninterrupted",
    ),
    "stale_optimizer": Exhibit(
        "The optimizer holds another model's weights",
        "gpt",
        "flat",
        Patch(
            "gpt.train_state:TrainState.__init__",
            "self.optimizers = build_optimizers(self.model, config)",
            "self.optimizers = build_optimizers(GPT(config.model), config)",
        ),
        "The loss stays where it began, to the second digit. There is no error, and gradients are "
        "there.",
        "The optimizer was made from a model that was then replaced: copied, loaded again, given a "
        "new head. It updates weights that nobody uses.",
        "tests/test_train_gpt.py::test_it_learns_and_writes_what_it_promises",
    ),
    "plain_list": Exhibit(
        "Layers in a plain list",
        "gpt",
        "worse",
        Patch(
            "gpt.gpt_model:GPT.__init__",
            "self.blocks = nn.ModuleList(self._block() for _ in range(config.n_layers))",
            "self.blocks = [self._block() for _ in range(config.n_layers)]",
        ),
        "It learns, but far less than it should. The checkpoint is smaller than expected.",
        "PyTorch looks for weights in attributes that are modules, not in lists. The layers "
        "compute, but no optimizer, initialization, `eval()` or checkpoint ever reaches them.",
        "tests/test_gpt_model.py::test_structure",
    ),
    "no_residual": Exhibit(
        "A residual connection is missing",
        "gpt",
        "worse",
        Patch(
            "gpt.gpt_components:Block.forward",
            "x = x + self.dropout(mixed)  # (B, T, D)",
            "x = self.dropout(mixed)  # (B, T, D)",
        ),
        "The loss rests on a plateau near that of counting tokens, long after the others have "
        "left it.",
        "What a token is survives only as far as attention passes it on, and attention starts out "
        "as a small average of everything.",
        "tests/test_gpt_model.py::test_structure",
    ),
    "eval_forgotten": Exhibit(
        "Dropout stays on in the evaluation",
        "gpt",
        "validation",
        Patch("gpt.train_gpt:evaluate", "model.eval()", ""),
        "The validation loss is higher than it should be, and another one each time it is "
        "measured. The texts are better than it promises.",
        "Without `eval()` a share of the activations is set to zero while the model is examined. "
        "Training is not touched at all.",
        "tests/test_train_gpt.py::test_evaluation_scores_every_token_once_and_does_not_disturb",
    ),
    "cache_positions": Exhibit(
        "Positions do not move with the cache",
        "gpt",
        "normal",
        Patch(
            "gpt.kv_cache:KVCache.positions",
            "return slice(self.length, self.length + new)",
            "return slice(0, new)",
        ),
        "The log is that of the correct program, to the last digit. The first written token is "
        "right, and each one after it makes less sense.",
        "With a cache the model is given one token at a time. It takes each for the first of the "
        "text.",
        "tests/test_kv_cache.py::test_pieces_give_the_logits_of_the_whole",
    ),
    "mask_inverted": Exhibit(
        "The padding mask is inverted",
        "copy",
        "worse",
        Patch(
            "transformer.transformer_model:Transformer._padding",
            "return as_addend(source_mask[:, None, None, :], "
            "self.source_embedding.weight.dtype)",
            "return as_addend(~source_mask[:, None, None, :], "
            "self.source_embedding.weight.dtype)",
        ),
        "The loss stops near that of a model that knows the letters but not the word it has to "
        "copy.",
        "Here True means \"may attend\"; in torch's key_padding_mask True means \"is padding\". "
        "Swapped, the decoder reads the padding and nothing else.",
        "tests/test_transformer_model.py::test_structure",
    ),
    "no_positions": Exhibit(
        "Positions are never added",
        "copy",
        "worse",
        Patch(
            "transformer.transformer_model:Transformer._embed",
            "x = torch.add(positions, embedding(tokens), alpha=self.embedding_scale)"
            "  # (B, T, D)",
            "x = self.embedding_scale * embedding(tokens)  # (B, T, D)",
        ),
        "The loss falls and stops far too early. The letters are the right ones, in the wrong "
        "order.",
        "Attention sees a set. Without positions \"abc\" and \"cba\" are the same source.",
        "tests/test_transformer_model.py::test_structure",
    ),
    "no_end_token": Exhibit(
        "The end token is never taught",
        "copy",
        "normal",
        Patch(
            "transformer.batching:pad_pairs",
            "labels = torch.tensor([pad_row([*target, eos], longest_target, IGNORE) "
            "for _, target in pairs])",
            "labels = torch.tensor([pad_row(target, longest_target, IGNORE) "
            "for _, target in pairs])",
        ),
        "The log is as good as it should be, or better. Every answer begins right and never stops.",
        "The label behind the last word is ignored like padding, so nothing ever said when to "
        "stop. It happens most often where padding and end share an id.",
        "tests/test_translation_data.py::test_masks_and_labels_of_two_sentences",
    ),
    "no_warmup": Exhibit(
        "Post-norm without warm-up",
        "post_norm",
        "worse",
        Patch("tutorial_kit.training:warmup_cosine", "return progress / warmup", "return 1.0"),
        "The loss falls faster than it should, to a plateau, and stays there for the whole run.",
        "At the start the gradients near the output of a post-norm model are large (Xiong et al. "
        "2020). Steps of full length throw it to a place from which it does not come back.",
        "tests/test_training.py::test_cosine_schedule_by_hand",
    ),
    "leaky_split": Exhibit(
        "Validation is part of training",
        "few_pairs",
        "too good",
        Patch(
            "transformer.sentence_pairs:split_by_source",
            "train = set(keys[2 * n_held_out :])",
            "train = set(keys)",
        ),
        "Training and validation fall together to zero, on very little data. On new data the model "
        "is far from what the log promises.",
        "The held-out examples are in the training set as well, so the validation loss measures "
        "memory. The model takes no harm, it has even read more. What is lost is the knowledge how "
        "good it is.",
        "tests/test_translation_data.py::test_no_source_sentence_on_both_sides",
    ),
    "softmax_twice": Exhibit(
        "Softmax before the cross-entropy",
        "vit",
        "worse",
        Patch(
            "vit.vit_model:ViT.forward",
            "return cast(Tensor, self.head(self.features(images)))",
            "return cast(Tensor, self.head(self.features(images)).softmax(dim=-1))",
        ),
        "Both losses come to rest at the same number, far above zero, yet most answers are right.",
        "`F.cross_entropy` applies a softmax itself. Of numbers between 0 and 1 it makes, for ten "
        "classes, at best ln(e + 9) - 1 = 1.461 nats.",
        "tests/test_vit_model.py::test_intermediates_are_the_steps_of_the_same_pass",
    ),
    "class_zero_ignored": Exhibit(
        "Class 0 is taken for padding",
        "vit",
        "validation",
        Patch(
            "vit.training_batches:ImageBatch.loss",
            'logits, self.labels, reduction="none", label_smoothing=label_smoothing',
            'logits, self.labels, reduction="none", label_smoothing=label_smoothing, '
            "ignore_index=0",
        ),
        "Training goes well. Validation accuracy stops a tenth short of what is possible, and the "
        "validation loss is far above the training loss.",
        "0 is the padding's id in one data set and a class in the next. What is ignored is never "
        "learned: no picture is ever called a zero.",
        "tests/test_vit_trainer.py::"
        "test_the_loss_is_the_cross_entropy_of_the_mixed_and_smoothed_target",
    ),
    "same_minibatch": Exhibit(
        "The same minibatch every time",
        "vit",
        "apart",
        Patch(
            "vit.training_batches:ImageSampler._rows",
            "place, end = self.number * self.batch_size, (self.number + 1) * self.batch_size",
            "place, end = 0, self.batch_size",
        ),
        "The training loss falls to zero at a record pace. Validation gets worse from early on.",
        "`next(iter(loader))` inside the loop begins anew at each step, and so does a sampler "
        "whose place is not moved. The model learns a few examples by heart.",
        "tests/test_vit_trainer.py::test_every_epoch_has_every_picture_once_in_another_order",
    ),
    "not_normalized": Exhibit(
        "Training prepares its pictures differently",
        "vit",
        "validation",
        Patch(
            "vit.training_batches:ImageSampler.next_batch",
            "return ImageBatch(normalize(images, self.data.mean, self.data.std), labels, "
            "others, share)",
            "return ImageBatch(images, labels, others, share)",
        ),
        "Training goes well. Validation is poor from the first evaluation on and stays poor.",
        "The model has learned from pixels between 0 and 1 and is examined with pixels of mean 0 "
        "and deviation 1. The same happens with another tokenizer, template or resolution.",
        "tests/test_vit_trainer.py::test_pictures_are_normalized_by_the_training_split",
    ),
    "mean_over_padding": Exhibit(
        "The mean counts what is masked",
        "sft",
        "apart",
        Patch(
            "instruction_tuning.losses:masked_mean",
            "return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)",
            "return torch.where(mask, values, 0.0).mean()",
        ),
        "From the first step on the training loss is a fraction of the validation loss, and below "
        "that of a uniform guess before anything is learned.",
        "Masked places add zeros to the sum, but are counted in the mean. The more padding a "
        "minibatch has, the better it looks, and the less its tokens count.",
        "tests/test_it_losses.py::"
        "test_the_mean_is_over_the_tokens_of_the_minibatch_and_not_over_its_rows",
    ),
}  # fmt: skip
