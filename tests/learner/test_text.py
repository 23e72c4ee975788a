import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from embodichain.errors import ConfigError
from learner.backbone.config import TextConfig
from learner.backbone.text import HashedWords, TextEncoder

CODE = """
import hashlib
from learner.backbone.text import TextConfig, TextEncoder
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
    tokens = encoder(["switch", "switches", "mouse"])[:, 0] - HashedWords(encoder.config).places[0]
    similar = torch.nn.functional.cosine_similarity(tokens[0], tokens[1:])
    assert similar[0] > 0.4 > similar[1] + 0.2


def test_word_order_case_and_punctuation():
    encoder = TextEncoder(TextConfig())
    a, b, c = encoder(["put red on blue", "put blue on red", "Put RED on blue."])
    assert not torch.equal(a, b) and torch.equal(a, c)


def test_the_table_is_no_part_of_a_checkpoint():
    assert not TextEncoder(TextConfig()).state_dict()


WORDS = ["<pad>", "</s>", "<unk>", "turn", "the", "switch", "on", "off"]


@pytest.fixture(scope="module")
def umt5(tmp_path_factory):
    """A folder with a tiny UMT5 of random weights and its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("umt5")
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, pad_token_id=0)
    UMT5EncoderModel(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return folder


def test_umt5_features_are_those_of_transformers_with_zeros_behind(umt5):
    encoder = TextEncoder(TextConfig(source=str(umt5), max_words=8))
    tokens = encoder(["turn the switch on", "off"])
    assert tokens.shape == (2, 8, 16) and encoder.dim == 16 and tokens.dtype == torch.float32
    model = UMT5EncoderModel.from_pretrained(umt5).eval()
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([[3, 4, 5, 6, 1]])).last_hidden_state[0]
    torch.testing.assert_close(tokens[0, :5], hidden)
    assert (tokens[0, 5:] == 0).all() and (tokens[1, 2:] == 0).all() and (tokens[1, :2] != 0).any()


def test_umt5_is_no_part_of_a_checkpoint_and_never_trained(umt5):
    encoder = TextEncoder(TextConfig(source=str(umt5)))
    assert not encoder.state_dict() and not list(encoder.parameters())
    before = encoder(["turn the switch on"])
    encoder.train()
    encoder._cache.clear()
    assert torch.equal(encoder(["turn the switch on"]), before), "dropout stays off"


def test_long_instructions_are_cut_to_the_tokens_there_are(umt5):
    assert TextEncoder(TextConfig(source=str(umt5), max_words=3))(["turn the switch on on on on"]).shape == (1, 3, 16)


def test_text_weights_that_do_not_fit_are_listed(umt5, tmp_path):
    with pytest.raises(ConfigError, match=r"text weights .* cannot be loaded"):
        TextEncoder(TextConfig(source=str(tmp_path / "nowhere")))
    model = UMT5EncoderModel.from_pretrained(umt5)
    model.config.num_layers = 3
    model.save_pretrained(tmp_path / "short")
    with pytest.raises(ConfigError, match=r"do not fit a UMT5EncoderModel: missing encoder\.block\.2"):
        TextEncoder(TextConfig(source=str(tmp_path / "short")))
    UMT5EncoderModel.from_pretrained(umt5).save_pretrained(tmp_path / "speechless")
    with pytest.raises(ConfigError, match="the tokenizer of"):
        TextEncoder(TextConfig(source=str(tmp_path / "speechless")))
