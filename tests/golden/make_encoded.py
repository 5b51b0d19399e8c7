#!/usr/bin/env python3
"""Makes encoded.json: the ids that Python's `tokenizers` gives for hard strings, by the built-in models' tokenizer.

    pip install tokenizers
    python tests/golden/make_encoded.py

Made with tokenizers 0.23.3, whose regular expressions are those of Oniguruma.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    " \n \t\r\n  x",
    "a  b   c    d",
    "trailing spaces   ",
    "\u00a0no\u00a0break\u00a0",
    "\u2003wide\u3000spaces\u2009",
    "zero\u200bwidth\u200djoiners\ufeff",
    "line\u2028and\u2029paragraph\x85next",
    "It's I'll we've they'd I'm you're don't 'tis 's",
    "IT'S I'LL DON'T",
    "it’s don’t",
    "1 12 123 1234 12345 3.14 1,000,000",
    "½ ² Ⅻ ٣ ४ 𝟛",
    "x=1;y+=2//3**4 __init__ a_b->c::d",
    "…—–“”‘’«»",
    "naïve café cafe\u0301 Straße ẞ ſ İstanbul ıI",
    "ǅ ﬁ K Å ᾳ \u0345",
    "Привет, мир! Γειά σου Κόσμε",
    "你好，世界。こんにちは世界 안녕하세요",
    "مرحبا بالعالم שָׁלוֹם עולם",
    "नमस्ते दुनिया สวัสดีชาวโลก",
    "👍 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "\U00010348 \U0001F9FF \U000E0001 \U0010FFFF",
    "\ufffd \x00 \x07 \x7f",
    "<|endoftext|>",
    "Once upon a time.<|endoftext|>The end",
    " <|endoftext|> <|endoftext|><|endoftext|>",
    "<|endoftext <|ENDOFTEXT|> |>",
    "<|padding|>",
    "tabs\tand\x0bvertical\x0cfeeds",
    "a\r\nb\rc\n\rd",
    "ALL CAPS CamelCase mixedCASE",
    "supercalifragilisticexpialidocious" * 3,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                        x",
    "http://example.org/a?b=c&d=%20#e user@example.org",
    "\\n \\u0041 &amp; <b>bold</b>",
    "e\u0301\u0302\u0303\u0304 o\u0338",
]

tokenizer = Tokenizer.from_file(str(HERE.parent.parent / "models/tiny-gpt2/tokenizer.json"))
encoded = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS]
(HERE / "encoded.json").write_text("[\n" + ",\n".join(json.dumps(line) for line in encoded) + "\n]\n")
