"""What the rules keep of a docstring, dialect by dialect, and that no text can break them."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorial_kit.docstring_cleaning import MIN_WORDS, clean_docstring, is_prose, plain_text

NUMPYDOC = """
    Return the weighted mean of the values along an axis.

    The weights are normalized first, as is usual in statistics [1]_.

    .. versionadded:: 1.7.0

    Parameters
    ----------
    a : array_like
        The values that the mean is taken of.
    axis : {int, None}, optional
        axis along which the mean is taken. Default: ``None``.
    out : ndarray

    Returns
    -------
    mean : ndarray, see dtype parameter above
        A new array that holds the means::

            mean[i] = sum(a[i]) / n

    See Also
    --------
    median : The middle of the values, which is not what you ask for here.

    Notes
    -----
    The formula is

    .. math:: \\frac{1}{n} \\sum_i a_i

    where the sum runs over all values.

    .. note:: Missing values are
        not looked at by this function.

    =====  ====================================
    value  the meaning of the value in the table
    =====  ====================================
    a      the first of the letters is the a.
    =====  ====================================

    References
    ----------
    .. [1] A. Author, "A book about the mean and its many friends.", 1999.

    Examples
    --------
    >>> a = np.array([1, 2])
    >>> a.mean()
    1.5

    Each of the rows may have a mean of its own.
    """


def test_numpydoc_sections():
    assert clean_docstring(NUMPYDOC) == [
        "Return the weighted mean of the values along an axis.",
        "The weights are normalized first, as is usual in statistics [1].",
        "The values that the mean is taken of.",
        "Axis along which the mean is taken. Default: None.",
        "Missing values are not looked at by this function.",
        "Each of the rows may have a mean of its own.",
    ]


def test_google_style():
    text = """Applies a layer to the input.

    Args:
        input (Tensor): the values that the layer is applied to,
            which may be on any device.
        dim (int or tuple of ints, optional): the dimension to use. Default: 0.
        out: None

    Example::

        >>> layer(x)
        this output of the layer is not in the text.

    References:
        A paper about the layer, written by the author of the layer.
    """
    assert clean_docstring(text) == [
        "Applies a layer to the input.",
        "The values that the layer is applied to, which may be on any device.",
        "The dimension to use. Default: 0.",
    ]


def test_plain_text_with_lists_and_terms():
    text = """Open a file and return a stream.

    The mode can be one of these:

    - the first of the modes is for reading
      and is the default.
    - The second of the modes is for writing.

    r
        Open the file for reading only.

    Error          Base class for the errors of this module.
    OtherError     Indicates that the other thing is broken.
    """
    assert clean_docstring(text) == [
        "Open a file and return a stream.",
        "The mode can be one of these:",
        "The second of the modes is for writing.",
        "Open the file for reading only.",
    ]


def test_a_sentence_that_announces_left_out_code_goes_with_it():
    text = (
        "This is how it is done. The call is as follows::\n\n    f(x)\n\nIt returns the value of x."
    )
    assert clean_docstring(text) == ["This is how it is done.", "It returns the value of x."]


def test_fenced_code_and_doctests_are_left_out():
    text = (
        "The first of the lines.\n\nThe first line that is kept.\n\n```python\n"
        "This is a comment in the code, not text.\n```\n\n>>> print('This is the output.')\n"
        "This is the output of the code.\n\nThe last line that is kept."
    )
    assert clean_docstring(text) == [
        "The first of the lines.",
        "The first line that is kept.",
        "The last line that is kept.",
    ]


@pytest.mark.parametrize(
    ("marked_up", "plain"),
    [
        ("``a``, `b` and *c* or **d**", "a, b and c or d"),
        (":func:`f`, :class:`~m.C`, :py:meth:`title <m.C.f>`, :obj:`!x`", "f, C, title, x"),
        ("`the docs <https://a.org>`__ and [these](https://b.org)", "the docs and these"),
        (":math:`n` values, $O(n)$ steps", "n values, O(n) steps"),
        ("`~.Artist.set` of `.Line2D`", "set of Line2D"),
        ("as in [1]_ and [Foo99]_", "as in [1] and [Foo99]"),
        ("it\u2019s \u201cquoted\u201d\u2026", 'it\'s "quoted"...'),
        ("*args, **kwargs and 2*3*4", "*args, **kwargs and 2*3*4"),
        ("f(*args) and g(*args)", "f(*args) and g(*args)"),
        ("the\n   white\tspace ", "the white space"),
    ],
)
def test_inline_markup(marked_up, plain):
    assert plain_text(marked_up) == plain


@pytest.mark.parametrize(
    "sentence",
    [
        r"The value :math:`\alpha_i` is the first of all.",
        "See https://example.org for more of the same.",
        "The {name} of the thing is filled in later.",
        "The %(cmap)s of the thing is filled in later.",
        "X = f(y); z = g(x, axis=0) # of the code",
        "A lone \ud800 surrogate is in the text.",
    ],
)
def test_unreadable_sentences_are_left_out_alone(sentence):
    assert clean_docstring("This is the first one. " + sentence) == ["This is the first one."]


@pytest.mark.parametrize(
    "text",
    ["Too short.", "where the first letter is small.", "No mark at the end of the line", "x" * 40],
)
def test_what_is_not_prose(text):
    assert not is_prose(text)


@given(
    st.lists(
        st.sampled_from(
            inspect.cleandoc(NUMPYDOC).splitlines() + ["", "::", "  ", "Args:", ">>> x"]
        )
        | st.text(max_size=60),
        max_size=30,
    )
)
def test_any_text_gives_clean_paragraphs(lines):
    for paragraph in clean_docstring("\n".join(lines)):
        assert is_prose(paragraph)
        assert len(paragraph.split()) >= MIN_WORDS
        assert paragraph == " ".join(paragraph.split())
        assert "`" not in paragraph and "\\" not in paragraph
        paragraph.encode("utf-8")
