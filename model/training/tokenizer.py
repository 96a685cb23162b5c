"""The domain tokenizer: byte-level BPE, digits apart, number and target tokens in front.

Pieces that merges may not cross: a line break with its indent; a word with the one separator before it and the colon
behind it (so that `requested_memory_bytes: ` can become one token); one digit; a run of other characters.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

_PIECES = r"\n[ \-]*|[ ./_\-]?[A-Za-z_]+(?::[ ])?|[0-9]|[^A-Za-z0-9_\n]+"


def train_tokenizer(texts: Iterable[str], special_tokens: list[str], vocabulary_size: int) -> Tokenizer:
    """Train on texts. Special tokens get the first ids, in their order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def balanced(texts: Iterable[tuple[str, str]], characters_per_source: int) -> Iterator[str]:
    """Distinct texts of (source, text) pairs until each source has given its share of characters."""
    given: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for source, text in texts:
        if given[source] < characters_per_source and hash(text) not in seen:
            seen.add(hash(text))
            given[source] += len(text)
            yield text
