"""Prove the structure of BERT: parameters, both sides, padding, heads, equality with torch's own.

``python bert/verify_structure.py`` prints a PASS or FAIL line for each claim of the chapter;
``--trace`` prints the shape ledger, every tensor of one forward pass.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bert.bert_components import (
    BertEmbeddings,
    EncoderLayer,
    as_addend,
    attend_fused,
    attend_written_out,
)
from bert.bert_config import BertConfig, parameter_count
from bert.bert_heads import BertForPreTraining, MaskedTokenHead
from bert.bert_model import BertModel
from bert.masked_loss import IGNORE
from bert.pretrained import load_pretrained, save_pretrained
from bert.torch_reference import torch_hidden
from bert.wordpiece import WordPiece
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

LENGTH = 12
SMALL = BertConfig(
    vocab_size=50, max_len=16, d_model=32, n_heads=4, n_layers=3, d_ff=64, dropout=0.0
)
MEANINGS = {
    "tokens": "(B, T) token ids, [CLS] first text [SEP] second text [SEP]",
    "embedding": "(B, T, D) what each token is, where it stands, in which text; normalized",
    "attention": "(B, H, T, T) row t: how token t spreads its attention over all tokens",
    "layer": "(B, T, D) residual stream after the layer",
    "hidden": "(B, T, D) a vector for each token",
    "pooled": "(B, D) a vector for the sequence, made from [CLS]'s",
    "masked_rows": "(N, D) the vectors of the N hidden tokens alone",
    "masked_logits": "(N, V) a score for every token that may have been there",
    "next_logits": "(B, 2) the second text follows, or does not",
}

ORIGINS = {
    "tokens": Origin(BertModel.forward),
    "embedding": Origin(BertEmbeddings, "1", "self.norm(self.token(tokens)"),
    "attention": Origin(attend_written_out, "2", "scores.softmax"),
    "layer": Origin(EncoderLayer, "2", "return self.around_feed_forward"),
    "hidden": Origin(BertModel, "2", "self.final_norm(x))"),
    "pooled": Origin(BertModel.pool, "6", "torch.tanh("),
    "masked_rows": Origin(BertForPreTraining.forward, "3", "rows = "),
    "masked_logits": Origin(MaskedTokenHead, "3", "return self.decoder("),
    "next_logits": Origin(BertForPreTraining.forward, "6", "self.next_head(pooled)"),
}


def small_model(norm: str = "post", dtype: torch.dtype = torch.float64) -> BertForPreTraining:
    """Returns a small random model whose weights are all far from zero, without dropout."""
    torch.manual_seed(0)
    config = replace(SMALL, norm=norm)  # type: ignore[arg-type]
    model = BertForPreTraining(BertModel(config)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model


def small_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns tokens, mask with padding, segments and labels, (3, LENGTH) each."""
    torch.manual_seed(1)
    tokens = torch.randint(SMALL.vocab_size, (3, LENGTH))
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [8], [5]])
    segments = (torch.arange(LENGTH) > 4).long() * mask
    labels = torch.full_like(tokens, IGNORE)
    rows, columns = torch.tensor([0, 0, 1, 2]), torch.tensor([2, 9, 4, 1])
    labels[rows, columns] = tokens[rows, columns]
    return tokens, mask, segments, labels


def check_parameter_count() -> float:
    """The model has as many parameters as the closed formula says, with either norm."""
    worst = 0
    for norm in ("post", "pre"):
        model = small_model(norm)
        for part, heads in ((model.bert, False), (model, True)):
            count = sum(p.numel() for p in part.parameters())
            worst = max(worst, abs(count - parameter_count(model.bert.config, heads)))
    return float(worst)


def check_tied_weights() -> float:
    """The masked-token head's matrix is the token embedding itself, not a copy."""
    model = small_model()
    return float(model.masked_head.decoder.weight is not model.bert.embeddings.token.weight)


def compare_with_torch(norm: str) -> float:
    """Returns the largest difference from ``torch_hidden``, padding left out."""
    bert, (tokens, mask, segments, _) = small_model(norm).bert, small_batch()
    difference = bert.hidden(tokens, mask, segments) - torch_hidden(bert, tokens, mask, segments)
    return largest(difference[mask])


def check_post_norm_equals_torch() -> float:
    """Post-norm: the vectors are nn.TransformerEncoder's with the same weights."""
    return compare_with_torch("post")


def check_pre_norm_equals_torch() -> float:
    """Pre-norm: the vectors are nn.TransformerEncoder's with the same weights."""
    return compare_with_torch("pre")


def check_attention_modes() -> float:
    """The written-out attention and the fused one agree, and the weights of each row sum to 1."""
    q, k, v = torch.randn(3, 3, 4, LENGTH, 8, dtype=torch.float64)
    mask = as_addend(small_batch()[1][:, None, None], q.dtype)  # (B, 1, 1, T)
    mixed, weights = attend_written_out(q, k, v, mask)
    return max(largest(mixed - attend_fused(q, k, v, mask)), largest(weights.sum(-1) - 1))


def check_both_sides() -> float:
    """A changed token changes the vector of every token, before it and after it."""
    bert, (tokens, _, _, _) = small_model().bert, small_batch()
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % SMALL.vocab_size
    difference = (bert.hidden(tokens) - bert.hidden(changed)).abs().amax(-1)  # (B, T)
    return float((difference < 1e-9).sum())


def check_padding() -> float:
    """Four more padding tokens change no vector, whatever stands there."""
    bert, (tokens, mask, segments, _) = small_model().bert, small_batch()
    longer = torch.cat([tokens, torch.randint(SMALL.vocab_size, (3, 4))], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    longer_segments = torch.cat([segments, torch.ones(3, 4, dtype=torch.long)], dim=1)
    more = bert.hidden(longer, longer_mask, longer_segments)[:, :LENGTH]
    return largest((more - bert.hidden(tokens, mask, segments))[mask])


def check_nothing_to_see() -> float:
    """A sequence that is all padding makes no NaN."""
    hidden, pooled = small_model().bert(small_batch()[0], torch.zeros(3, LENGTH, dtype=torch.bool))
    return float((~hidden.isfinite()).sum() + (~pooled.isfinite()).sum())


def check_masked_only() -> float:
    """Scoring hidden tokens alone gives the loss and all gradients of scoring every token."""
    worst = 0.0
    for norm in ("post", "pre"):
        model, (tokens, mask, segments, labels) = small_model(norm), small_batch()
        follows = torch.tensor([0, 1, 0])
        loss = model(tokens, mask, segments, labels, follows).loss
        hidden, pooled = model.bert(tokens, mask, segments)
        logits = model.masked_head(hidden)  # (B, T, V)
        whole = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        whole = whole + F.cross_entropy(model.next_head(pooled), follows)
        parameters = list(model.parameters())
        pairs = zip(
            torch.autograd.grad(loss, parameters),
            torch.autograd.grad(whole, parameters),
            strict=True,
        )
        worst = max(worst, largest(loss - whole), *(largest(a - b) for a, b in pairs))
    return worst


def check_gradient_of_padding() -> float:
    """No gradient reaches the embedding of a token that is padding."""
    model, (tokens, mask, segments, labels) = small_model(), small_batch()
    made: list[Tensor] = []
    model.bert.embeddings.register_forward_hook(lambda *call: made.append(call[2]))
    loss = model(tokens, mask, segments, labels).loss
    (gradient,) = torch.autograd.grad(loss, made)
    return math.inf if largest(gradient[mask]) == 0 else largest(gradient[~mask])


def check_folder() -> float:
    """A Hugging Face folder written by us and read again holds the same model."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(0x61, 0x61 + 26))]
    words += [f"##{letter}" for letter in words[5:]]
    model, (tokens, mask, segments, _) = small_model(), small_batch()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(folder, model, WordPiece(words[: SMALL.vocab_size]))
        again, _ = load_pretrained(folder)
    state = model.state_dict()
    same = max(largest(tensor - state[name]) for name, tensor in again.state_dict().items())
    vectors = model.bert.hidden(tokens, mask, segments) - again.bert.hidden(tokens, mask, segments)
    return max(same, largest(vectors))


CHECKS: list[Check] = [
    (check_parameter_count, 0.0),
    (check_tied_weights, 0.0),
    (check_post_norm_equals_torch, 1e-12),
    (check_pre_norm_equals_torch, 1e-12),
    (check_attention_modes, 1e-12),
    (check_both_sides, 0.0),
    (check_padding, 1e-12),
    (check_nothing_to_see, 0.0),
    (check_masked_only, 1e-12),
    (check_gradient_of_padding, 0.0),
    (check_folder, 0.0),
]


@torch.no_grad()
def trace(norm: str) -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model."""
    model, (tokens, mask, segments, labels) = small_model(norm, torch.float32), small_batch()
    named = {"tokens": tokens} | model.bert.intermediates(tokens, mask, segments)
    rows = named["hidden"][labels != IGNORE]  # (N, D)
    named |= {"masked_rows": rows, "masked_logits": model.masked_head(rows)}
    named["next_logits"] = model.next_head(named["pooled"])
    return shape_ledger(named, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its vectors' shape in words."""
    return f"vectors {tuple(small_model().bert(small_batch()[0])[0].shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = verify_parser("Prove the structure of BERT, claim by claim.")
    parser.add_argument("--norm", choices=["post", "pre"], default="post", help="for --trace")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace(args.norm))
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
