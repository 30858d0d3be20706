"""Captions as pycocoevalcap tokenizes and scores them."""

import contextlib
import io
import random
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

# What captions have in them, and what makes a tokenizer stumble.
SENTENCES = """A man riding a wave on top of a surfboard.
Don't you think it's John's dog? I'll go, they're here, we've been, she'd say I'm fine.
I cannot go; gonna wanna gotta lemme gimme dunno 'tis 'twas
"Quoted text" and 'single quoted' text (with parens) [brackets] {braces}
The colour grey centre theatre neighbour's favourite jewellery catalogue
Mr. Smith and Mrs. Jones Dr. Who vs. St. John etc. U.S. troops U.S.A. a.m. p.m. e.g. this i.e. that
It costs $5.99, 50% off; 1,000 people at 10:30 on 10/12/2010, 1/2 cup 3-4 people, #1 and @home
black-and-white photo of a well-known t-shirt, x-ray - dash -- double — em – en
and/or he/she AT&T R&B rock & roll &amp; a*b foo_bar http://www.example.com/a?b=c me@mail.com
Wait... what?! No way!!! Hello…world ... ....
A 3D tv, 2nd floor, 1980s '80s 6ft 100mm 4x4 7-eleven
café naïve 日本語 emoji 😀 ☃ © ® € £5 ¥ ½ × •
o'clock O'Brien ma'am ol' lovin' dogs' students' Jones'
two men's shirts and women's the
a man,a woman;another:here
end with abbreviation U.S.
end with Inc.
single letter a. b. c.
J. K. Rowling and J.R.R. Tolkien
<b>html</b> tag <3
a cat / a dog \\ backslash ~ tilde ^ caret | pipe = equals + plus < less > more ` tick
“curly” ‘single’ don’t it’s
no. 5 No. 7 Fig. 3 no. art. fig. sat. sun.
hyphen- ation -start end- a-b-c-d-e 20-year-old mother-in-law's
can't won't shan't ain't isn't aren't would've should've who's what's that'll there'd
CANNOT DON'T IT'S
Jan. Feb. Sept. Mon. Ave. Blvd. Co. Corp. Ltd. Jr. next Ill. Mass. mass. and
hello.world foo.bar.baz file.jpg www.foo.com
1.5 .5 -5 +5 1e5 1,5 1.000.000 12:30pm 12:30 p.m.
tv. cat. dog. the. it.
  leading spaces and	a tab"""


def project_captions() -> list[str]:
    return (Path(__file__).with_name("captions.txt")).read_text().splitlines()


def tokenized(texts: list[str]) -> list[str]:
    """One caption each, as the scorers get them."""
    found = PTBTokenizer().tokenize({number: [{"caption": text}] for number, text in enumerate(texts)})
    return [found[number][0] for number in range(len(texts))]


def scores(name: str, captions: list[str], references: list[list[str]]) -> dict:
    tokenizer = PTBTokenizer()
    found = tokenizer.tokenize({n: [{"caption": text}] for n, text in enumerate(captions)})
    known = tokenizer.tokenize({n: [{"caption": text} for text in texts] for n, texts in enumerate(references)})
    with contextlib.redirect_stdout(io.StringIO()):
        bleu = Bleu(4).compute_score(known, found)[0]
        rouge = float(Rouge().compute_score(known, found)[0])
        cider = float(Cider().compute_score(known, found)[0])
    figures = {f"Bleu_{n}": value for n, value in enumerate(bleu, 1)} | {"ROUGE_L": rouge, "CIDEr": cider}
    return {"name": name, "captions": captions, "references": references, "figures": figures}


def changed(text: str, randomness: random.Random) -> str:
    """A text with words left out, doubled and swapped."""
    words = text.split()
    for _ in range(randomness.randint(0, 4)):
        place = randomness.randrange(len(words))
        kind = randomness.choice(["drop", "double", "swap"])
        if kind == "drop" and len(words) > 1:
            del words[place]
        elif kind == "double":
            words.insert(place, words[place])
        else:
            other = randomness.randrange(len(words))
            words[place], words[other] = words[other], words[place]
    return " ".join(words)


def caption_cases() -> dict:
    randomness = random.Random(0)
    plain = project_captions()[:60]
    several = [[changed(text, randomness) for _ in range(randomness.randint(1, 5))] for text in plain]
    tokens = SENTENCES.splitlines() + project_captions()
    return {
        "tokens": [[text, found] for text, found in zip(tokens, tokenized(tokens), strict=True)],
        "scores": [
            scores("changed", [changed(text, randomness) for text in plain], several),
            scores("equal", plain[:10], [[text] for text in plain[:10]]),
            scores("nothing in common", ["one two three four"] * 3, [["five six"], ["seven", "eight"], ["nine ten"]]),
            scores("one image", ["a cat on a mat"], [["a cat sits on a mat", "the cat"]]),
            scores("shorter than four words", ["a cat", "dog", "the"], [["a cat"], ["a dog"], ["it"]]),
            scores("equal captions", ["a cat"] * 4, [["a cat", "a cat"]] * 4),
            scores("punctuation only", ["...", "a dog!"], [["a cat."], ["a dog"]]),
        ],
    }
