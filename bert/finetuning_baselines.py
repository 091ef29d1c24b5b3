"""The rival that reads nothing before: TF-IDF weights and logistic regression (scikit-learn).

A text becomes its words' counts, weighted down where a word is common; a linear classifier does the
rest. It trains in a second, has no order of words and no notion that "array" and "matrix" are near.
With a few hundred labels it is hard to beat, which is why it stands in every table.
"""

from __future__ import annotations

from bert.finetuning_tasks import TextTask

STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse strengths of the regularization; cross-validation on the training examples chooses."""

FOLDS = 3


def tfidf_baseline(task: TextTask) -> float:
    """Returns the test accuracy, 0 to 1, of TF-IDF with logistic regression.

    Words and pairs of words, sublinear counts; the regularization is chosen by cross-validation
    within the training examples, so nothing of the test is seen.

    Args:
        task: with the training examples to learn from: ``task.few(200, seed)``.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    texts, labels = zip(*task.train, strict=True)
    test_texts, test_labels = zip(*task.test, strict=True)

    def pipeline(strength: float) -> object:
        return make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
            LogisticRegression(C=strength, max_iter=1000),
        )

    chosen = STRENGTHS[1]
    if min(labels.count(label) for label in set(labels)) >= FOLDS and len(texts) <= 2000:
        scores = {
            s: cross_val_score(pipeline(s), texts, labels, cv=FOLDS).mean() for s in STRENGTHS
        }
        chosen = max(STRENGTHS, key=lambda s: scores[s])
    fitted = pipeline(chosen).fit(texts, labels)  # type: ignore[attr-defined]
    return float(fitted.score(test_texts, test_labels))
