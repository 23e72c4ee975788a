import subprocess
import sys

import torch

from learner.text import TextConfig, TextEncoder

CODE = """
import hashlib
from learner.text import TextConfig, TextEncoder
print(hashlib.sha256(TextEncoder(TextConfig())(["turn the switch on"]).numpy().tobytes()).hexdigest())
"""


def test_equal_text_gives_equal_tokens_in_any_process():
    """Python's own hash differs from process to process."""
    runs = [subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]


def test_one_token_a_word_and_zeros_behind():
    tokens = TextEncoder(TextConfig(max_words=5))(["turn it on", "one two three four five six"])
    assert tokens.shape == (2, 5, 64)
    assert (tokens[0, 3:] == 0).all() and (tokens[0, :3] != 0).any(dim=-1).all()


def test_related_words_are_closer_than_unrelated_ones():
    encoder = TextEncoder(TextConfig(dim=256))
    tokens = encoder(["switch", "switches", "mouse"])[:, 0] - encoder.places[0]
    similar = torch.nn.functional.cosine_similarity(tokens[0], tokens[1:])
    assert similar[0] > 0.4 > similar[1] + 0.2


def test_word_order_case_and_punctuation():
    encoder = TextEncoder(TextConfig())
    a, b, c = encoder(["put red on blue", "put blue on red", "Put RED on blue."])
    assert not torch.equal(a, b) and torch.equal(a, c)


def test_the_table_is_no_part_of_a_checkpoint():
    assert not TextEncoder(TextConfig()).state_dict()
