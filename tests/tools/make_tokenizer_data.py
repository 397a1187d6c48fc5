#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/tokenizer/: small vocabularies and what Hugging Face's tokenizers does with them.

    python3 -m venv venv && venv/bin/pip install tokenizers gguf
    venv/bin/python tests/tools/make_tokenizer_data.py tests/data/tokenizer [--model SmolLM2.gguf]

Per pre-tokenizer: NAME.gguf, a vocabulary trained on the text below and written by the gguf package,
and NAME.txt with one case a line:

    P HEX IDS   these ids for this text (hexadecimal UTF-8), control tokens not looked for
    S HEX IDS   the same, control tokens looked for
    D HEX IDS   this text for these ids, invalid bytes as U+FFFD, control tokens left out

With --model also default-model.txt: P and S cases for the whole vocabulary of that file.
Training is deterministic: the files come out the same for the same versions of the packages
(tokenizers 0.23, gguf 0.19)."""

import argparse
import json
import os
import random

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = """
The quick brown fox jumps over the lazy dog, and the dog doesn't mind: it's asleep. They've seen it
all before, we'll see it again; I'm sure you're right, he'd say. Nothing is as it was in 1984, 2001 or
2024, when 12 of 345 ran 42.195 kilometres in 2:01:09 hours.
A server takes requests, puts them into a queue, and answers them one after the other or all at once.
The memory is planned before anything is allocated; what does not fit is refused with the numbers.
    for (size_t i = 0; i < n; i++) {
        if (list[i] == NULL || !is_valid(list[i]->name))
            return -EINVAL; /* nothing to do */
        total += list[i]->bytes * 2;
    }
\tdef main(argv):\n\t\tprint("hello, world", file=sys.stderr)\n\t\treturn 0\r\n\r\n
{"model": "small", "messages": [{"role": "user", "content": "Hello!"}], "stream": true}
https://www.example.org/path/to/file.html?query=1&other=two#fragment <b>bold</b> &amp; <i>italic</i>
HELLO WORLD! THIS IS SHOUTING. CamelCaseNames and snake_case_names and kebab-case-names.
Die Straße ist naß, die Füße sind kalt; über Äpfel, Öl und Übel spricht man nicht gern.
Le garçon naïf a mangé des œufs près de l'église où il s'était réfugié en été.
El niño pequeño comió piñas y pingüinos; ¿qué más? ¡Nada! Žluťoučký kůň pěl ďábelské ódy.
Съешь же ещё этих мягких французских булок, да выпей чаю. Η γρήγορη αλεπού πηδάει.
نص عربي قصير للتجربة، والسلام عليكم. טקסט קצר בעברית. हिन्दी में एक छोटा वाक्य।
日本語の文章をここに書きます。漢字とひらがなとカタカナ。我想在这里写一些中文。한국어 문장입니다.
ประโยคภาษาไทย Tiếng Việt có dấu ½ ² Ⅳ € £ ¥ © ® ™ … “quotes” ‘single’ — dash – minus
😀 😃 👍🏽 👩‍🚀 🚀🚀🚀 ❤️ 🇩🇪 ✅ 
!!! ??? ... --- === *** ### ((( ))) [[[ ]]] <<< >>> ||| &&& %%% @@@ ~~~ ``` ''' \"\"\"
"""

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\t\n", " \n ", "\n ", " \r",
    "Hello world", " Hello world", "Hello  World", "  Hello   World  ", "Hello\tworld\n", "Hello,world!",
    "don't I'm we've they'll he'd it's you're", "DON'T I'M WE'VE THEY'LL HE'D IT'S YOU'RE",
    "'s 'S 't 'T 'll 'LL 'Ll 'lL 're 'RE 've 'VE 'm 'M 'd 'D", "''s 'x '' ' 'sss 'lls", "can\u2019t won\u2019t",
    "'\u017f x'\u017f '\u212a", "0", "7 8", "12", "123", "1234", "1234567890", "3.14159", "1,000,000.00",
    "a1b22c333d4444", "x 1 22 333", "foo  1  bar", "\u00bd \u00b2\u2163\u216b \u0663\u0664\u0665 \u0967\u0968",
    "2024-02-29T12:34:56.789Z", "for (int i = 0; i < 10; i++) {\n\tprintf(\"%d\\n\", i);\n}\n",
    "def f(x):\n    if x:\n        return x\n\n\n    return None", "a\n\n  b\n   \n c", "a   \n   b", "a \r\n \r\n b",
    "tabs\t\t\tand\t spaces \t mixed", "trailing   ", "   leading", "x\u00a0y\u2003z\u3000w", "\u2028\u2029\u0085\x0b\x0c",
    "a\u180eb \u180e", "\u200b\u200c\u200d\u2060\ufeff", "\x00", "a\x00b", "\x01\x02\x03\x04\x05\x06\x07\x08",
    "\x1b[31mred\x1b[0m\x7f", "\x1c\x1d\x1e\x1f", "caf\u00e9 cafe\u0301 na\u00efve", "e\u0301\u0300\u0302\u0303",
    "\u0301alone", "a\u20dd\u0489", "Stra\u00dfe \u1e9e \ufb03 \u0130\u0131", "\u01c5 \u02b0 \u00aa\u00ba",
    "日本語の文章です。", "我想在apple工作1314151天～", "漢字かな混じり文 テスト", "한국어 문장 입니다", "\u1100\u1161\u11a8",
    "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "ประโยคภาษาไทย", "កាន់តែពិសេស", "Съешь ещё булок", "Η αλεπού",
    "😀", "😀😃👍🏽", "👩‍🚀👨‍👩‍👧‍👦", "🇩🇪🇫🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️‍🔥 ✅ ☃️", "a😀b 😀 c", "\U0001f9ff\U0001fae8", "\U00020000\U0002a6d6 𠮷野家",
    "\U000e0001\U00040000\U0010fffd", "\ue000\uf8ff", "\ufffd\ufffe\uffff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛",
    "!!!!!!", "...", "?!?!?! -- == ===", "(([[{{<<>>}}]]))", "a_b-c.d/e\\f", "$100 €50 £20 100%",
    "http://example.org/?a=b&c=d#e", "user@example.org", "#hashtag @mention", "`code` ```block```",
    "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>\n", "a<|im_end|>b", "<|im_end|><|im_end|>", "<|im_end", "<<|im_end|>>",
    "<|im_|im_end|>", "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<think>\nwell\n</think>\n\n", " <think> ",
    "<tool_call>{}</tool_call>", "<tool_call", "[PAD1]", "<|endoftext|>\n<|endoftext|>",
    "ab" * 60, "a" * 300, " " * 200, " " * 200 + "x", "\n" * 100, "=" * 100, "9" * 100, "'" * 50, "é" * 60, "漢" * 60, "😀" * 40,
    "The server answers requests; the memory was planned before anything else. It doesn't guess.",
    "HelloWorldThisIsCamelCase and snake_case_and_more", "internationalization antidisestablishmentarianism",
]


def cl100k(number):
    return Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + number +
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def pre_tokenizer(pre):
    """As in the makers' tokenizer.json."""
    p = pre_tokenizers
    if pre == "gpt-2":
        return p.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        return p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False, use_regex=True)])
    number = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}[pre]
    return p.Sequence([p.Split(cl100k(number), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])


def finish(vocab, merges, types, pre):
    """A tokenizer from what a GGUF file holds."""
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(vocab)}, merges, ignore_merges=pre == "llama-bpe"))
    t.pre_tokenizer = pre_tokenizer(pre)
    t.decoder = decoders.ByteLevel()
    T = gguf.TokenType
    t.add_special_tokens([AddedToken(s, special=True, normalized=False)
                          for s, y in zip(vocab, types) if y in (T.CONTROL, T.UNKNOWN)])
    t.add_tokens([AddedToken(s, special=False, normalized=False)
                  for s, y in zip(vocab, types) if y == T.USER_DEFINED])
    return t


def train(pre, size, control, user_defined, specials_first, without, drop_merges):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(pre)
    t.train_from_iterator([CORPUS] * 2, trainer)
    model = json.loads(t.to_str())["model"]
    normal = [s for s, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1]) if s not in without]
    merges = [tuple(m) for m in model["merges"]]
    assert not any(set(a + b) & set(without) for a, b in merges)
    # Tokens that no merge leads to: only taking whole words from the vocabulary finds them.
    merges = merges[:len(merges) - drop_merges]
    T = gguf.TokenType
    special = [(s, T.CONTROL) for s in control] + [(s, T.USER_DEFINED) for s in user_defined]
    rows = [(s, T.NORMAL) for s in normal]
    rows = special + rows if specials_first else rows + special
    return [s for s, _ in rows], [y for _, y in rows], merges


def write_gguf(path, pre, vocab, types, merges, ids):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(vocab)
    w.add_token_types(types)
    w.add_token_merges([" ".join(m) for m in merges])
    for key, name in ids.items():
        w.add_uint32("tokenizer.ggml.%s_token_id" % key, vocab.index(name))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def line(kind, text, ids):
    return "%s %s %s" % (kind, text.encode().hex() or "-", " ".join(map(str, ids)))


def encode_cases(t):
    out = []
    for text in TEXTS:
        for kind, plain in (("P", True), ("S", False)):
            t.encode_special_tokens = plain
            out.append(line(kind, text, t.encode(text, add_special_tokens=False).ids).rstrip())
    return out


def decode_cases(t, n_vocab, n):
    rnd = random.Random(1)
    out = []
    for _ in range(n):
        ids = [rnd.randrange(n_vocab) for _ in range(rnd.randint(1, 12))]
        out.append(line("D", t.decode(ids, skip_special_tokens=True), ids))
    return out


VOCABULARIES = {
    "gpt-2": dict(size=640, control=["<|endoftext|>"], user_defined=[], specials_first=False, without="", drop_merges=0,
                  ids={"bos": "<|endoftext|>", "eos": "<|endoftext|>"}),
    # Like the original, this one lacks some bytes.
    "smollm": dict(size=640, control=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], user_defined=[], specials_first=True,
                   without="\u0104\u0106\u00f1", drop_merges=0,
                   ids={"bos": "<|im_start|>", "eos": "<|im_end|>", "unknown": "<|endoftext|>", "padding": "<|im_end|>"}),
    "llama-bpe": dict(size=700, control=["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                                         "<|eot_id|>", "<|im_"], user_defined=[], specials_first=False, without="",
                      drop_merges=60, ids={"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "eot": "<|eot_id|>"}),
    "qwen2": dict(size=640, control=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                  user_defined=["<tool_call>", "</tool_call>", "<think>", "</think>", "[PAD1]"], specials_first=False,
                  without="", drop_merges=0, ids={"bos": "<|endoftext|>", "eos": "<|im_end|>", "padding": "<|endoftext|>"}),
}


def write_lines(path, first, lines):
    with open(path, "w", newline="\n") as f:
        f.write("# %s; made by tests/tools/make_tokenizer_data.py\n" % first)
        f.write("\n".join(lines) + "\n")


def small_vocabularies(folder):
    for pre, v in VOCABULARIES.items():
        ids = v.pop("ids")
        vocab, types, merges = train(pre, **v)
        write_gguf(os.path.join(folder, pre + ".gguf"), pre, vocab, types, merges, ids)
        t = finish(vocab, merges, types, pre)
        write_lines(os.path.join(folder, pre + ".txt"), pre + ".gguf, by Hugging Face tokenizers",
                    encode_cases(t) + decode_cases(t, len(vocab), 60))


def whole_vocabulary(folder, path):
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    vocab, types, pre = get("tokens"), get("token_type"), get("pre")
    t = finish(vocab, [tuple(m.split(" ")) for m in get("merges")], types, pre)
    write_lines(os.path.join(folder, "default-model.txt"),
                "%s with %d tokens, by Hugging Face tokenizers" % (os.path.basename(path), len(vocab)),
                encode_cases(t) + decode_cases(t, len(vocab), 60))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("folder")
    ap.add_argument("--model")
    args = ap.parse_args()
    small_vocabularies(args.folder)
    if args.model:
        whole_vocabulary(args.folder, args.model)


if __name__ == "__main__":
    main()
