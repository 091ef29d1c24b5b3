"""Knowledge distillation: a student learns from the teacher's probabilities, not from words alone.

Hinton, Vinyals & Dean 2015, section 2. The text says which token came next; the teacher also says
which others could have come, and how likely each was. With student logits z, teacher logits v and
temperature T:

    loss = (1 - w) cross_entropy(z, token) + w T^2 KL(softmax(v / T) || softmax(z / T))

Gradients of the second part shrink as 1 / T^2; the factor T^2 keeps the balance w when T changes
(the paper's section 2). The paper writes the second part as a cross-entropy: it differs from the KL
divergence by the teacher's entropy, which no student can change, so the gradients are the same.
"""

from __future__ import annotations

from torch import Tensor

from gpt.gpt_model import next_token_loss


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns T^2 KL(teacher || student), the mean over all positions, in nats.

    Args:
        student: (..., V), logits z.
        teacher: (..., V), logits v; no gradient flows into them.
        temperature: T; above 1 it lifts the unlikely tokens, in which teachers differ from words.
    """
    wanted = (teacher.detach() / temperature).log_softmax(dim=-1)  # (..., V)
    given = (student / temperature).log_softmax(dim=-1)  # (..., V)
    divergence = (wanted.exp() * (wanted - given)).sum(dim=-1)  # (...)
    return temperature**2 * divergence.mean()


def distillation_loss(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, soft_weight: float
) -> Tensor:
    """Returns the loss of the module's docstring.

    Args:
        student: (B, T, V), logits.
        teacher: (B, T, V), logits for the same tokens.
        targets: (B, T), the tokens that came next.
        temperature: of the soft part.
        soft_weight: w, 0 to 1.
    """
    hard = next_token_loss(student, targets)
    soft = soft_target_loss(student, teacher, temperature)
    return (1 - soft_weight) * hard + soft_weight * soft
