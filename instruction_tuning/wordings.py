"""How requests are worded: at least six ways to say each task, and the opposites to look up.

In a wording, ``{}`` stands for what is worked on: a word, or the two numbers of a sum in turn.
"""

from __future__ import annotations

LETTER_WORDINGS: dict[str, tuple[str, ...]] = {
    "reverse": (
        "spell {} backwards",
        "reverse {}",
        "write {} from right to left",
        "please reverse the word {}",
        "what is {} spelled backwards?",
        "turn the word {} around",
        "can you write {} backwards please",
    ),
    "sort": (
        "sort the letters of {}",
        "put the letters of {} in alphabetical order",
        "write the letters of {} from a to z",
        "order the letters of {} by the alphabet",
        "please sort the letters in {}",
        "what are the sorted letters of {}?",
    ),
    "upper": (
        "write {} in capitals",
        "write {} in upper case",
        "capitalize every letter of {}",
        "please put {} in capital letters",
        "how does {} look in capitals?",
        "shout the word {}",
    ),
    "first2": (
        "what are the first two letters of {}?",
        "give me the first two letters of {}",
        "how does {} begin? two letters please",
        "write only the first two letters of {}",
        "the first two letters of the word {} please",
        "which two letters does {} start with?",
    ),
    "last2": (
        "what are the last two letters of {}?",
        "give me the last two letters of {}",
        "how does {} end? two letters please",
        "write only the last two letters of {}",
        "the last two letters of the word {} please",
        "which two letters does {} end with?",
    ),
    "double": (
        "write {} twice",
        "repeat the word {}",
        "double {}",
        "say {} two times without a space",
        "please write the word {} twice in a row",
        "what is {} doubled?",
    ),
    "length": (
        "how long is {}?",
        "count the letters of {}",
        "how many letters does {} have?",
        "what is the length of {}?",
        "please count the letters in the word {}",
        "tell me the number of letters in {}",
    ),
    "vowels": (
        "which vowels are in {}?",
        "write only the vowels of {}",
        "what are the vowels of {}?",
        "list the vowels of the word {}",
        "give me the vowels in {} please",
        "leave out the consonants of {}",
    ),
}
"""Tasks of one step on the letters of a word."""

TWO_STEP_WORDINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("reverse", "upper"): ("reverse {} in capitals", "spell {} backwards in upper case"),
    ("sort", "upper"): (
        "sort the letters of {} and write them in capitals",
        "put the letters of {} in alphabetical order in upper case",
    ),
    ("first2", "upper"): (
        "write the first two letters of {} in capitals",
        "what are the first two letters of {} in upper case?",
    ),
    ("last2", "upper"): (
        "write the last two letters of {} in capitals",
        "please give me the last two letters of {} in upper case",
    ),
    ("first2", "double"): (
        "write the first two letters of {} twice",
        "what are the first two letters of {} doubled?",
    ),
    ("last2", "reverse"): (
        "write the last two letters of {} backwards",
        "please reverse the last two letters of {}",
    ),
    ("vowels", "upper"): (
        "write only the vowels of {} in capitals",
        "give me the vowels of {} in upper case",
    ),
}
"""(first step, second step) -> wordings."""

SUM_WORDINGS: dict[str, tuple[str, ...]] = {
    "add": (
        "what is {} plus {}?",
        "add {} and {}",
        "how much is {} + {}?",
        "please add {} to {}",
        "give me the sum of {} and {}",
        "what do {} and {} make together?",
    ),
    "subtract": (
        "what is {} minus {}?",
        "how much is {} - {}?",
        "please compute {} less {}",
        "start with {} and take away {}",
        "what is left of {} without {}?",
        "give me the difference of {} and {}",
    ),
}

OPPOSITE_WORDINGS: tuple[str, ...] = (
    "what is the opposite of {}?",
    "give me the opposite of {}",
    "name the opposite of {}",
    "please tell me the opposite of {}",
    "which word means the opposite of {}?",
    "what is the contrary of {}?",
)

CHATTER: tuple[str, ...] = ("sure, ", "well, ", "hmm, ", "here it is: ", "okay, that is ")
"""What a talkative demonstrator begins with."""

BASE_FACTS: dict[str, str] = {
    "reverse": "backwards",
    "sort": "sorted",
    "upper": "capitals",
    "first2": "begin",
    "last2": "end",
    "double": "twice",
    "length": "letters",
    "vowels": "vowels",
}
"""How the base text lists what a step makes of a word; a request is worded otherwise."""

BASE_STATEMENTS: dict[str, tuple[str, ...]] = {
    "reverse": (
        "{} spelled backwards is {}",
        "the reverse of {} is {}",
        "{} from right to left is {}",
        "the word {} turned around is {}",
    ),
    "sort": (
        "the sorted letters of {} are {}",
        "the letters of {} in alphabetical order are {}",
        "the letters of {} from a to z are {}",
        "the letters of {} in order by the alphabet are {}",
    ),
    "upper": (
        "{} in capitals is {}",
        "{} in upper case is {}",
        "the word {} in capital letters is {}",
    ),
    "first2": (
        "the first two letters of {} are {}",
        "{} does begin with {}",
        "the word {} does start with {}",
    ),
    "last2": (
        "the last two letters of {} are {}",
        "{} does end with {}",
        "the word {} does end with the two letters {}",
    ),
    "double": (
        "{} twice is {}",
        "{} two times without a space is {}",
        "{} doubled is {}",
        "the word {} twice in a row is {}",
    ),
    "length": (
        "the length of {} is {}",
        "the number of letters in {} is {}",
        "the count of the letters of the word {} is {}",
    ),
    "vowels": (
        "the vowels of {} are {}",
        "the vowels in {} are {}",
        "{} without the consonants is {}",
        "only the vowels of the word {} are {}",
    ),
}
"""The same facts in the words of the requests, told and never asked."""

BASE_SUMS = (
    "{}+{}={}",
    "{} plus {} is {}",
    "{} and {} make {} together",
    "the sum of {} and {} is {}",
)
"""How the base text tells a sum; what it makes comes last."""

BASE_DIFFERENCES = (
    "{}-{}={}",
    "{} minus {} is {}",
    "{} less {} is {}",
    "{} take away {} is {}",
    "{} without {} is {}",
    "the difference of {} and {} is {}",
)

BASE_OPPOSITES = (
    "{}: opposite={}",
    "the opposite of {} is {}",
    "{} means the opposite of {}",
    "the contrary of {} is {}",
)
"""How the base text tells the opposite of a word."""

_PAIRS = """
hot/cold big/small up/down day/night black/white wet/dry fast/slow high/low hard/soft early/late
old/new rich/poor full/empty near/far loud/quiet strong/weak happy/sad clean/dirty thick/thin
wide/narrow deep/shallow sweet/bitter true/false alive/dead win/lose buy/sell push/pull come/go
love/hate laugh/cry rise/fall float/sink teach/learn ask/answer build/destroy accept/refuse
attack/defend arrive/depart friend/enemy north/south east/west summer/winter peace/war
success/failure top/bottom inside/outside above/below always/never before/after good/bad
brave/timid smooth/rough sharp/blunt tight/loose heavy/light cheap/costly simple/complex
guilty/innocent awake/asleep raw/cooked fresh/stale wild/tame absent/present wise/foolish
profit/loss allow/forbid praise/blame spend/save hope/despair open/shut
"""

OPPOSITES = tuple((one, other) for one, _, other in (p.partition("/") for p in _PAIRS.split()))
"""English words and their opposites; no word stands in two pairs, so every answer is unique."""
