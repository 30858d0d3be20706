"""Conformance cases of the CLIP tokenizer: texts that are hard to clean or to split, what the reference's cleaning makes
of them, and their ids. Half of the texts are written down here; the others are made from those by a seeded generator.
"""

import html.entities
import json
import random
import unicodedata

MODES = ["lower", "whitespace", "canonicalize"]
CODECS = [
    "latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253",
    "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437",
]
UNREPAIRED_CODECS = ["cp850", "cp866", "koi8-r", "sloppy-windows-1255", "sloppy-windows-1256", "sloppy-windows-1258"]

TEXTS = {
    "plain": [
        "", " ", "a", "a photo of a cat", "A Photo Of A CAT.", "two dogs, one ball; no cats!", "x" * 200, "!" * 200,
        "1" * 100, "hello world how are you", "The quick brown fox jumps over the lazy dog 0123456789",
        "supercalifragilisticexpialidocious antidisestablishmentarianism", "snake_case and kebab-case, CamelCase",
        "C:\\path\\to\\file.txt", "https://example.com/a?b=c&d=e#f", "user@example.com", "a+b=c; x<y>z; {k: [v]}",
        "{}", "{} of {}", "\"quoted\" 'single' `back`", "100% $5.00 #1 ~tilde^caret", "~`!@#$%^&*()_+-={}|[]\\:\";'<>?,./",
        "...", "a.b.c.", "--- em -- en -", "_ __ ___", "a _ b", "tab\tseparated\tvalues", "line one\nline two\r\nthree\rfour",
    ],
    "whitespace": [
        "\t", "\n\n\n", " \t\r\n\x0b\x0c", "\x1c\x1d\x1e\x1f", "a\x1cb\x1dc\x1ed\x1fe", "a\x85b", "\xa0a\xa0b\xa0", "a\u1680b\u2000c\u200ad",
        "a\u2028b\u2029c", "a\u202fb\u205fc\u3000d", "a\u200bb\u2060c\ufeffd", "  leading and trailing  ", "&nbsp;&nbsp;a&nbsp;",
        "&#32;a&#9;b&#10;c&#133;d", "\u180ea\u180e", "\ufeffbom at start",
    ],
    "contractions": [
        "it's", "IT'S", "it'S i'M we'RE they'VE he'LL she'D don'T", "I'll've", "'s't're've'm'll'd", "''s", "'''", "' s", "rock'n'roll",
        "it\u2019s", "it\u02bcs", "it\u2018s \u201bs", "it'\u017f", "it'\u017f we'r\u0450", "'\u017ftop", "'TIS 'twas", "d'Artagnan l'\xe9t\xe9 'Dog", "'ll'LL'Ll'lL",
        "5'3 6'd", "s's's", "o'clock ma'am y'all'd've", "&apos;s it&#39;s it&#x2019;s it&rsquo;s",
    ],
    "numbers": [
        "1234567890", "3.14159", "1,000,000", "-5\u00b0C", "\u00bd \u00bc \u2153 \u2189", "\u00b2 \u00b3 \u00b9 \u2070 \u2099", "\u2160 \u216b \u217f", "\u2460\u2461\u24ff\u2776", "\u0663\u0664\u0665 \u06f1\u06f2",
        "\u0967\u0968\u0969 \u0e51\u0e52\u0e53", "\u4e00\u4e8c\u4e09 \u3007 \u3021", "\uff11\uff12\uff13", "\U0001d7d8\U0001d7e2\U0001d7ec", "a1b2c3", "4K 8k 1080p", "1st 2nd 3rd", "\u0f33\u0bf0\U00010107", "6\u00d79 \u221a2 \u03c0\u22483",
    ],
    "case": [
        "\u00c9COLE \u00dcBER \u00c5NGSTR\u00d6M", "\u0130stanbul \u0131l\u0131k I\u0307", "\u039f\u0394\u039f\u03a3 \u03a3\u0391\u03a3 \u03a3 \u0391\u03a3.", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03a3\u0301", "\u0391\u03a3'\u0391 \u0391\u03a3\u00ad", "\u03a3\u03a3\u03a3 a\u03a3b a\u03a31",
        "\u1e9eTRASSE stra\u00dfe STRASSE", "\u212aelvin \u212bngstr\u00f6m \u2126", "\u01c4\u01c5\u01c6 \u01f1\u01f2\u01f3", "\u10d0\u10d1 \u1c90\u1c91 \u10a0", "\u13a0\u13a1 \uab70", "\u0410\u0411\u0412 \u0401\u0416\u0418\u041a", "\u0531\u0532 \u0587", "\u2c6f\u2c7e \ua7ae \ua7c0 \ua7c1",
        "\U00010400\U00010428 \U0001e900", "\u24b6\u24d0 \u2160\u2170", "\u1f88\u1f80 \u1ffc", "A\u0295\u03a3 A\u03a3\u0295", "A\U0001171e\u03a3 A\u03a3\U0001171eA", "\U00010d50\U00010d70 A\U00010d50\u03a3", "\ua7cb \ua7da \ua7dc \u0264 \u019b",
    ],
    "scripts": [
        "\u4e00\u5f20\u732b\u7684\u7167\u7247", "\u6f22\u5b57\u3068\u4eee\u540d\u4ea4\u3058\u308a\u6587", "\u30ab\u30bf\u30ab\u30ca \u3072\u3089\u304c\u306a \u30fc \u3005", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "\u1112\u1161\u11ab \u1100\u1173\u11af", "\u9fff\U00020000\U0002a6df\U00030000\U000323af", "\u4e2d\u82f1mixed\u6587\u672c123",
        "\u0635\u0648\u0631\u0629 \u0642\u0637\u0629", "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 \u0628\u0650\u0643\u064f\u0645\u0652", "\u0640\u0640\u0640 \ufefb \ufdfa", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u05d1\u05f4\u05d4 \u05f3", "\u0e20\u0e32\u0e1e\u0e16\u0e48\u0e32\u0e22\u0e02\u0e2d\u0e07\u0e41\u0e21\u0e27", "\u0e01\u0e33 \u0e40\u0e1b\u0e47\u0e19",
        "\u090f\u0915 \u092c\u093f\u0932\u094d\u0932\u0940 \u0915\u0940 \u0924\u0938\u094d\u0935\u0940\u0930", "\u0995\u09cd\u09b7 \u09a4\u09be\u09ae\u09bf\u09b2\u09cd \u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41 \u0c95\u0ca8\u0ccd\u0ca8\u0ca1 \u0d2e\u0d32\u0d2f\u0d3e\u0d33\u0d02", "\u1019\u103c\u1014\u103a\u1019\u102c \u1780\u17d2\u1798\u17c2\u179a", "\u1820\u180b\u1820", "\u0421\u044a\u0435\u0448\u044c \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u0431\u0443\u043b\u043e\u043a",
        "\u03be\u03b5\u03c3\u03ba\u03b5\u03c0\u03ac\u03b6\u03c9 \u03c4\u1f74\u03bd \u03c8\u03c5\u03c7\u03bf\u03c6\u03b8\u03cc\u03c1\u03b1", "Ti\u1ebfng Vi\u1ec7t \u0111\u1eb9p l\u1eafm", "\u01c3X\u00f3\u00f5 \u01c0\u01c1", "\u1200\u1208\u1210 \u2d30\u2d31", "\ua000\ua001 \ua4d0", "\U00012000 \U00013000 \U0001f130", "\U00010330\U00010331",
    ],
    "emoji": [
        "\U0001f600\U0001f602", "\u2764\ufe0f \u2764", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f469\u200d\U0001f680 astronaut", "\U0001f44d\U0001f3fb\U0001f44d\U0001f3ff", "\U0001f1eb\U0001f1f7\U0001f1ef\U0001f1f5", "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", "\U0001f3f3\ufe0f\u200d\U0001f308",
        "1\ufe0f\u20e3 #\ufe0f\u20e3", "\u00a9\ufe0f \u2122 \u00ae", "caf\u00e9\u2615\ufe0ftime", "\U0001f9d1\U0001f3fd\u200d\U0001f4bb", "\u263a\ufe0e", "\U0001fae8\U0001fae9", "\u00af\\_(\u30c4)_/\u00af", "(\u256f\u00b0\u25a1\u00b0)\u256f\ufe35 \u253b\u2501\u253b", "( \u0361\u00b0 \u035c\u0296 \u0361\u00b0)", "\u0ca0_\u0ca0", "(\u00d2\u203f\u00d3) \u00d4_\u00d4 \u00f6_\u00f6",
    ],
    "html": [
        "&amp;", "&amp;amp;", "&amp;amp;amp;", "&amp;amp;amp;amp;", "&lt;b&gt;bold&lt;/b&gt;", "<b>&amp;</b>", "<b>&eacute;</b>\n&eacute;", "&eacute;\n<b>", "&EACUTE;&SZLIG;&nTILDE;", "&notit; &notin; &not", "&copy2024 &copy;2024", "&ampersand &lthing",
        "&#65;&#x42;&#X43;", "&#65&#x42 &#67x", "&#0;&#x0;", "&#x80;&#128;&#150;&#x9f;&#129;", "&#xD800;&#xDFFF;&#x110000;", "&#99999999999999999999;", "&#xFFFE;&#xFDD0;&#1;&#127;", "&#13;&#10;x", "&#59; &#x3b;", "&;&#;&#x;&", "&nosuchentity;", "&CounterClockwiseContourIntegral; &fjlig;",
        "&NotEqualTilde; &acE; &bne;", "this&not that", "AT&T R&D Q&A", "&quot;hi&quot; &ldquo;hi&rdquo;", "&hellip;&mdash;&ndash;", "&amp;#39; &amp;#x27; &amp;quot;", "&amp;lt;start_of_text&amp;gt;", "&lt;start_of_text&gt;", "&NewLine;&Tab;&nbsp;&ensp;&emsp;x", "&there4;&THERE4;&AMP;&LT;", "&Jscr;ohn &HilbertSpace;ancock",
        "&frac12; &sup2; &times;", "&zwj;&zwnj;&lrm;&shy;x", "&#9829; &hearts; &#128512;", "&amp&lt&gt&quot", "&#000000000000000000000065; &#0000000000000000000000065;", "a&nbsp;b&NBSP;c", "&Aacute&aacute", "&abcdefghijklmnopqrstuvwxyzabcdefghijklmnop;", "&lt;&lt&LT;&LT", "&amp;" * 20,
    ],
    "special tokens": [
        "<start_of_text>", "<end_of_text>", "a <start_of_text> b <end_of_text>", "<START_OF_TEXT>", "<Start_Of_Text>x", "x<end_of_text>y", "!<start_of_text>", " <start_of_text>", "<\u017ftart_of_text>", "<\u017fTART_OF_TEXT>", "<start_of_text><start_of_text>", "<start_of_text", "<<end_of_text>>", "<|endoftext|>", "<mask>", "<end_of_te\u0345xt>", "\uff1cstart_of_text\uff1e", "</w>", "a</w>b",
    ],
    "combining": [
        "e\u0301", "e\u0301\u0323", "e\u0323\u0301", "a\u0308\u0301\u0328", "\u0301alone", "A\u030angstro\u0308m", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "\u0915\u093c \u0958", "\u2126 \u212b \u0340 \u0341", "\u0344 \u0374 \u037e \u0387", "\ufb1d \ufb2a", "\u0f43 \u0f73", "\U0001d15e", "a\u0345b \u0345 \u1fb3", "Z\u0351\u036f\u035aA\u0334L\u0321G\u0360O\u0321", "e\u0301" * 40,
        "\U00016d67\U00016d67 e\u0301\U00016d67\u0301", "\U000113c2\U000113c2", "\U0001e030\u0301", "\u0897a\u0301\u0323", "\u1acf\u0301 a\u1acf\u0323",
    ],
    "quotes, ligatures and widths": [
        "\u201cdouble\u201d \u2018single\u2019", "\u201ea\u201d \u201aa\u2018 \u201ba \u201fa", "\u02bc \u02bb \u00b4 \u2032 \u2033", "\u00abguillemets\u00bb \u2039x\u203a", "\ufb00 \ufb01 \ufb02 \ufb03 \ufb04 \ufb05 \ufb06", "\u0132 \u0133 \u0149 \u01c7\u01c8\u01c9 \u01ca\u01cb\u01cc", "\ufb13 \u00e6 \u0153 \u0152uvre \u0152.", "\uff26\uff35\uff2c\uff2c\uff37\uff29\uff24\uff34\uff28 \uff54\uff45\uff58\uff54\uff01", "\uff76\uff9e\uff77\uff9e \uff8a\uff9f \uff70", "\uffa1\uffc2 \uffa0", "\uffe0\uffe1\uffe5\uffe6\uffe3\uffe4", "\uff05\uff06amp\uff1b \uff1cb\uff1e", "\u3000\u3001\u3002\u300c\u300d", "\uffe8\uffed\uffee\uff5f\uff60",
    ],
    "control characters": [
        "\0", "a\0b\x01c\x07d\x08e\x0bf\x0cg\x0eh\x1fi\x7fj", "\x1b[31mred\x1b[0m", "\x1b[36;44mI'm blue\x1b[0m", "\x1b[1;\x1b[?25l\x1b[K", "\x1b[\u0663m\x1b[\uff11m", "\x1b]0;title\x07", "\u206a\u206b\u206f", "\ufff9a\ufffab\ufffb \ufffc \ufffd", "\ufeffa\ufeff", "\u200c\u200d\u200e\u200f\u202a\u202e\u2066", "\x80\x81\x85\x8d\x93\x94\x9d\x9f", "caf\xe9\x85 \x93quoted\x94", "\u20ac\x80", "\u0436\x80\x93", "soft\u00adhyphen", "\x1ax \x1a\u00c3\u00a9", "\U000e0001\U000e007f", "\ue000\uf8ff\U000f0000", "\ufdd0\uffff\U0010ffff",
    ],
    "mojibake": [
        "\u00c3\u00a9t\u00c3\u00a9", "sch\u00c3\u00b6n", "sch\u00c3\u0192\u00c2\u00b6n", "voil\u00c3 le travail", "\u00c3 la mode", "\u00c3\u00a0 la", "\u00c3 quele dia \u00c3 s vezes", "\u00c2\u00a0 \u00c2 ", "\u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d \u00e2\u20ac\u2122", "\u00e2\u20ac\u0153 like this \u00e2\u20ac\ufffd", "\u00e2\u0153\u201d No problems", "\u00f0\u0178\u02dc\u20ac", "\u00f0\x9f\x98\x80",
        "\u00ed\u00a0\u00bd\u00ed\u00b8\u008d", "\u00c3\u20ac\u00c0\u0080", "\u0420\u0457\u0421\u0402\u0420\u0451\u0420\u0406\u0420\u00b5\u0421\u201a", "\u00d0\u00bf\u00d1\u20ac\u00d0\u00b8\u00d0\u00b2\u00d0\u00b5\u00d1\u201a", "\u221a\u00a9tude \u201a\u00c4\u00fa", "\u251c\u00ac\u251c\u00c7", "\u03b2\u20ac\u2122 \u0392\u00b5", "\u0101\u20ac\u2122", "\u00e6\u2014\u00a5\u00e6\u0153\u00ac\u00e8\u00aa\u017e", "\u00d8\u00b9\u00d8\u00b1\u00d8\u00a8\u00d9\u0160", "\u00e0\u00a4\u00b9\u00e0\u00a4\u00bf", "\u0413\u045e\u0412\u0402\u0412\u0459 x",
        "It\u00e2\u0080\u0099s and it\u2019s", "ok \u00e9, broken \u00c3\u00a9, \u4e2d\u6587", "Ã\u0192Â©", "\u00c3?", "\u00e2\u20ac?", "\u00c5 \u00c5land \u00c3\u2026", "P\u00c3\u00a9rez &amp;eacute; \u00c3\u00a9", "\u00c0\n", "\u00c3\u00a9\u00c0\n", "line \u00c3\u00a9\nl\u00efne \u00e9\nÃ¼ber", "NOEL \u00c9\u00aa \u00cb\u00ab", "fa\u00c3\u0083\u00c2\u00a7ade", "\u00c2\u00bd \u00c2\u00b0C \u00c2\u00a3", "\u00ef\u00bb\u00bfbom", "\u00e2\u201a\u00ac5 \u00e2\u20ac\u201c \u00e2\u20ac\u00a6",
        "RUF MICH ZUR\u00dcCK \u00dcber \u00c4\u00d6", "\u00bfQu\u00e9? \u00a1Ol\u00e9! \u00abx\u00bb", "co\u00fbte 5 \u20ac \u00a3 \u00a5", "\u00c9\u2122 \u00c9\u2026 \u2030 \u2020", "\u017b\u00f3\u0142\u0107 \u0105 \u015b", "\u0160\u010d \u017d\u00b0", "\u2554\u2550\u2557 \u2592\u2593", "100 \u00b5g \u00b1 5 \u00d7 \u00b2",
    ],
}


def long_texts():
    yield "a photo of a dog " * 600
    yield "x" * 10_000
    yield "\u6f22\u5b57" * 5_000
    yield ("caf\u00c3\u00a9 &amp; na\u00efve \u201cquotes\u201d \U0001f600 " * 400)[:10_000]
    yield "!?" * 5_000


def mojibake(text, codec, layers=1, errors="strict", spaces=False):
    import ftfy  # registers the sloppy codecs

    for _ in range(layers):
        text = text.encode("utf-8").decode(codec, errors)
    return text.replace("\xa0", " ") if spaces else text


def generated(rng):
    """Texts made from those above: damaged, escaped, joined and shuffled."""
    flat = [text for texts in TEXTS.values() for text in texts if len(text) < 60]
    phrases = ["caf\u00e9 na\u00efve \u00fcber", "\u201cWe\u2019re here\u201d \u2014 \u2026", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u65e5\u672c\u8a9e", "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1", "\U0001f600 \u2764\ufe0f \u2714", "\u0639\u0631\u0628\u064a \u05e2\u05d1\u05e8\u05d9\u05ea", "\u00e0 la \u00c0 \u00a0x", "\u0105\u017c\u0161\u0151", "\u20ac5 \u00a3 \u00bd \u00b0C"]
    for codec in CODECS + UNREPAIRED_CODECS:
        for phrase in phrases:
            for layers in (1, 2, 3):
                yield f"mojibake by {codec}", mojibake(phrase, codec, layers, "replace", rng.random() < 0.2)
    for _ in range(120):
        first, second = rng.choice(flat), mojibake(rng.choice(flat), rng.choice(CODECS), rng.randint(1, 2), "ignore")
        yield "mojibake among sound text", rng.choice([first + second, second + first, f"{first}\n{second}", f"{first} {second} {first}"])
    names = sorted(html.entities.html5)
    for _ in range(60):
        name = rng.choice(names)
        yield "html names", " ".join([f"&{name}", f"x&{name}y", f"&{name.upper()}", f"&amp;{name}", f"&{name.rstrip(';')}"])
    for _ in range(120):
        pieces = [rng.choice(flat) for _ in range(rng.randint(2, 6))]
        yield "joined", rng.choice(["", " ", "\n", "'", "&"]).join(pieces)
    for _ in range(60):
        letters = list("".join(rng.choice(flat) for _ in range(3)))
        rng.shuffle(letters)
        yield "shuffled", "".join(letters)
    for _ in range(120):
        ranges = [(0x20, 0x7F), (0x80, 0x250), (0x250, 0x1000), (0x1000, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x1FB00), (0x300, 0x370)]
        yield "random", "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 20)))
    for text in rng.sample(flat, 40):
        yield "decomposed", unicodedata.normalize("NFD", text)


def dump(path, rows):
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} cases, {path.stat().st_size} bytes")


def write(folder):
    from open_clip.tokenizer import SimpleTokenizer, get_clean_fn

    rng = random.Random(20_240_607)
    tokenizers = {mode: SimpleTokenizer(clean=mode) for mode in MODES}
    with_specials = SimpleTokenizer(clean="whitespace", additional_special_tokens=["<mask>", "<Kiss>", "#tag"])
    clean = {mode: get_clean_fn(mode) for mode in MODES}

    texts = [(group, text) for group, members in TEXTS.items() for text in members]
    texts += [("long", text) for text in long_texts()]
    texts += list(generated(rng))
    folder.mkdir(parents=True, exist_ok=True)

    def cleaned_and_encoded():
        for group, text in texts:
            row, lower = {"group": group, "text": text}, None
            for mode in MODES:
                result = {"text": clean[mode](text), "ids": tokenizers[mode].encode(text)}
                # A mode that gives what `lower` gives is left out.
                if result != lower:
                    row[mode] = result
                lower = lower or result
            yield row

    dump(folder / "encode.jsonl", cleaned_and_encoded())

    short = [text for _, text in texts if len(text) < 400]
    specials = ["<mask>", "a <MASK>b", "<kiss>", "<Kiss><\u212ai\u017fs>", "<K\u0130SS>", "#tag #TAG ##tag", "x#tag", "<mask></w>"] + rng.sample(short, 40)
    dump(folder / "special_tokens.jsonl", (
        {"special_tokens": ["<mask>", "<Kiss>", "#tag"], "clean": "whitespace", "text": text, "ids": with_specials.encode(text)}
        for text in specials
    ))

    def batches():
        for context_length in (1, 2, 3, 8, 32, 77, 256):
            for mode in MODES:
                batch = rng.sample(short, 4) + ["", "a photo of a cat", "one, two; three! " * 60]
                ids = tokenizers[mode](batch, context_length=context_length).tolist()
                yield {"context_length": context_length, "clean": mode, "texts": batch, "ids": ids}

    dump(folder / "batches.jsonl", batches())

    def id_lists():
        yield []
        for text in rng.sample(short, 150):
            ids = tokenizers["lower"].encode(text)
            yield ids
            yield rng.sample(ids, len(ids))
        for _ in range(200):
            yield [rng.randrange(rng.choice([512, 512, 49408])) for _ in range(rng.randint(1, 12))]
        yield [49406, 320, 2368, 49407, 0, 0]

    dump(folder / "decode.jsonl", ({"ids": ids, "text": tokenizers["lower"].decode(ids)} for ids in id_lists()))
